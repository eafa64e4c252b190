//! `POST blobstream`: receives a subtask's input for the server's blob store and encrypts it while it streams. In an unencrypted
//! collaboration it is encoded as base64 instead.
//!
//! The algorithm tools (4.13 and later) name the recipient by its public key, in a header. The key must belong to an organization of the
//! caller's collaboration, according to what the server tells the caller; otherwise an algorithm could encrypt data for an outsider.

use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use serde::Deserialize;
use vantage6::encoding::encode_pieces;
use vantage6::encryption::{Cryptor, PrivateKey, PublicKey, encrypt_raw};

use super::access_log::Record;
use super::body::{IdleTimeoutBody, RequestBody, ResponseBody};
use super::caller;
use super::forward::{HandleResult, Proxy};
use super::lookup::{Lookup, parsed};
use super::outline::Keep;
use super::refusal::Refusal;
use super::retry::UpstreamRequest;
use super::token_cache;

/// The header that names the recipient: base64 of the PEM of its public key.
const PUBLIC_KEY: HeaderName = HeaderName::from_static("x-public-key");
/// How long a key counts as one of the collaboration; the same time as for subtasks.
const TTL: Duration = Duration::from_secs(60);
/// Organizations per page, and the most pages that are requested.
const PER_PAGE: usize = 20;
const MAX_PAGES: usize = 50;
/// A key of 8192 bits has 2 KB; all other strings that are kept of an organization are shorter.
const KEEP: Keep = Keep { outermost: 1024, deeper: 3072 };
/// The most bytes of a page of organizations, without its longer strings.
const LONGEST: usize = 128 * 1024;

#[derive(Deserialize)]
struct Organizations {
    data: Vec<Organization>,
}

#[derive(Deserialize)]
struct Organization {
    #[serde(default)]
    public_key: Option<String>,
}

impl Proxy {
    /// Forwards a blob to the server, encoded for its recipient.
    pub async fn upload_blob(&self, asked: &UpstreamRequest<'_>, body: Incoming, record: &mut Record) -> HandleResult {
        is_readable(asked.headers)?;
        let named = recipient(asked.headers)?;
        let encrypted = match &self.shared.cryptor {
            Cryptor::Plain => None,
            Cryptor::Encrypted(own) => {
                let key = PublicKey::from_server(named).map_err(|why| {
                    Refusal::new(StatusCode::BAD_REQUEST, format!("The header X-Public-Key can't be used: {why}."))
                })?;
                Some((key, own))
            }
        };
        if let Some(no) = self.may_not_create(asked.headers, record).await? {
            return Ok(no);
        }
        let (timeouts, client) = (&self.shared.timeouts, record.client());
        let pieces = IdleTimeoutBody::new(body, timeouts.idle).at_pace(timeouts.upload);
        let pieces = BodyDataStream::new(pieces.signal_end(record.body_ended()));
        let pieces = match encrypted {
            None => encode_pieces(pieces).boxed(),
            Some((key, own)) => {
                self.is_of_the_collaboration(&key, own, asked.headers, record).await?;
                let encrypted = encrypt_raw(pieces, &key, self.shared.rsa_queue.acquire(client));
                let failed = "The input could not be encrypted.";
                encrypted.map_err(|why| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, failed).because(why))?.boxed()
            }
        };
        let answer = self.send_with_retry(asked, RequestBody::Generated { length: None, pieces }, record).await?;
        Ok(answer.map(ResponseBody::Streamed))
    }

    /// Checks that a key belongs to an organization of the caller's collaboration.
    ///
    /// # Errors
    /// If it does not, or if the server can't be asked.
    async fn is_of_the_collaboration(
        &self,
        key: &PublicKey,
        own: &PrivateKey,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let question = (token_cache::token_hash(headers), key.fingerprint());
        if key == own.public() || self.shared.recipients.get(&question).is_some() {
            return Ok(());
        }
        let Some(collaboration) = caller::collaboration(headers) else {
            let message = "The token names no collaboration, so that nobody can tell whose key X-Public-Key is.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        };
        for page in 1..=MAX_PAGES {
            let which =
                format!("/organization?collaboration_id={collaboration}&sort=id&per_page={PER_PAGE}&page={page}");
            let organizations = match self.lookup_up_to(&which, KEEP, LONGEST, headers, record).await? {
                Lookup::Found(text, _) => parsed::<Organizations>(&text).ok_or_else(|| unknown("can't be read"))?.data,
                Lookup::TooLong => return Err(unknown("is too long")),
                Lookup::NotFound(answer) | Lookup::Unavailable(answer) => {
                    return Err(unknown(&format!("is {}", answer.status())));
                }
            };
            let is_last = organizations.len() < PER_PAGE;
            let keys = organizations.iter().filter_map(|organization| organization.public_key.as_deref());
            if keys.filter_map(|text| PublicKey::from_server(text).ok()).any(|known| known == *key) {
                self.shared.recipients.insert(question, (), TTL);
                return Ok(());
            }
            if is_last {
                break;
            }
        }
        let message =
            "X-Public-Key is not the key of an organization of the algorithm's collaboration. Nothing was stored.";
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }
}

fn unknown(why: &str) -> Refusal {
    let message = format!(
        "Whether X-Public-Key is the key of an organization of the collaboration is not known: the server's answer {why}. Nothing was \
         stored; try again later."
    );
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Returns the recipient that the header names. Like vantage6's own proxy, it requires the header also in unencrypted collaborations.
fn recipient(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut named = headers.get_all(PUBLIC_KEY).iter();
    let bad = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, why);
    let first = named.next().filter(|value| !value.is_empty()).ok_or_else(|| bad("Missing X-Public-Key header"))?;
    if named.next().is_some() {
        return Err(bad("There are several X-Public-Key headers: send one."));
    }
    first.to_str().map_err(|_| bad("The header X-Public-Key can't be used: it is not base64."))
}

/// Refuses a compressed input, because the recipient could not read it once it is encoded.
fn is_readable(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity") {
        return Ok(());
    }
    let message = "A compressed input can't be passed on: send it as it is.";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}
