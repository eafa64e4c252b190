//! Sends a request to the server and waits for the head of its answer. Retries only if that is safe.

use backoff::Backoff;
use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::Instant;

use super::access_log::Record;
use super::body::{PooledBody, RequestBody};
use super::forward::Proxy;
use super::refusal::Refusal;
use super::route::Route;
use super::upstream::{Origin, SendError};
use super::{Shared, headers, token_cache};

/// How often a safe request is sent if the server answers with an error status.
const MAX_SERVER_ERRORS: u32 = 4;

/// A request for the server.
pub(crate) struct UpstreamRequest<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// Path and query as the server gets them.
    pub path: String,
    pub route: Route,
}

impl UpstreamRequest<'_> {
    /// Whether repeating the request has no further effect.
    pub fn is_safe(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    fn request(&self, shared: &Shared, body: RequestBody) -> Result<Request<RequestBody>, Refusal> {
        let wrong = |error| Refusal::new(StatusCode::BAD_REQUEST, "The path can't be passed on.").because(error);
        let uri = Uri::try_from(self.path.as_str()).map_err(|error| wrong(error.into()))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = match self.route {
            Route::Lookup => headers::of_lookup(self.headers),
            _ => headers::of_request(self.headers),
        };
        shared.origin.set_target(&mut request).map_err(wrong)?;
        let headers = request.headers_mut();
        // The proxy reads these answers, so they must not be compressed.
        if matches!(
            self.route,
            Route::List
                | Route::Results
                | Route::Result(_)
                | Route::TaskStatus(_)
                | Route::Blob
                | Route::BlobStatus
                | Route::Lookup
        ) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(request)
    }
}

impl Proxy {
    /// Sends a request, with retries if they are safe, and waits for the head of its answer.
    pub async fn send_with_retry(
        &self,
        asked: &UpstreamRequest<'_>,
        body: RequestBody,
        record: &mut Record,
    ) -> Result<Response<PooledBody>, Refusal> {
        let repeatable = asked.is_safe() && matches!(body, RequestBody::Empty);
        let mut next = Some(asked.request(&self.shared, body)?);
        let mut tries = Attempts { shared: &self.shared, since: Instant::now(), failures: 0 };
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => asked.request(&self.shared, RequestBody::Empty)?,
            };
            // A request that was not sent may always be retried.
            let lease = match self.upstream.acquire(repeatable).await {
                Ok(lease) => lease,
                Err(error) => {
                    next = Some(request);
                    tries.wait_or_fail(|| unreachable(&error, &self.shared.origin)).await?;
                    continue;
                }
            };
            record.tries += 1;
            let error = match self.upstream.send(lease, request).await {
                Ok(mut answer) => {
                    let status = answer.status();
                    if repeatable && status.is_server_error() && tries.wait_after(status).await {
                        continue;
                    }
                    let has_place = self.note_token_status(asked, status, record);
                    if repeatable {
                        has_place?;
                    }
                    headers::of_answer(status, answer.headers_mut());
                    return reject_misdirected(answer, &self.shared.origin);
                }
                Err(SendError::NotSent(request, error)) => {
                    next = Some(*request);
                    tries.wait_or_fail(|| unreachable(&error, &self.shared.origin)).await?;
                    continue;
                }
                Err(SendError::Interrupted(error)) => Refusal::new(
                    StatusCode::BAD_GATEWAY,
                    "The connection with the vantage6 server broke before it answered; the request may have been carried out or not.",
                )
                .because(self.shared.origin.describe(&error)),
                Err(SendError::TimedOut(silence)) => Refusal::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    format!(
                        "The vantage6 server did not answer within {} s; the request may have been carried out or not.",
                        silence.as_secs()
                    ),
                ),
            };
            if !repeatable {
                self.shared.metrics.unanswered();
                return Err(error);
            }
            tries.wait_or_fail(|| error).await?;
        }
    }
}

