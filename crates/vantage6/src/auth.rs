//! The login, which all requests share and which is renewed before it expires.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::{FutureExt as _, Shared};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::{
    Error,
    http::{Call, HttpTransport},
    token::{Session, TokenAnswer},
};

/// How long a request that has a valid token waits for a new one.
const RENEWAL: Duration = Duration::from_secs(5);

type Renewal = Shared<Pin<Box<dyn Future<Output = Result<Arc<Session>, Error>> + Send>>>;

/// Keeps the session with the server.
pub(crate) struct Auth {
    transport: Arc<HttpTransport>,
    api_key: SecretString,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// The server refused this session's access token.
    refused: bool,
    /// The login or refresh in progress, which all callers share, and when it began.
    renewal: Option<(Renewal, Instant)>,
}

impl Auth {
    pub fn new(transport: Arc<HttpTransport>, api_key: SecretString) -> Self {
        Self { transport, api_key, state: Arc::default() }
    }

    /// Returns a session whose access token is valid, as far as the client can tell. If there is none, makes one attempt to
    /// log in or refresh; the caller retries.
    pub async fn session(&self) -> Result<Arc<Session>, Error> {
        let ((renewal, began), old) = {
            let mut state = self.state.lock();
            let old = state.session.clone();
            if let Some(session) = old.as_ref().filter(|session| !state.refused && session.access.is_fresh()) {
                return Ok(Arc::clone(session));
            }
            let valid = old.clone().filter(|session| !state.refused && session.access.is_valid());
            let renewal = state.renewal.get_or_insert_with(|| {
                let renewal = self.renewal(old);
                if valid.is_some() {
                    // The renewal continues even if no caller waits for it any more.
                    tokio::spawn(tell(renewal.clone()));
                }
                (renewal, Instant::now())
            });
            (renewal.clone(), valid)
        };
        // Renewal starts long before the token expires, so a server that is briefly slow or unavailable delays no request.
        let Some(old) = old else { return renewal.await };
        match timeout_at(began + RENEWAL, renewal).await {
            Err(_) => Ok(old),
            Ok(Err(error)) if !error.is_wrong_api_key() && old.access.is_valid() => Ok(old),
            Ok(renewed) => renewed,
        }
    }

    /// Records that the server rejected this session's access token, so that the next caller gets a new one.
    pub fn invalidate(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        if state.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            state.refused = true;
        }
    }

    fn renewal(&self, old: Option<Arc<Session>>) -> Renewal {
        let transport = Arc::clone(&self.transport);
        let api_key = self.api_key.clone();
        let state: Weak<Mutex<State>> = Arc::downgrade(&self.state);
        async move {
            let result = renew(&transport, &api_key, old.as_deref()).await.map(Arc::new);
            if let Some(state) = state.upgrade() {
                let mut state = state.lock();
                state.renewal = None;
                if let Ok(session) = &result {
                    state.session = Some(Arc::clone(session));
                    state.refused = false;
                }
            }
            result
        }
        .boxed()
        .shared()
    }
}

async fn tell(renewal: Renewal) {
    if let Err(error) = renewal.await
        && !error.is_wrong_api_key()
    {
        tracing::warn!(%error, "Could not renew the access token; it is still valid for a while");
    }
}

/// Refreshes the token if there is a valid refresh token, and logs in otherwise.
///
/// The regular node uses the server's `refresh_url`. The path is the same in all 4.x. Ours also works behind a proxy that
/// rewrites paths, and a server's response cannot redirect the refresh token elsewhere.
async fn renew(transport: &HttpTransport, api_key: &SecretString, old: Option<&Session>) -> Result<Session, Error> {
    if let Some(refresh) = old.and_then(|session| session.refresh.as_ref()).filter(|refresh| refresh.is_valid()) {
        match ask(transport, Call::post("token/refresh"), Some(&refresh.token)).await {
            Ok(mut session) => {
                tracing::debug!("Access token refreshed");
                session.node = session.node.or(old.and_then(|old| old.node));
                return Ok(session);
            }
            // The server answered without a token. Whatever the reason, the API key decides.
            Err(Error::Refused { status, message, .. }) if status != 429 && status != 503 => {
                tracing::info!(status, message, "The server did not refresh the access token; logging in again");
            }
            Err(error) => return Err(error),
        }
    }
    let call = Call::post("token/node").json(&json!({"api_key": api_key.expose_secret()}));
    let session = ask(transport, call, None).await.map_err(|error| match error {
        // The server sends 400 for a value that does not even look like a key (`TokenNodeInputSchema`). A 401 that is not in the
        // server's own words comes from something in between, such as an HTTP proxy that requires a login.
        Error::Refused { status: 401, own_words: true, message, request, .. } => {
            Error::WrongApiKey { request, message }
        }
        Error::Refused { status: 400, message, request, .. } if message.contains("api_key") => {
            Error::WrongApiKey { request, message }
        }
        other => other,
    })?;
    tracing::debug!(node = session.node.map(|node| node.0), "Logged in");
    Ok(session)
}

async fn ask(transport: &HttpTransport, call: Call, token: Option<&SecretString>) -> Result<Session, Error> {
    let asked = Instant::now();
    let answer: TokenAnswer = transport.send(&call.secret(), token).await?.json(transport.limit).await?;
    Ok(Session::new(answer, asked))
}
