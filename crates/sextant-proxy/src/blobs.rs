//! `GET blobstream/{id}`: returns a blob from the server's blob store, decoded as vantage6's own proxy does. Also checks which blobs a
//! subtask may name as its inputs.
//!
//! In an encrypted collaboration, the proxy decrypts a blob only if it is the result of a subtask of the caller's own task, like a result
//! outside the blob store ([`ownership`](super::ownership)). The server does not tell the owner of a blob. The proxy therefore searches
//! the results of the newest subtasks of the caller's task, as the server lists them. All other blobs pass unchanged. Findings are cached
//! for a while, because blob ids are never reused.
//!
//! The node that runs a subtask decrypts the subtask's input. An algorithm that named any blob as the input of its own subtask could
//! therefore read data that is not meant for it. So the proxy refuses blobs that are already the input or result of a run. It asks the
//! server for the blob: the server returns only blobs that a run has. Only the algorithm that uploaded a new blob knows its id.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt as _, Limited};
use serde::Deserialize;
use vantage6::BlobId;
use vantage6::encoding::{self, DecodeError};
use vantage6::encryption::{Cryptor, decrypt_raw};
use vantage6::json::{Find, Part, Scan};

use super::access_log::Record;
use super::body::{PooledBody, RequestBody, ResponseBody};
use super::caller;
use super::forward::{BUFFER_LIMIT, HandleResult, Proxy};
use super::lookup::{Lookup, parsed};
use super::outline::Keep;
use super::ownership::{Owner, Task, TokenStatus};
use super::refusal::Refusal;
use super::retry::{UpstreamRequest, interrupted};
use super::token_cache;

/// Subtasks per page, and the most pages that are requested. Beyond that, the oldest subtasks are not searched.
const TASKS_PER_PAGE: usize = 10;
const TASK_PAGES: usize = 20;
/// Results per page, and the most pages that are requested for one subtask.
const RESULTS_PER_PAGE: usize = 100;
const RESULT_PAGES: usize = 10;
/// Image names are shorter, and so are all other strings that are read from a task.
const KEEP: Keep = Keep { outermost: 1024, deeper: 1024 };
/// The most bytes of a page of tasks, without its longer strings.
const LONGEST: usize = 64 * 1024;
/// How long a finding is cached: that a blob belongs to the caller, and that it does not. The latter is short, because the run may
/// report its result at any moment.
const OWN: Duration = Duration::from_secs(600);
const OTHER: Duration = Duration::from_secs(2);

/// A page of tasks.
#[derive(Deserialize)]
struct Tasks {
    data: Vec<Task>,
}

/// The owner of a blob.
enum BlobOwner {
    Caller,
    Other,
    /// The server can't tell at the moment; the algorithm gets this answer.
    Relay(Box<Response<PooledBody>>),
}

impl Proxy {
    /// Returns a blob, decoded if the caller may read it.
    pub async fn get_blob(&self, blob: &BlobId, asked: &UpstreamRequest<'_>, record: &mut Record) -> HandleResult {
        let answer = self.send_with_retry(asked, RequestBody::Empty, record).await?;
        if answer.status() != StatusCode::OK || !is_octets(&answer) {
            return Ok(answer.map(ResponseBody::Streamed));
        }
        let client = record.client();
        match &self.shared.cryptor {
            Cryptor::Plain => decoded(answer, encoding::decode).await,
            Cryptor::Encrypted(key) => match self.owner_of_blob(blob, asked.headers, record).await? {
                BlobOwner::Caller => {
                    let turn = self.shared.rsa_queue.acquire(client);
                    decoded(answer, |message| decrypt_raw(message, key.clone(), turn)).await
                }
                BlobOwner::Other => Ok(answer.map(ResponseBody::Streamed)),
                BlobOwner::Relay(said) => Ok((*said).map(ResponseBody::Streamed)),
            },
        }
    }

