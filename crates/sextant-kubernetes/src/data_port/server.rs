//! The node's side of the data port: accepts connections, checks keys, and hands requests to the [`PodApi`].

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log_throttle::LogThrottle;
use rustls::ServerConfig;
use secrecy::{ExposeSecret, SecretString};
use sextant_core::runtime::Upload;
use sextant_process::connection_limits::{ActiveRequest, ConnectionGuard, ConnectionLimiter};
use sextant_process::listening;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use vantage6_types::RunId;

use super::bounds::Limits;
use super::keys::{KeyOf, NodeSecret};
use super::protocol::{self, Command, Item};

/// Answers the requests of pods that have presented their key.
#[async_trait::async_trait]
pub trait PodApi: Send + Sync + 'static {
    /// What the run's key is derived from, if this Job is the run's current one.
    fn key_of(&self, run: RunId, job: &str) -> Option<KeyOf>;
    /// The run's decrypted input, streamed as it arrives.
    async fn input(&self, run: RunId) -> Result<Input, Answer>;
    /// The run's container token.
    async fn token(&self, run: RunId) -> Result<SecretString, Answer>;
    /// The next command for `return`. Waits for one, for a limited time.
    async fn next(&self, run: RunId) -> Command;
    /// Accepts the output; returns when the server has it.
    async fn deliver(&self, run: RunId, upload: Upload) -> Result<(), Answer>;
}

/// Why a pod does not get what it requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request can never succeed; the text is for the researcher.
    Refused(String),
    /// The request can't succeed now, but may later.
    Later,
}

/// An input that is streamed to a pod.
pub type Input = BoxStream<'static, io::Result<Bytes>>;

/// The pause before the next connection is accepted after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

type Reply = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>>;

/// Serves the data port within these limits until the future is dropped.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    secret: Arc<NodeSecret>,
    pod_api: Arc<dyn PodApi>,
    limits: Limits,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let limiter = ConnectionLimiter::new(limits.connections);
    let server = Arc::new(Server::new(secret, pod_api, limits.stalled));
    let (broken, refused, evicting) = (LogThrottle::default(), LogThrottle::default(), LogThrottle::default());
    let mut evictions = 0;
    // Dropped with this future, which closes all connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, address) = listening::accept(&listener, "The data port", &broken, ACCEPT_PAUSE).await;
        let address = address.ip();
        while connections.try_join_next().is_some() {}
        let guard = match limiter.enter(address, Instant::now()) {
            Ok(guard) => guard,
            Err(exceeded) => {
                if let Some(times) = refused.happened() {
                    warn!(
                        "The data port refused a connection of {address}: {exceeded}. It refused {times} recently, \
                         of all addresses. Pods of runs retry."
                    );
                }
                // Close without the TCP shutdown sequence, which would leave state in the kernel.
                let _ = stream.set_zero_linger();
                continue;
            }
        };
        let evicted = limiter.counts().evictions;
        if evicted > evictions {
            evictions = evicted;
            if evicting.happened().is_some() {
                warn!(
                    "The data port closes connections to accept others ({evicted} since the node started): {address} \
                     or another address floods it"
                );
            }
        }
        let (acceptor, server, patience) = (acceptor.clone(), server.clone(), limits.patience);
        connections.spawn(async move {
            let serving = connection(stream, acceptor, server, guard.clone(), patience);
            let ended = tokio::select! {
                ended = serving => ended,
                () = guard.evicted() => Err("another connection needed its slot".into()),
            };
            if let Err(error) = ended {
                debug!("A connection to the data port ended: {error}");
            }
        });
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Shared by all connections.
struct Server {
    secret: Arc<NodeSecret>,
    pod_api: Arc<dyn PodApi>,
    stalled: Duration,
    wrong_keys: LogThrottle,
    over_limit: LogThrottle,
}

impl Server {
    fn new(secret: Arc<NodeSecret>, pod_api: Arc<dyn PodApi>, stalled: Duration) -> Self {
        Self { secret, pod_api, stalled, wrong_keys: LogThrottle::default(), over_limit: LogThrottle::default() }
    }
}

type Guard = ConnectionGuard<RunId>;

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    guard: Arc<Guard>,
    patience: Duration,
) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    sextant_process::sockets::set_keepalive(&stream)?;
    let stream = timeout(patience, acceptor.accept(stream)).await??;
    converse(stream, server, guard, patience).await
}

