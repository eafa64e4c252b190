//! Requests whose bodies are streams that can't be produced a second time, so they are sent once.

use std::time::Duration;

use super::Client;
use crate::{
    Delivery, Error,
    http::{Answer, Call},
    upload::{self, UploadBody},
};

/// If a token older than this is refused, it was valid before, so a new one may help. A younger one was refused because of
/// its permissions.
const TOKEN_WAS_GOOD_AFTER: Duration = Duration::from_secs(60);

impl Client {
    /// Sends a request once. After an error, [`Error::delivery`] says whether the server may have received it anyway. If an old token may
    /// be the reason, the next request gets a new one.
    pub(super) async fn send_once(&self, call: &Call, body: UploadBody) -> Result<Answer, Error> {
        let session = self.access_token().await?.session;
        let transport = &self.inner.transport;
        let sent = async {
            let response = upload::send(transport, call, &session.access.token, body).await?;
            transport.accept(call, response).await
        };
        let old = session.access.since.elapsed() > TOKEN_WAS_GOOD_AFTER;
        match sent.await {
            Err(error) if error.may_be_the_token() && old => {
                self.inner.auth.invalidate(&session);
                Err(Error::StaleToken { request: call.to_string(), message: error.to_string() })
            }
            // A server that refuses the token without reading the body may close the connection before the client sees the
            // response.
            Err(error @ Error::Unreachable { delivery: Delivery::NotSent, .. }) if old => {
                self.inner.auth.invalidate(&session);
                Err(error)
            }
            sent => sent,
        }
    }
}