    async fn owner_of_blob(
        &self,
        blob: &BlobId,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<BlobOwner, Refusal> {
        match self.token_status(headers, record).await? {
            TokenStatus::Current => {}
            TokenStatus::Relay(answer) if answer.status().is_server_error() => return Ok(BlobOwner::Relay(answer)),
            TokenStatus::Stale | TokenStatus::Finished | TokenStatus::Foreign | TokenStatus::Relay(_) => {
                return Ok(BlobOwner::Other);
            }
        }
        let (token, Some(task)) = (token_cache::token_hash(headers), record.caller.task) else {
            return Ok(BlobOwner::Other);
        };
        let image = caller::image(headers);
        let question = (token, blob.clone());
        for page in 1..=TASK_PAGES {
            match self.shared.blob_owners.get(&question) {
                Some(true) => return Ok(BlobOwner::Caller),
                Some(false) => return Ok(BlobOwner::Other),
                None => {}
            }
            let which = format!("/task?parent_id={task}&sort=-id&per_page={TASKS_PER_PAGE}&page={page}");
            let tasks = match self.lookup_up_to(&which, KEEP, LONGEST, headers, record).await? {
                Lookup::Found(text, _) => parsed::<Tasks>(&text).map(|tasks| tasks.data).unwrap_or_default(),
                Lookup::NotFound(_) | Lookup::TooLong => vec![],
                Lookup::Unavailable(answer) => return Ok(BlobOwner::Relay(Box::new(answer))),
            };
            for subtask in &tasks {
                if let Owner::Caller(id) = subtask.owner(subtask.id, record.caller, image.as_deref())
                    && let Some(said) = self.results_are_the_callers(id, token, headers, record).await?
                {
                    return Ok(BlobOwner::Relay(Box::new(said)));
                }
                if self.shared.blob_owners.get(&question) == Some(true) {
                    return Ok(BlobOwner::Caller);
                }
            }
            if tasks.len() < TASKS_PER_PAGE {
                break;
            }
        }
        self.shared.blob_owners.insert(question, false, OTHER);
        Ok(BlobOwner::Other)
    }

    /// Caches which blobs are results of a subtask of the caller. If the server can't tell, returns the server's answer.
    async fn results_are_the_callers(
        &self,
        task: u64,
        token: [u8; 32],
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<PooledBody>>, Refusal> {
        for page in 1..=RESULT_PAGES {
            let which = format!("/result?task_id={task}&per_page={RESULTS_PER_PAGE}&page={page}");
            let answer = self.query(&which, headers, record).await?;
            if answer.status().is_server_error() {
                return Ok(Some(answer));
            }
            if answer.status() != StatusCode::OK {
                return Ok(None);
            }
            let found =
                PageOfResults::read(BodyDataStream::new(answer.into_body()), page).await.map_err(interrupted)?;
            for blob in found.blobs {
                self.shared.blob_owners.insert((token, blob), true, OWN);
            }
            if !found.has_more {
                break;
            }
        }
        Ok(None)
    }

    /// Checks that a subtask may have these blobs as its inputs.
    ///
    /// # Errors
    /// If the server has no blob store, if a run already has one of the blobs, or if the server can't be asked.
    pub async fn are_new_blobs(
        &self,
        blobs: &[&BlobId],
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            blob_store_enabled: bool,
        }
        if blobs.is_empty() {
            return Ok(());
        }
        let has_store = match self.lookup("/blobstream/status", headers, record).await? {
            Lookup::Found(text, _) => parsed::<Status>(&text).is_some_and(|status| status.blob_store_enabled),
            Lookup::NotFound(_) | Lookup::TooLong => false,
            Lookup::Unavailable(answer) => return Err(unknown(&answer)),
        };
        if !has_store {
            let message =
                "The task's inputs can't be encrypted: one is the id of a blob, but the server has no blob store.";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
        }
        for blob in blobs {
            let is_new = match self.lookup(&format!("/blobstream/{blob}"), headers, record).await? {
                Lookup::NotFound(answer) => {
                    answer.status() == StatusCode::NOT_FOUND && is_the_servers_own(answer).await
                }
                Lookup::Found(..) | Lookup::TooLong => false,
                Lookup::Unavailable(answer) => return Err(unknown(&answer)),
            };
            if !is_new {
                let message = format!(
                    "The task is not sent: the blob {blob} is the input or result of a run already, and an input has to be one that the \
                     algorithm has just stored for it."
                );
                return Err(Refusal::new(StatusCode::FORBIDDEN, message));
            }
        }
        Ok(())
    }
}

/// Whether a 404 comes from the vantage6 server, recognized by its message; a front end may also answer 404.
async fn is_the_servers_own(answer: Response<PooledBody>) -> bool {
    #[derive(Deserialize)]
    struct Said {
        msg: String,
    }
    let body = Limited::new(answer.into_body(), BUFFER_LIMIT as usize).collect().await;
    body.is_ok_and(|body| {
        serde_json::from_slice::<Said>(&body.to_bytes()).is_ok_and(|said| said.msg.starts_with("No run found"))
    })
}

fn unknown(answer: &Response<PooledBody>) -> Refusal {
    let message =
        format!("The server does not say what it has in its blob store ({}). Try again later.", answer.status());
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// The blob ids in a page of results, and whether more pages follow.
struct PageOfResults {
    blobs: Vec<BlobId>,
    has_more: bool,
}

impl PageOfResults {
    /// Reads the page as a stream, because results may have any size.
    async fn read(pieces: impl Stream<Item = io::Result<Bytes>>, page: usize) -> io::Result<Self> {
        let mut pieces = std::pin::pin!(pieces);
        let mut results = Values::new(Find::InListOf { list: "data", key: "result" });
        let mut links = Values::new(Find::AllIn("links"));
        let (mut blobs, mut has_more) = (Vec::new(), false);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            results.feed(&piece, |text| {
                if blobs.len() < 2 * RESULTS_PER_PAGE
                    && let Ok(blob) = text.parse()
                {
                    blobs.push(blob);
                }
            });
            links.feed(&piece, |link| {
                let mut parts = link.split(['?', '&']).filter_map(|part| part.strip_prefix("page="));
                has_more |= parts.any(|number| number.parse::<usize>().is_ok_and(|number| number > page));
            });
        }
        Ok(Self { blobs, has_more })
    }
}

/// Collects short string values of a JSON text.
struct Values {
    scan: Scan,
    value: Vec<u8>,
}

impl Values {
    /// Longer values are ignored.
    const LONGEST: usize = 512;

