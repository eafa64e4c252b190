//! Handles `POST task`. A subtask must have its caller's image, and its token must have been issued for the caller's current task. In an
//! encrypted collaboration, the proxy encrypts the inputs.
//!
//! In an encrypted collaboration, the server must accept the token before the proxy stores anything for the caller. Then the proxy reads
//! the task, fetches the keys of its organizations, and forwards it.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use vantage6::encryption::{Cryptor, PublicKey};

use super::access_log::Record;
use super::body::{IdleTimeoutBody, PooledBody, ResponseBody};
use super::encrypted_task::{self, Task};
use super::forward::{BUFFER_LIMIT, HandleResult, Proxy};
use super::ownership::TokenStatus;
use super::refusal::Refusal;
use super::retry::{UpstreamRequest, interrupted};
use super::subtask;

impl Proxy {
    /// Creates a subtask with its caller's image.
    pub async fn create_task(&self, asked: &UpstreamRequest<'_>, body: Incoming, record: &mut Record) -> HandleResult {
        subtask::is_readable(asked.headers)?;
        let image = subtask::image_of_the_caller(asked.headers)?;
        if let Some(no) = self.may_not_create(asked.headers, record).await? {
            return Ok(no);
        }
        match &self.shared.cryptor {
            Cryptor::Encrypted(_) => self.encrypt_task(asked, body, &image, record).await,
            Cryptor::Plain => self.forward_task(asked, body, image, record).await,
        }
    }

    /// Returns `None` if the caller may create subtasks and store their inputs, or the server's answer if it does not accept the token.
    /// Nothing of the caller's is kept or sent before this.
    ///
    /// # Errors
    /// If the token was issued for another organization or another task, if its task is completed, or if an encrypted collaboration
    /// would get unencrypted data.
    pub(super) async fn may_not_create(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<ResponseBody>>, Refusal> {
        if let Cryptor::Encrypted(_) = &self.shared.cryptor
            && let Some(no) = self.not_accepted(headers, record).await?
        {
            return Ok(Some(no));
        }
        if let Some(no) = self.not_of_its_task(headers, record).await? {
            return Ok(Some(no));
        }
        match &self.shared.cryptor {
            Cryptor::Encrypted(_) => Ok(None),
            Cryptor::Plain => self.not_unencrypted(headers, record).await,
        }
    }

    /// Forwards a task with each input encrypted for its organization.
    async fn encrypt_task(
        &self,
        asked: &UpstreamRequest<'_>,
        body: Incoming,
        image: &str,
        record: &mut Record,
    ) -> HandleResult {
        let timeouts = &self.shared.timeouts;
        let body = IdleTimeoutBody::new(body, timeouts.idle).signal_end(record.body_ended());
        let task = Task::read(body, timeouts.upload, &self.shared.quotas, record.client(), image).await?;
        self.are_new_blobs(&task.blobs(), asked.headers, record).await?;
        let keys = self.keys_of(&task.recipients, asked.headers, record).await?;
        let task = task.encrypted(&keys, &self.shared.rsa_queue, record.client())?;
        let answer = self.send_with_retry(asked, task, record).await?;
        Ok(answer.map(ResponseBody::Streamed))
    }

    /// Returns the server's answer if it does not accept the token. Asks for the caller's own organization: this costs the server little,
    /// any algorithm may see it, and its key is likely to be needed.
    async fn not_accepted(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<ResponseBody>>, Refusal> {
        if self.shared.tokens.contains(headers) {
            return Ok(None);
        }
        let organization = record.caller.organization;
        let which = organization.map_or("/organization?per_page=1".into(), |id| format!("/organization/{id}"));
        let answer = self.query(&which, headers, record).await?;
        if !answer.status().is_success() {
            return Ok(Some(answer.map(ResponseBody::Streamed)));
        }
        let body = read(answer).await?;
        if let Some(id) = organization
            && let Ok(key) = encrypted_task::key_of(id, &body)
        {
            self.shared.public_keys.insert(id, key);
        }
        Ok(None)
    }

    /// Returns `None` if the caller may create subtasks of the task that its token names, or the server's answer if it does
    /// not return that task.
    ///
    /// # Errors
    /// If the token was issued for another organization or another task, or if its task is completed.
    async fn not_of_its_task(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<ResponseBody>>, Refusal> {
        match self.token_status(headers, record).await? {
            TokenStatus::Current => Ok(None),
            TokenStatus::Relay(answer) => Ok(Some((*answer).map(ResponseBody::Streamed))),
            TokenStatus::Foreign => {
                let message = "The token was made for another organization's node: its organization, or the key that the server has \
                               for that, is not this node's. Nothing was sent.";
                Err(Refusal::new(StatusCode::FORBIDDEN, message))
            }
            TokenStatus::Finished => {
                let message =
                    "The token's task is completed, so none of its algorithms is running any more. Nothing was sent.";
                Err(Refusal::new(StatusCode::FORBIDDEN, message))
            }
            TokenStatus::Stale => {
                let message = "The token was made for another task: the server now has one under its number that is newer than the \
                               token or has another image, or does not say. Nothing was sent. (If the server's database is \
                               PostgreSQL with another time zone than UTC, this can be wrong for a task that waited long, or after \
                               a restart of the proxy: set the database's time zone to UTC and make the task again.)";
                Err(Refusal::new(StatusCode::FORBIDDEN, message))
            }
        }
    }

    /// Returns the public keys of these organizations, in the same order, as the server shows them to the caller.
    pub(super) async fn keys_of(
        &self,
        organizations: &[u64],
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Vec<PublicKey>, Refusal> {
        let mut keys = Vec::with_capacity(organizations.len());
        for &organization in organizations {
            if let Some(key) = self.shared.public_keys.get(organization) {
                keys.push(key);
                continue;
            }
            let answer = self.query(&format!("/organization/{organization}"), headers, record).await?;
            let status = answer.status();
            let body = read(answer).await?;
            if !status.is_success() {
                let message =
                    format!("The server does not give the public key of organization {organization} ({status}).");
                let status = if status.is_client_error() { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
                return Err(Refusal::new(status, message));
            }
            let key = encrypted_task::key_of(organization, &body)?;
            self.shared.public_keys.insert(organization, key.clone());
            keys.push(key);
        }
        Ok(keys)
    }
}

async fn read(answer: Response<PooledBody>) -> Result<Bytes, Refusal> {
    let body = Limited::new(answer.into_body(), BUFFER_LIMIT as usize).collect().await;
    Ok(body.map_err(|error| interrupted(io::Error::other(error)))?.to_bytes())
}
