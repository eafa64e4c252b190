//! Handles one request from an algorithm: checks the caller and the route, forwards the request, and returns the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::Body as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use hyper::body::Incoming;
use sextant_process::connection_limits::ActiveRequest;
use tokio::time::Instant;
use vantage6::BlobId;
use vantage6::encryption::Cryptor;

use super::access_log::Record;
use super::body::{IdleTimeoutBody, LoggedBody, PooledBody, RequestBody, ResponseBody};
use super::caller::{Caller, Client, caller};
use super::coalesce::{self, Flight, Leader, SharedResponse};
use super::ownership::{Owner, OwnerLookup, Subject, single_task};
use super::refusal::Refusal;
use super::results::Form;
use super::retry::{UpstreamRequest, interrupted};
use super::route::{self, Misrouted, Route, route};
use super::upstream::Upstream;
use super::{Shared, headers, links, ownership, request_body, results, task_status};

/// Answers of up to this many bytes are rewritten in memory; longer ones while they stream.
pub(super) const BUFFER_LIMIT: u64 = 64 * 1024;
/// Queries with longer keys are not coalesced. The usual tools send none.
const MAX_KEY: usize = 8 * 1024;
/// Tells an algorithm when to retry while the server is unavailable, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The request handler of one worker.
pub(crate) struct Proxy {
    pub shared: Arc<Shared>,
    pub upstream: Arc<Upstream>,
}

/// The server's answer, or the proxy's error.
pub(super) type HandleResult = Result<Response<ResponseBody>, Refusal>;

