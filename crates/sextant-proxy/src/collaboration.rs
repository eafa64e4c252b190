//! Checks with the server that the caller's collaboration is not encrypted, if this proxy's configuration has no encryption.
//!
//! The node compares its configuration with the server before it runs anything. A separate proxy has a configuration file of its own,
//! which may be older, and reaches the server only with its callers' tokens. So it asks with those tokens before it sends a task or a blob
//! unencrypted, and sends nothing unless the server says that the collaboration is not encrypted. The token names the collaboration. A
//! successful answer proves the token, because servers reject invented ones.

use http::{HeaderMap, Response, StatusCode};
use vantage6::Collaboration;

use super::access_log::Record;
use super::body::ResponseBody;
use super::caller;
use super::forward::Proxy;
use super::lookup::{Lookup, parsed};
use super::refusal::Refusal;

impl Proxy {
    /// Returns `None` if the caller may send data unencrypted, or the server's answer if it does not accept the token.
    ///
    /// # Errors
    /// If the collaboration is encrypted, or if this can't be determined.
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