    fn new(find: Find) -> Self {
        Self { scan: Scan::new(find), value: Vec::new() }
    }

    fn feed(&mut self, piece: &[u8], mut found: impl FnMut(&str)) {
        let Self { scan, value } = self;
        scan.feed(piece, &mut |part| match part {
            Part::Begin => value.clear(),
            Part::Value(more) => {
                let room = (Self::LONGEST + 1).saturating_sub(value.len());
                value.extend_from_slice(&more[..more.len().min(room)]);
            }
            Part::End if value.len() <= Self::LONGEST => {
                if let Ok(text) = std::str::from_utf8(value) {
                    found(text);
                }
            }
            Part::End | Part::Text(_) => {}
        });
    }
}

/// Decodes the body of an answer. If the beginning can't be decoded, the request fails with a message of its own; later errors break off
/// the response.
async fn decoded<D, S>(answer: Response<PooledBody>, decode: D) -> HandleResult
where
    D: FnOnce(stream::BoxStream<'static, Result<Bytes, vantage6::Error>>) -> S,
    S: Stream<Item = Result<Bytes, DecodeError>> + Send + 'static,
{
    let (mut parts, body) = answer.into_parts();
    let broken = |error: io::Error| vantage6::Error::Unreachable {
        request: "GET blobstream".into(),
        cause: error.to_string(),
        delivery: vantage6::Delivery::Unknown,
    };
    let mut bytes = decode(BodyDataStream::new(body).map_err(broken).boxed()).boxed();
    let first = match bytes.next().await {
        Some(Err(DecodeError::Transfer(error))) => return Err(interrupted(io::Error::other(error))),
        Some(Err(error)) => {
            let message = format!("What the server's blob store has under this id can't be decoded: {error}.");
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, message));
        }
        first => first,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let bytes = stream::iter(first).chain(bytes).map_err(io::Error::other);
    Ok(Response::from_parts(parts, ResponseBody::Rewritten(bytes.boxed())))
}

fn is_octets(answer: &Response<PooledBody>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
    kind.starts_with(b"application/octet-stream") && !answer.headers().contains_key(header::CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_of_results_is_looked_through_in_pieces_of_any_size() {
        const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";
        let text = format!(
            r#"{{"data": [{{"result": "{}"}}, {{"result": null}}, {{"result": "{ID}", "input": "{}"}}], "result": "{}",
               "links": {{"next": "/api/result?page=3&per_page=100", "self": "/api/result?page=2"}}}}"#,
            "x".repeat(100_000),
            ID.replace('8', "9"),
            ID.replace('8', "7"),
        );
        for (page, has_more) in [(2, true), (3, false)] {
            for size in [1, 10, 1_000_000] {
                let pieces = text.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece)));
                let found = PageOfResults::read(stream::iter(pieces.collect::<Vec<_>>()), page).await.unwrap();
                assert_eq!(found.blobs.iter().map(BlobId::as_str).collect::<Vec<_>>(), [ID]);
                assert_eq!(found.has_more, has_more);
            }
        }
    }
}
