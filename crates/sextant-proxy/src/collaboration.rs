//! Whether a caller's collaboration is encrypted, where this proxy's configuration says that nothing is.
//!
//! The node compares its configuration with the server's word before it runs anything. A proxy of its own has another file, which may be
//! older, and no access to the server but its callers' tokens. So it asks with those, before a task or a blob leaves unencrypted, and
//! sends nothing unless the server says that the collaboration is not encrypted. The token names the collaboration; an answer proves the
//! token, since servers give it to no other.

use http::{HeaderMap, Response, StatusCode};
use vantage6::Collaboration;

use super::access_log::Record;
use super::body::ResponseBody;
use super::caller;
use super::forward::Proxy;
use super::lookup::{Lookup, parsed};
use super::refusal::Refusal;

impl Proxy {
    /// What keeps a caller from sending something unencrypted: nothing, the server's answer to a token that it does not accept, or a refusal.
    ///
    /// # Errors
    /// If the collaboration is encrypted, or nobody can tell.
    pub async fn not_unencrypted(
        &self,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Option<Response<ResponseBody>>, Refusal> {
        if self.shared.unencrypted.contains(headers) {
            return Ok(None);
        }
        let Some(id) = caller::collaboration(headers) else { return Err(unknown("the token names no collaboration")) };
        match self.lookup(&format!("/collaboration/{id}"), headers, record).await? {
            Lookup::Found(text, _) => match parsed::<Collaboration>(&text) {
                Some(said) if said.id.0 != id => Err(unknown("the server's answer is about another collaboration")),
                Some(said) if said.encrypted => Err(encrypted()),
                Some(_) => {
                    self.shared.unencrypted.insert(headers);
                    Ok(None)
                }
                None => Err(unknown("the server's answer does not say it")),
            },
            Lookup::NotFound(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                Ok(Some(answer.map(ResponseBody::Streamed)))
            }
            Lookup::NotFound(answer) | Lookup::Unavailable(answer) => {
                Err(unknown(&format!("the server answers {}", answer.status())))
            }
            Lookup::TooLong => Err(unknown("the server's answer is too long")),
        }
    }
}

fn encrypted() -> Refusal {
    let message = "The collaboration is encrypted, but the configuration of this node's proxy does not have `encryption.enabled: true`: what \
                   the algorithm sends would reach the server unencrypted. Nothing was sent. The node's owner has to give the proxy the \
                   node's `encryption`, and start it again.";
    Refusal::new(StatusCode::FORBIDDEN, message)
}

fn unknown(why: &str) -> Refusal {
    let message = format!(
        "This node's proxy can't tell whether the collaboration is encrypted: {why}. Its configuration says that it is not. Nothing was sent, \
         since it could reach the server unencrypted; try again later."
    );
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