impl Proxy {
    /// Takes note of what an answer says about the caller's token. The connection counts for a caller whose token the server accepts.
    ///
    /// # Errors
    /// If the connection limits leave no room for the caller. The connection then stays unauthenticated and must not carry large answers.
    fn note_token_status(
        &self,
        asked: &UpstreamRequest<'_>,
        status: StatusCode,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let accepted = &self.shared.tokens;
        if status == StatusCode::UNAUTHORIZED {
            accepted.remove(asked.headers);
        } else if token_cache::proves_token(asked.method, &asked.path, &self.shared.origin.api_path, status) {
            accepted.insert(asked.headers);
            return self.authenticate(record);
        }
        Ok(())
    }
}

/// The attempts to send one request.
struct Attempts<'a> {
    shared: &'a Shared,
    since: Instant,
    failures: u32,
}

impl Attempts<'_> {
    /// Waits before the next attempt after a request got no answer, or returns the error if the time is up.
    async fn wait_or_fail(&mut self, error: impl FnOnce() -> Refusal) -> Result<(), Refusal> {
        let pause = self.next_delay();
        if self.since.elapsed() + pause > self.shared.timeouts.unavailable {
            self.shared.metrics.unanswered();
            return Err(error());
        }
        self.wait(pause).await;
        Ok(())
    }

    /// Waits before the next attempt after an error status. Returns whether there is one.
    async fn wait_after(&mut self, status: StatusCode) -> bool {
        let pause = self.next_delay();
        // A front end sends these while the server is unavailable.
        let away =
            matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        let enough = if away {
            self.since.elapsed() + pause > self.shared.timeouts.unavailable
        } else {
            status == StatusCode::NOT_IMPLEMENTED || self.failures >= MAX_SERVER_ERRORS
        };
        if !enough {
            self.wait(pause).await;
        }
        !enough
    }

    fn next_delay(&mut self) -> Duration {
        self.failures += 1;
        let first = self.shared.timeouts.first_delay;
        Backoff { first, longest: 32 * first }.random(self.failures)
    }

    async fn wait(&self, pause: Duration) {
        self.shared.metrics.retried();
        tokio::time::sleep(pause).await;
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static), origin: &Origin) -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The vantage6 server can't be reached from this node. The request was not sent; try again later.",
    )
    .because(origin.describe(error))
}

/// Returns the error for an answer that broke off.
pub(crate) fn interrupted(error: io::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "The vantage6 server's answer broke off.")
        .because(outbound::error_chain(&error))
}

/// Rejects answers that do not come from the vantage6 server. They point to a configuration error that only the node's owner can fix: an
/// algorithm can't follow redirects or log in at an HTTP proxy, and should not see that proxy's pages.
fn reject_misdirected(answer: Response<PooledBody>, origin: &Origin) -> Result<Response<PooledBody>, Refusal> {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let is_page = origin.is_forwarded() && !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let message = match (status.as_u16(), is_page) {
        (407, _) | (401 | 403, true) => {
            "The HTTP proxy between this node and the vantage6 server does not let this through, or wants a login. The node's owner has to set \
             HTTPS_PROXY or HTTP_PROXY right."
        }
        (502..=504, true) => "The HTTP proxy between this node and the vantage6 server does not reach it.",
        _ if status.is_informational() => {
            "The vantage6 server's answer is none to this request: it wants to speak another protocol. The node's owner has to look at \
             server_url, port and what is between the node and the server."
        }
        _ if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
            "The vantage6 server is not where this node's configuration says. The node's owner has to correct server_url, port or api_path."
        }
        _ => return Ok(answer),
    };
    let to = answer.headers().get(header::LOCATION).map(|to| format!(" to {}", String::from_utf8_lossy(to.as_bytes())));
    Err(Refusal::new(StatusCode::BAD_GATEWAY, message).because(format!("{status}{}", to.unwrap_or_default())))
}