/// Serves one request per connection, so nothing that an unauthenticated caller sends after it is read.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    server: Arc<Server>,
    guard: Arc<Guard>,
    patience: Duration,
) -> Result<(), Failure> {
    // Keeps the request counted as active until the connection ends, including while the answer is sent.
    let state = Arc::new((guard.clone(), OnceLock::new()));
    let service = service_fn(move |request| {
        let (server, state) = (server.clone(), state.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &server, &state.0, &state.1).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .keep_alive(false)
        .max_headers(32)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A client without a key can't keep its connection open by reading the answer slowly.
    let never_authenticates = async {
        tokio::time::sleep(patience * 2).await;
        if guard.is_authenticated() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = served => Ok(served?),
        () = never_authenticates => Err("it is not authenticated".into()),
    }
}

async fn answer(
    request: Request<Incoming>,
    server: &Server,
    guard: &Arc<Guard>,
    under_way: &OnceLock<ActiveRequest<RunId>>,
) -> Reply {
    let pod_api = server.pod_api.as_ref();
    let Some((run, item)) = protocol::read_path(request.uri().path()) else {
        return reply(StatusCode::NOT_FOUND, "no such thing");
    };
    // A Job that has been replaced, or that the watch has not reported yet, has no key. Its pod gets the same answer as any caller without
    // a key, and retries until the cluster ends it.
    let of = job(&request).and_then(|job| pod_api.key_of(run, job));
    let is_current_job = of.is_some();
    if !bearer(&request).zip(of).is_some_and(|(key, of)| server.secret.opens(run, &of, key)) {
        let may_be_a_pod = !is_current_job && bearer(&request).is_some() && job(&request).is_some();
        if let Some(times) = (!may_be_a_pod).then(|| server.wrong_keys.happened()).flatten() {
            warn!(
                "The data port refused a request of {} for run {run}: it lacks the run's key; {times} such requests recently",
                guard.address
            );
        }
        return reply(StatusCode::UNAUTHORIZED, "wrong key");
    }
    under_way.get_or_init(|| guard.begin_request());
    if let Err(exceeded) = guard.authenticate(run) {
        if let Some(times) = server.over_limit.happened() {
            warn!(%run, "The data port does not serve the run now: {exceeded}; {times} such requests recently");
        }
        return refusal(Answer::Later);
    }
    match (request.method(), item) {
        (&Method::GET, Item::Input) => match pod_api.input(run).await {
            Ok(pieces) => Response::new(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()),
            Err(answer) => refusal(answer),
        },
        (&Method::GET, Item::Token) => match pod_api.token(run).await {
            Ok(token) => reply(StatusCode::OK, token.expose_secret()),
            Err(answer) => refusal(answer),
        },
        (&Method::GET, Item::Next) => reply(StatusCode::OK, pod_api.next(run).await.as_str()),
        (&Method::PUT, Item::Output) => match upload(request, server.stalled) {
            Some(upload) => match pod_api.deliver(run, upload).await {
                Ok(()) => reply(StatusCode::OK, Command::Exit.as_str()),
                Err(answer) => refusal(answer),
            },
            None => reply(StatusCode::LENGTH_REQUIRED, "the request must give the output's length"),
        },
        _ => reply(StatusCode::METHOD_NOT_ALLOWED, "no such thing"),
    }
}

fn upload(request: Request<Incoming>, stalled: Duration) -> Option<Upload> {
    let length = request.body().size_hint().exact()?;
    let problem =
        request.headers().get(protocol::PROBLEM).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    let bytes = BodyDataStream::new(request.into_body()).map_err(io::Error::other);
    // A stalled stream is an error, so that nothing waits for it forever.
    let bytes = futures::stream::unfold(Some(bytes), move |bytes| async move {
        let mut bytes = bytes?;
        match timeout(stalled, bytes.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(bytes))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    });
    Some(Upload { length, bytes: bytes.boxed(), problem })
}

fn bearer(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The Job that the pod names, if it names exactly one.
fn job(request: &Request<Incoming>) -> Option<&str> {
    let mut said = request.headers().get_all(protocol::JOB).iter();
    match (said.next(), said.next()) {
        (Some(job), None) => job.to_str().ok(),
        _ => None,
    }
}

fn refusal(answer: Answer) -> Reply {
    match answer {
        Answer::Refused(text) => reply(StatusCode::CONFLICT, &text),
        Answer::Later => reply(StatusCode::SERVICE_UNAVAILABLE, "not now"),
    }
}

fn reply(status: StatusCode, text: &str) -> Reply {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// For the fuzzer (`--cfg fuzzing`): a connection after its handshake.
#[cfg(fuzzing)]
pub async fn converse_in_memory(stream: tokio::io::DuplexStream, secret: Arc<NodeSecret>, pod_api: Arc<dyn PodApi>) {
    let limits = Limits::within(1024);
    let limiter = ConnectionLimiter::new(limits.connections);
    let server = Arc::new(Server::new(secret, pod_api, limits.stalled));
    let Ok(guard) = limiter.enter([10, 0, 0, 1].into(), Instant::now()) else { return };
    let _ = converse(stream, server, guard, limits.patience).await;
    assert!(limiter.is_empty(), "a slot was not released: {limiter:?}");
}