impl Proxy {
    /// Creates a worker without connections to the server.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { upstream: Upstream::new(shared.clone()), shared })
    }

    /// Answers any request.
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        under_way: ActiveRequest<Caller>,
    ) -> Response<LoggedBody> {
        let (parts, body) = request.into_parts();
        let mut record = Record::new(self.shared.clone(), parts.method.clone(), parts.uri.path().to_owned(), under_way);
        record.body_ended().store(body.is_end_stream(), Relaxed);
        let mut answer = match self.handle(&parts, body, &mut record).await {
            Ok(answer) => answer,
            Err(refusal) => {
                record.problem = refusal.cause.clone().or_else(|| Some(refusal.message.clone()));
                error_response(&refusal)
            }
        };
        record.status = answer.status().as_u16();
        if !record.body_ended().load(Relaxed) {
            // The rest of the request's body must not be read as another request.
            answer.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        answer.map(|body| LoggedBody { body, record })
    }

    async fn handle(&self, parts: &request::Parts, body: Incoming, record: &mut Record) -> HandleResult {
        headers::are_bounded(parts)?;
        request_body::check(parts, &body)?;
        let target = route(&parts.method, &parts.uri, &self.shared.origin.api_path)?;
        match caller(&parts.headers) {
            Ok(caller) => {
                record.caller = caller;
                self.authenticate_known_token(&parts.headers, record)?;
            }
            Err(why) if target.route != Route::Open || parts.headers.contains_key(header::AUTHORIZATION) => {
                self.shared.metrics.stranger();
                return Err(why.into());
            }
            Err(_) => {}
        }
        let path = target.at_server(&self.shared.origin.api_path);
        let asked = UpstreamRequest { method: &parts.method, headers: &parts.headers, path, route: target.route };
        if !asked.is_safe() {
            return match asked.route {
                Route::CreateTask => self.create_task(&asked, body, record).await,
                Route::StoreBlob => self.upload_blob(&asked, body, record).await,
                // No other route may send data to the server.
                _ => Err(Misrouted::NotForAlgorithms.into()),
            };
        }
        if parts.method == Method::GET && body.is_end_stream() {
            return self.get_shared(&asked, record).await;
        }
        self.forward_once(&asked, body, record).await
    }

    /// If the server has accepted the caller's token recently, counts the connection for the caller.
    fn authenticate_known_token(&self, headers: &HeaderMap, record: &mut Record) -> Result<(), Refusal> {
        if !self.shared.tokens.contains(headers) {
            record.connection().unauthenticate();
            return Ok(());
        }
        self.authenticate(record)
    }

    /// Counts the connection for the caller, whose token the server accepts.
    pub(super) fn authenticate(&self, record: &mut Record) -> Result<(), Refusal> {
        record.accepted = true;
        record.connection().authenticate(record.caller).map_err(|exceeded| {
            self.shared.metrics.crowded();
            let message = "There are too many requests under way, of this algorithm or of others. Try again later.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).because(exceeded)
        })
    }

    /// Answers a GET request, possibly with the answer to an identical one.
    async fn get_shared(&self, asked: &UpstreamRequest<'_>, record: &mut Record) -> HandleResult {
        if self.shared.coalescer.is_full() {
            return self.get(asked, record).await;
        }
        let mut question = coalesce::caller_key(asked.headers);
        question.push_str(&asked.path);
        // The answer may depend on the encodings that the caller accepts.
        if let Some(takes) = asked.headers.get(header::ACCEPT_ENCODING) {
            question.push('\n');
            question.push_str(&String::from_utf8_lossy(takes.as_bytes()));
        }
        let conditional = asked.headers.keys().any(|name| name.as_str().starts_with("if-") || name == header::RANGE);
        let turn = if conditional || question.len() > MAX_KEY {
            Flight::Bypass
        } else {
            self.shared.coalescer.join(&question)
        };
        let asking = match turn {
            Flight::Lead(asking) => Some(asking),
            Flight::LeadNext(later) => Some(later.wait_for_turn(&self.shared.coalescer).await),
            Flight::Bypass => None,
            Flight::Follow(waiting) => match waiting.answer().await {
                Some(whole) => {
                    self.shared.metrics.shared();
                    record.coalesced = true;
                    return Ok(response_of(&whole));
                }
                None => None,
            },
        };
        let answer = self.get(asked, record).await?;
        match asking {
            Some(asking) => publish(asking, answer).await,
            None => Ok(answer),
        }
    }

    async fn get(&self, asked: &UpstreamRequest<'_>, record: &mut Record) -> HandleResult {
        if self.shared.cryptor.is_encrypted() && matches!(asked.route, Route::Results | Route::Result(_)) {
            return self.get_results(asked, record).await;
        }
        if asked.route == Route::Blob {
            let named = asked.path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let blob = named.parse::<BlobId>().map_err(|_| Misrouted::NotForAlgorithms)?;
            return self.get_blob(&blob, asked, record).await;
        }
        let answer = self.send_with_retry(asked, RequestBody::Empty, record).await?;
        match asked.route {
            Route::BlobStatus if answer.status() == StatusCode::NOT_FOUND => {
                Ok(json(StatusCode::OK, r#"{"blob_store_enabled": false}"#.to_owned()))
            }
            Route::TaskStatus(task) if answer.status() == StatusCode::NOT_FOUND => {
                self.status_of_task(task, asked, answer, record).await
            }
            Route::List | Route::Results if is_json(&answer) => self.with_links(answer).await,
            _ => Ok(answer.map(ResponseBody::Streamed)),
        }
    }

    /// Answers a request for results in an encrypted collaboration. Results of the caller's own subtask are decrypted; others pass
    /// unchanged.
    async fn get_results(&self, asked: &UpstreamRequest<'_>, record: &mut Record) -> HandleResult {
        let mut path = asked.path.clone();
        let (form, named) = match asked.route {
            Route::Result(run) => (Form::One, Some(Subject::Run(run))),
            _ => {
                let named = asked.path.split_once('?').and_then(|(path, query)| Some((path, single_task(query)?)));
                let named = named.map(|(resource, (task, query))| {
                    path = format!("{resource}?{query}");
                    Subject::Task(task)
                });
                (Form::Page, named)
            }
        };
        let whose = match named {
            Some(named) => match self.owner(named, asked.headers, record).await? {
                OwnerLookup::Known(whose) => whose,
                OwnerLookup::Relay(answer) => return Ok((*answer).map(ResponseBody::Streamed)),
            },
            None => Owner::Other,
        };
        match whose {
            Owner::Caller(task) => {
                let since = Instant::now();
                // The canonical query, so that the server reads it as the proxy does.
                let answer =
                    self.send_with_retry(&UpstreamRequest { path, ..*asked }, RequestBody::Empty, record).await?;
                if answer.status() != StatusCode::OK || !is_json(&answer) {
                    return Ok(answer.map(ResponseBody::Streamed));
                }
                match named {
                    // While the server was slow, the id may have been reused for another task.
                    Some(named) if since.elapsed() > ownership::TTL => {
                        match self.owner(named, asked.headers, record).await? {
                            OwnerLookup::Known(Owner::Caller(still)) if still == task => {}
                            OwnerLookup::Known(_) => return self.undecrypted(answer, form).await,
                            OwnerLookup::Relay(said) => return Ok((*said).map(ResponseBody::Streamed)),
                        }
                    }
                    _ => {}
                }
                self.with_results(answer, form, task, record.client()).await
            }
            Owner::Other => {
                let answer = self.send_with_retry(asked, RequestBody::Empty, record).await?;
                self.undecrypted(answer, form).await
            }
        }
    }

    /// Returns results without decrypting them.
    async fn undecrypted(&self, answer: Response<PooledBody>, form: Form) -> HandleResult {
        if form == Form::Page && is_json(&answer) {
            return self.with_links(answer).await;
        }
        Ok(answer.map(ResponseBody::Streamed))
    }

    /// Forwards a request and streams its body.
    async fn forward_once(&self, asked: &UpstreamRequest<'_>, body: Incoming, record: &mut Record) -> HandleResult {
        let body = if body.is_end_stream() {
            RequestBody::Empty
        } else {
            let timeouts = &self.shared.timeouts;
            let body = IdleTimeoutBody::new(body, timeouts.idle).at_pace(timeouts.upload);
            RequestBody::Streamed(body.signal_end(record.body_ended()))
        };
        let answer = self.send_with_retry(asked, body, record).await?;
        Ok(answer.map(ResponseBody::Streamed))
    }

    /// Answers `GET task/{id}/status` from the task itself. The algorithm tools request it since 4.11; older servers don't have it.
    async fn status_of_task(
        &self,
        task: u64,
        asked: &UpstreamRequest<'_>,
        none: Response<PooledBody>,
        record: &mut Record,
    ) -> HandleResult {
        let path = format!("{}/task/{task}", self.shared.origin.api_path);
        let whole = UpstreamRequest { path, route: Route::Lookup, ..*asked };
        let answer = self.send_with_retry(&whole, RequestBody::Empty, record).await?;
        if !answer.status().is_success() {
            return Ok(none.map(ResponseBody::Streamed));
        }
        let status = task_status::read(BodyDataStream::new(answer.into_body())).await?;
        let status = serde_json::json!({ "status": status }).to_string();
        Ok(json(StatusCode::OK, status))
    }

    /// Rewrites the page links of an answer.
    async fn with_links(&self, answer: Response<PooledBody>) -> HandleResult {
        let origin = &self.shared.origin;
        let (mut parts, body) = answer.into_parts();
        links::in_headers(&mut parts.headers, origin);
        let length = body.size_hint().exact();
        let body = if length.is_some_and(|length| length <= BUFFER_LIMIT) {
            let text = links::in_text(body.collect().await.map_err(interrupted)?.to_bytes(), origin);
            parts.headers.insert(header::CONTENT_LENGTH, text.len().into());
            ResponseBody::buffered(text)
        } else {
            parts.headers.remove(header::CONTENT_LENGTH);
            ResponseBody::Rewritten(links::in_stream(BodyDataStream::new(body), origin).boxed())
        };
        Ok(Response::from_parts(parts, body))
    }

    /// Decrypts the results of a task in an answer and rewrites its page links.
    async fn with_results(&self, answer: Response<PooledBody>, form: Form, task: u64, client: Client) -> HandleResult {
        let (mut parts, body) = answer.into_parts();
        links::in_headers(&mut parts.headers, &self.shared.origin);
        parts.headers.remove(header::CONTENT_LENGTH);
        let mut body = BodyDataStream::new(body);
        let mut begins = BytesMut::new();
        let is_whole = loop {
            match body.next().await {
                Some(piece) => begins.extend_from_slice(&piece.map_err(interrupted)?),
                None => break true,
            }
            if begins.len() as u64 > BUFFER_LIMIT {
                break false;
            }
        };
        // A longer answer is not checked: the server was asked only for this task's results.
        let is_of_the_task = !is_whole || form.is_of(task, &begins);
        let pieces = stream::iter([Ok(begins.freeze())]).chain(body);
        let pieces = match &self.shared.cryptor {
            Cryptor::Encrypted(key) if is_of_the_task => {
                let (failures, quotas) = (self.shared.undecryptable.clone(), self.shared.quotas.results.clone());
                let (key, queue) = (key.clone(), self.shared.rsa_queue.clone());
                results::decrypted(
                    pieces,
                    results::Decryption { form, key, failures, quota: quotas, rsa_queue: queue, client },
                )
                .boxed()
            }
            _ => pieces.boxed(),
        };
        let pieces = links::in_stream(pieces, &self.shared.origin);
        Ok(Response::from_parts(parts, ResponseBody::Rewritten(pieces.boxed())))
    }
}

fn is_json(answer: &Response<PooledBody>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
    answer.status().is_success()
        && !answer.body().is_end_stream()
        && kind.starts_with(b"application/json")
        && !answer.headers().contains_key(header::CONTENT_ENCODING)
}

fn json(status: StatusCode, text: String) -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::buffered(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

fn error_response(refusal: &Refusal) -> Response<ResponseBody> {
    let mut answer = json(refusal.status, refusal.json());
    if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route::ALLOW));
    }
    answer
}

/// Shares an answer with all requests that wait for it, if it is small and its status is 200.
async fn publish(asking: Leader, answer: Response<ResponseBody>) -> HandleResult {
    let small = answer.status() == StatusCode::OK
        && answer.body().size_hint().exact().is_some_and(|length| length <= coalesce::MAX_BODY);
    if !small {
        asking.publish_nothing();
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = match body {
        ResponseBody::Buffered(bytes) => bytes.unwrap_or_default(),
        ResponseBody::Streamed(body) => body.collect().await.map_err(interrupted)?.to_bytes(),
        // Its length is unknown, so `small` is false.
        ResponseBody::Rewritten(_) => return Ok(Response::from_parts(parts, body)),
    };
    let whole = SharedResponse { status: parts.status, headers: parts.headers.clone(), body: body.clone() };
    asking.publish(Arc::new(whole));
    Ok(Response::from_parts(parts, ResponseBody::buffered(body)))
}

fn response_of(whole: &SharedResponse) -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::buffered(whole.body.clone()));
    *answer.status_mut() = whole.status;
    *answer.headers_mut() = whole.headers.clone();
    answer
}
