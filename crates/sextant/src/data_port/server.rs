//! The node's side of the data port: takes connections, checks keys, and hands what is asked to the [`Desk`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use vantage6::RunId;

use super::keys::NodeSecret;
use super::protocol::{self, Item, Order};

/// How many pods may be connected at once; further ones wait.
const CONNECTIONS: usize = 4096;
/// How long a handshake, or a request's head, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an upload may stand still.
const STALLED: Duration = Duration::from_secs(60);

/// Who answers what pods ask for, once they have shown their key.
#[async_trait::async_trait]
pub trait Desk: Send + Sync + 'static {
    /// The run's decrypted input, as it arrives.
    async fn input(&self, run: RunId) -> Result<Input, Answer>;
    /// The run's container token.
    async fn token(&self, run: RunId) -> Result<SecretString, Answer>;
    /// What `return` is to do; held until there is something, or some time has passed.
    async fn next(&self, run: RunId) -> Order;
    /// Takes the output; answers when the server has it.
    async fn deliver(&self, run: RunId, upload: Upload) -> Result<(), Answer>;
}

/// Why a pod does not get what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It never will; the text is for the researcher.
    Refused(String),
    /// Not now.
    Later,
}

/// An input on its way to a pod.
pub type Input = BoxStream<'static, io::Result<Bytes>>;

/// What this side sends.
type Reply = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>>;

/// An output on its way from a pod.
pub struct Upload {
    /// How many bytes it has.
    pub length: u64,
    /// Its bytes.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
    /// Why there is none, if there is none.
    pub problem: Option<String>,
}

/// Serves the data port until the future is dropped.
pub async fn serve(listener: TcpListener, tls: ServerConfig, secret: Arc<NodeSecret>, desk: Arc<dyn Desk>) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this future, which ends all connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the caller has gone already: neither is a reason to stop.
                warn!("the data port could not take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (acceptor, secret, desk) = (acceptor.clone(), secret.clone(), desk.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, acceptor, secret, desk).await {
                debug!("a connection to the data port ended: {error}");
            }
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    secret: Arc<NodeSecret>,
    desk: Arc<dyn Desk>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    super::notice_silence(&stream)?;
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
    let service = service_fn(move |request| {
        let (secret, desk) = (secret.clone(), desk.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &secret, desk.as_ref()).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(32)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn answer(request: Request<Incoming>, secret: &NodeSecret, desk: &dyn Desk) -> Reply {
    let Some((run, item)) = protocol::read_path(request.uri().path()) else {
        return reply(StatusCode::NOT_FOUND, "no such thing");
    };
    if !bearer(&request).is_some_and(|key| secret.opens(run, key)) {
        return reply(StatusCode::UNAUTHORIZED, "wrong key");
    }
    match (request.method(), item) {
        (&Method::GET, Item::Input) => match desk.input(run).await {
            Ok(pieces) => Response::new(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()),
            Err(answer) => refusal(answer),
        },
        (&Method::GET, Item::Token) => match desk.token(run).await {
            Ok(token) => reply(StatusCode::OK, token.expose_secret()),
            Err(answer) => refusal(answer),
        },
        (&Method::GET, Item::Next) => reply(StatusCode::OK, desk.next(run).await.as_str()),
        (&Method::PUT, Item::Output) => match upload(request) {
            Some(upload) => match desk.deliver(run, upload).await {
                Ok(()) => reply(StatusCode::OK, Order::Go.as_str()),
                Err(answer) => refusal(answer),
            },
            None => reply(StatusCode::LENGTH_REQUIRED, "the output's length must be known"),
        },
        _ => reply(StatusCode::METHOD_NOT_ALLOWED, "no such thing"),
    }
}

fn upload(request: Request<Incoming>) -> Option<Upload> {
    let length = request.body().size_hint().exact()?;
    let problem =
        request.headers().get(protocol::PROBLEM).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    let bytes = BodyDataStream::new(request.into_body()).map_err(io::Error::other);
    // A stream that stands still is an error, so that nobody waits for it for ever.
    let bytes = futures::stream::unfold(Some(bytes), |bytes| async {
        let mut bytes = bytes?;
        match timeout(STALLED, bytes.next()).await {
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
