//! A pod's side of the data port: one connection per request, retried with backoff.

use backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryFutureExt;
use http::{Method, Request, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use sextant_process::sockets::set_keepalive;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::PodError;
use super::settings::Settings;
use crate::data_port::protocol::Item;
use crate::data_port::{protocol, tls};

/// The timeout for TCP connect and for the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the node may take to begin its answer. It is longer than the node delays its answer to `next`.
const ANSWER: Duration = Duration::from_secs(120);
/// How long an answer may make no progress.
pub const STALLED: Duration = Duration::from_secs(60);
/// The pauses between two attempts.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The node's answer to a request.
pub enum Reply {
    /// The answer's body.
    Body(Incoming),
    /// The node can't answer now, or could not be reached; the request may succeed later.
    Later(String),
}

/// Requests one run's resources from the node.
pub struct Client {
    settings: Settings,
    connector: TlsConnector,
}

impl Client {
    /// Creates a client for a run.
    ///
    /// # Errors
    /// If the pin is malformed.
    pub fn new(settings: Settings) -> Result<Self, PodError> {
        let config = tls::client(&settings.pin)
            .map_err(|error| PodError::Setting { name: crate::decisions::job::env::PIN, problem: error.to_string() })?;
        Ok(Self { settings, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// The run's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Requests an item until the node returns it or refuses it permanently.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn fetch(&self, item: Item) -> Result<Incoming, PodError> {
        let mut retries = Retries::default();
        loop {
            match self.ask(Method::GET, item, http_body_util::Empty::<Bytes>::new(), None).await? {
                Reply::Body(body) => return Ok(body),
                Reply::Later(reason) => retries.wait(&reason).await,
            }
        }
    }

    /// Makes one request.
    ///
    /// # Errors
    /// The node's refusal.
    pub async fn ask<B>(&self, method: Method, item: Item, body: B, problem: Option<&str>) -> Result<Reply, PodError>
    where
        B: Body<Data = Bytes, Error: Into<Failure>> + Send + 'static,
    {
        let request = self.request(method, item, body, problem);
        let answer = match item {
            // No timeout: an output may be large, and the server slow. If the node disappears, the kernel's keepalive notices.
            Item::Output => Ok(request.await),
            Item::Input | Item::Token | Item::Next => timeout(ANSWER, request).await,
        };
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Reply::Later(format!("{}: {error}", self.settings.address))),
            Err(_) => return Ok(Reply::Later(format!("{} did not answer", self.settings.address))),
        };
        interpret(response, &self.settings.address).await
    }

    async fn request<B>(
        &self,
        method: Method,
        item: Item,
        body: B,
        problem: Option<&str>,
    ) -> Result<http::Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes, Error: Into<Failure>> + Send + 'static,
    {
        let stream = timeout(CONNECT, TcpStream::connect(&self.settings.address)).await??;
        stream.set_nodelay(true)?;
        set_keepalive(&stream)?;
        let stream = timeout(CONNECT, self.connector.connect(tls::SERVER_NAME.try_into()?, stream)).await??;
        let mut request = Request::builder()
            .method(method)
            .uri(protocol::path(self.settings.run, item))
            .header(header::HOST, tls::SERVER_NAME)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.settings.key.expose_secret()))
            .header(protocol::JOB, &self.settings.job);
        if let Some(problem) = problem {
            request = request.header(protocol::PROBLEM, problem.replace(|c: char| !(' '..='~').contains(&c), "?"));
        }
        exchange(stream, request.body(body)?).await
    }
}

/// Sends a request on a connection of its own, and waits for the head of the response.
pub(super) async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    request: Request<B>,
) -> Result<http::Response<Incoming>, Failure>
where
    B: Body<Data = Bytes, Error: Into<Failure>> + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(Box::pin(stream))).await?;
    tokio::spawn(connection.inspect_err(|error| tracing::debug!("The connection to the node ended: {error}")));
    Ok(sender.send_request(request).await?)
}

/// Interprets the node's response.
///
/// # Errors
/// If the response is a refusal.
pub(super) async fn interpret(response: http::Response<Incoming>, address: &str) -> Result<Reply, PodError> {
    match response.status() {
        StatusCode::OK => Ok(Reply::Body(response.into_body())),
        StatusCode::CONFLICT => Err(PodError::Refused(text(response.into_body()).await)),
        status => Ok(Reply::Later(format!("{address} answered {status}"))),
    }
}

/// The text of a short response.
async fn text(body: Incoming) -> String {
    let bytes = http_body_util::Limited::new(body, 64 * 1024).collect().await.map(http_body_util::Collected::to_bytes);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Counts consecutive retries, which use exponential backoff with jitter so that many pods do not reconnect at the same time.
#[derive(Debug, Default)]
pub struct Retries(u32);

impl Retries {
    /// Waits before the next attempt.
    pub async fn wait(&mut self, reason: &str) {
        self.0 = self.0.saturating_add(1);
        tracing::warn!("Not yet: {reason}; retrying within {:?}", PAUSES.full(self.0));
        sleep(PAUSES.random(self.0)).await;
    }

    /// Restarts with the shortest pause.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}
