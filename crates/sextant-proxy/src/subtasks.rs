//! `POST task`, from the request to the server's answer: only with the image of its caller, only while the caller's task is the one that its
//! token was made for, and in an encrypted collaboration only with its inputs encrypted.
//!
//! Before anything is encrypted the server must know whose token it is: only then is anything of the caller's kept. Then the task is
//! read, the keys of its organizations are fetched, and it goes on.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use vantage6::encryption::{Cryptor, PublicKey};

use super::access::Record;
use super::body::{Answering, Leased, Outgoing, Paced};
use super::exchange::{Asked, broken_off};
use super::forward::{AT_ONCE, Answered, Proxy};
use super::refusal::Refusal;
use super::route::Route;
use super::subtask;
use super::tasks::{self, Task};
use super::whose::Standing;

impl Proxy {
    /// A task of its caller's image.
    pub async fn create_task(&self, asked: &Asked<'_>, body: Incoming, record: &mut Record) -> Answered {
        subtask::is_readable(asked.headers)?;
        let image = subtask::image_of_the_caller(asked.headers)?;
        match &self.shared.cryptor {
            Cryptor::Encrypted(_) => self.encrypt_task(asked, body, &image, record).await,
            Cryptor::Plain => {
                if let Some(no) = self.not_of_its_task(asked.headers, record).await? {
                    return Ok(no);
                }
                self.pass_task(asked, body, image, record).await
            }
        }
    }

    /// A task whose inputs are encrypted for whom they are.
    async fn encrypt_task(&self, asked: &Asked<'_>, body: Incoming, image: &str, record: &mut Record) -> Answered {
        if let Some(no) = self.not_accepted(asked.headers, record).await? {
            return Ok(no);
        }
        if let Some(no) = self.not_of_its_task(asked.headers, record).await? {
            return Ok(no);
        }
        let patience = &self.shared.patience;
        let body = Paced::new(body, patience.silence).telling(record.body_ended());
        let task = Task::read(body, patience.task, &self.shared.room, record.caller, image).await?;
        let keys = self.keys_of(&task.recipients, asked.headers, record).await?;
        let task = task.encrypted(&keys, &self.shared.turns, record.caller)?;
        let answer = self.exchange(asked, task, record).await?;
        Ok(answer.map(Answering::Passed))
    }

    /// What the server says to a token that it doesn't accept. It is asked for the caller's own organization, which costs it little
    /// and any algorithm may see, and whose key is likely to be needed.
    async fn not_accepted(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<Answering>>, Refusal> {
        if self.shared.accepted.knows(headers) {
            return Ok(None);
        }
        let organization = record.caller.organization;
        let which = organization.map_or("?per_page=1".into(), |id| format!("/{id}"));
        let answer = self.about_organizations(&which, headers, record).await?;
        if !answer.status().is_success() {
            return Ok(Some(answer.map(Answering::Passed)));
        }
        let body = read(answer).await?;
        if let Some(id) = organization
            && let Ok(key) = tasks::key_of(id, &body)
        {
            self.shared.recipients.learned(id, key);
        }
        Ok(None)
    }

    /// What keeps the caller from making subtasks of the task whose number its token has.
    async fn not_of_its_task(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<Answering>>, Refusal> {
        match self.standing(headers, record).await? {
            Standing::OfItsTask => Ok(None),
            Standing::Instead(answer) => Ok(Some((*answer).map(Answering::Passed))),
            Standing::Outlived => {
                let message = "The token was made for another task: the server now has one under its number that is newer than the \
                               token or has another image, or does not say. The task was not sent.";
                Err(Refusal::new(StatusCode::FORBIDDEN, message))
            }
        }
    }

    /// The public keys of organizations, in their order: the server's, as the caller may see them.
    async fn keys_of(
        &self,
        organizations: &[u64],
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Vec<PublicKey>, Refusal> {
        let mut keys = Vec::with_capacity(organizations.len());
        for &organization in organizations {
            if let Some(key) = self.shared.recipients.known(organization) {
                keys.push(key);
                continue;
            }
            let answer = self.about_organizations(&format!("/{organization}"), headers, record).await?;
            let status = answer.status();
            let body = read(answer).await?;
            if !status.is_success() {
                let message =
                    format!("The server does not give the public key of organization {organization} ({status}).");
                let status = if status.is_client_error() { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
                return Err(Refusal::new(status, message));
            }
            let key = tasks::key_of(organization, &body)?;
            self.shared.recipients.learned(organization, key.clone());
            keys.push(key);
        }
        Ok(keys)
    }

    /// What the server says of organizations, to the caller.
    async fn about_organizations(
        &self,
        which: &str,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Response<Leased>, Refusal> {
        let path = format!("{}/organization{which}", self.shared.place.api_path);
        let asked = Asked { method: &Method::GET, headers, path, route: Route::Lookup };
        self.exchange(&asked, Outgoing::Empty, record).await
    }
}

async fn read(answer: Response<Leased>) -> Result<Bytes, Refusal> {
    let body = Limited::new(answer.into_body(), AT_ONCE as usize).collect().await;
    Ok(body.map_err(|error| broken_off(io::Error::other(error)))?.to_bytes())
}
