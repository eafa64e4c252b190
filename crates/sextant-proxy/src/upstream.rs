//! Pools the connections to the server. A connection is never reused in a way that could send a request twice.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use outbound::{Failure, HttpProxies, HttpProxy, Trust};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use sextant_config::Config;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use vantage6::ServerUrl;

use super::Shared;
use super::body::{CountingBody, IdleTimeoutBody, PooledBody, RequestBody, Reuse, SendProgress};
use super::egress_proxy;

/// The time limit for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that were idle for longer are not reused. Servers keep them for longer (nginx: 60 s or more).
const MAX_IDLE_TIME: Duration = Duration::from_secs(25);
/// The same for requests that must not be sent twice: they use a recently used connection or a new one. If the server closes an older one
/// at the same moment, it would be unknown whether it has taken the request.
const MAX_IDLE_TIME_UNSAFE: Duration = Duration::from_secs(2);
/// How long a returned connection may take to become ready again.
const READY_TIMEOUT: Duration = Duration::from_millis(20);
/// The most idle connections of a worker.
const MAX_IDLE: usize = 64;
/// The least rate at which a server processes a task after receiving it (4.5.5: a quarter of a second per megabyte).
const BYTES_A_MILLISECOND: u64 = 1000;
/// How much is read from the server ahead of the algorithm.
const READ_BUFFER: usize = 32 * 1024;

/// The TLS settings for the server.
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    trust: Trust,
}

impl Tls {
    fn new(trust: Trust, name: ServerName<'static>) -> Self {
        let mut config = trust.client_config();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { connector: TlsConnector::from(Arc::new(config)), name, trust }
    }
}

/// The server's address and the route to it.
pub(crate) struct Origin {
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// The HTTP proxy that leads to the server, if any.
    pub http_proxy: Option<HttpProxy>,
    /// The value of the header `Host`.
    authority: HeaderValue,
    /// The path of its API: empty, or with a leading and no trailing slash.
    pub api_path: String,
    /// The full URL of its API, for logs and for absolute links.
    pub api_url: String,
    /// Replaces the network.
    #[cfg(fuzzing)]
    pub network: Option<super::fuzzing::Network>,
}

impl Origin {
    /// Reads the server from the configuration, and the HTTP proxy that leads to it from the environment.
    ///
    /// # Errors
    /// If the server's address or certificates, or the HTTP proxy, can't be used; the text says what to do.
    pub fn new(config: &Config, environment: &HttpProxies) -> Result<Self, String> {
        let api =
            ServerUrl::new(&config.server_url, config.port, &config.api_path).map_err(|error| error.to_string())?;
        let url = api.resource("");
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let bare = host.trim_matches(['[', ']']).to_owned();
        let wrong = |error: &dyn std::fmt::Display| format!("The server's address {api} can't be used: {error}");
        let tls = if url.scheme() == "https" {
            let name = ServerName::try_from(bare.clone()).map_err(|error| wrong(&error))?;
            Some(Tls::new(Trust::with_file(config.ca_certificates.as_deref())?, name))
        } else {
            None
        };
        Ok(Self {
            host: bare,
            port,
            tls,
            http_proxy: egress_proxy::for_url(&url, environment)?,
            authority: HeaderValue::from_str(&authority).map_err(|error| wrong(&error))?,
            api_path: url.path().trim_end_matches('/').to_owned(),
            api_url: api.to_string(),
            #[cfg(fuzzing)]
            network: None,
        })
    }

    /// Directs a request to the server. Its URI must be a path.
    ///
    /// # Errors
    /// If the path can't be part of a URI.
    pub fn set_target<B>(&self, request: &mut Request<B>) -> Result<(), http::Error> {
        request.headers_mut().insert(header::HOST, self.authority.clone());
        match &self.http_proxy {
            Some(proxy) if self.is_forwarded() => egress_proxy::use_absolute_form(proxy, request, &self.authority),
            _ => Ok(()),
        }
    }

    /// Whether an HTTP proxy forwards the requests without a tunnel. Its own answers then look like the server's.
    pub fn is_forwarded(&self) -> bool {
        self.http_proxy.is_some() && self.tls.is_none()
    }

    /// Describes an error of a connection to the server.
    pub fn describe(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let failure = match &self.tls {
            Some(tls) => tls.trust.failure(error),
            None => Failure::classify(error, false),
        };
        failure.into_message()
    }

    fn connect_timeout(&self) -> io::Error {
        match &self.http_proxy {
            Some(proxy) => egress_proxy::error(
                proxy,
                format!("no connection with the server within {} s", CONNECT_TIMEOUT.as_secs()),
            ),
            None => io::ErrorKind::TimedOut.into(),
        }
    }

    /// Opens a connection that is ready for TLS, or for requests if there is no TLS.
    async fn dial(&self) -> io::Result<TcpStream> {
        let Some(proxy) = &self.http_proxy else { return dial(&self.host, self.port).await };
        let stream = dial(&proxy.host(), proxy.port()).await.map_err(|error| egress_proxy::error(proxy, error))?;
        match self.tls {
            Some(_) => egress_proxy::tunnel(proxy, stream, &self.host, self.port).await,
            None => Ok(stream),
        }
    }
}

/// The connections of one worker to the server.
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    /// Idle connections, the most recently used last.
    idle: Mutex<Vec<(SendRequest<CountingBody>, Instant)>>,
}

/// A connection in use.
pub(crate) struct PooledConnection {
    sender: SendRequest<CountingBody>,
    pool: Arc<Upstream>,
}

impl PooledConnection {
    /// Returns the connection to the pool after its answer is complete.
    pub fn release(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.lock();
        if idle.len() >= MAX_IDLE || idle.first().is_some_and(|(_, since)| since.elapsed() > MAX_IDLE_TIME) {
            idle.retain(|(sender, since)| since.elapsed() <= MAX_IDLE_TIME && !sender.is_closed());
        }
        if idle.len() < MAX_IDLE {
            idle.push((self.sender, Instant::now()));
        }
    }
}

/// Why a request got no answer.
pub(crate) enum SendError {
    /// It was not sent; the request is returned.
    NotSent(Box<Request<RequestBody>>, hyper::Error),
    /// The connection broke; the server may have received the request.
    Interrupted(hyper::Error),
    /// The server was silent for this long; it may have received the request.
    TimedOut(Duration),
}

impl Upstream {
    /// Creates an empty pool.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, idle: Mutex::default() })
    }

    /// Returns an idle or a new connection. A safe (`harmless`) request may use one that was idle for longer.
    ///
    /// # Errors
    /// If the server can't be reached.
    pub async fn acquire(self: &Arc<Self>, harmless: bool) -> io::Result<PooledConnection> {
        let longest = if harmless { MAX_IDLE_TIME } else { MAX_IDLE_TIME_UNSAFE };
        while let Some(mut sender) = self.take_idle(longest) {
            if sender.is_ready() || matches!(timeout(READY_TIMEOUT, sender.ready()).await, Ok(Ok(()))) {
                return Ok(PooledConnection { sender, pool: self.clone() });
            }
        }
        self.connect().await
    }

    fn take_idle(&self, longest: Duration) -> Option<SendRequest<CountingBody>> {
        let mut idle = self.idle.lock();
        while idle.last().is_some_and(|(sender, _)| sender.is_closed()) {
            idle.pop();
        }
        idle.pop_if(|(_, since)| since.elapsed() <= longest).map(|(sender, _)| sender)
    }

    /// Opens a new connection.
    pub async fn connect(self: &Arc<Self>) -> io::Result<PooledConnection> {
        let origin = &self.shared.origin;
        #[cfg(fuzzing)]
        if let Some(network) = &origin.network {
            let sender = self.handshake(TokioIo::new(network())).await?;
            return Ok(PooledConnection { sender, pool: self.clone() });
        }
        let connecting = async {
            let stream = origin.dial().await?;
            match &origin.tls {
                Some(tls) => self.handshake(TokioIo::new(tls.connector.connect(tls.name.clone(), stream).await?)).await,
                None => self.handshake(TokioIo::new(stream)).await,
            }
        };
        let sender = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| origin.connect_timeout())??;
        self.shared.metrics.dialled();
        Ok(PooledConnection { sender, pool: self.clone() })
    }

    async fn handshake<T: Read + Write + Unpin + Send + 'static>(
        &self,
        io: T,
    ) -> io::Result<SendRequest<CountingBody>> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the server ended: {error}");
            }
        });
        Ok(sender)
    }

    /// Sends a request and waits for the head of its answer, as long as the server reads the body, and for the idle timeout after that.
    ///
    /// # Errors
    /// If there is no answer; the error tells whether the server may have received the request.
    pub async fn send(
        &self,
        mut connection: PooledConnection,
        request: Request<RequestBody>,
    ) -> Result<Response<PooledBody>, SendError> {
        let silence = self.shared.timeouts.idle;
        let handed_over = Arc::new(SendProgress::default());
        let (method, sends_body) = (request.method().clone(), !request.body().is_end_stream());
        let request = request.map(|body| CountingBody { body, progress: handed_over.clone() });
        let answer = {
            let mut sending = pin!(connection.sender.try_send_request(request));
            let mut before = 0;
            loop {
                // The server also needs time to process a large body.
                let timeouts = silence + Duration::from_millis(before / BYTES_A_MILLISECOND);
                match timeout(timeouts, &mut sending).await {
                    Ok(answer) => break answer,
                    Err(_) if handed_over.bytes.load(Relaxed) == before => return Err(SendError::TimedOut(timeouts)),
                    Err(_) => before = handed_over.bytes.load(Relaxed),
                }
            }
        };
        match answer {
            Ok(answer) => {
                let is_sent = !sends_body || handed_over.complete.load(Relaxed) && answer.status().is_success();
                let reuse = if is_sent { reuse_after(&method, answer.status()) } else { Reuse::Never };
                Ok(answer.map(|body| PooledBody::new(IdleTimeoutBody::new(body, silence), connection, reuse)))
            }
            Err(mut error) => Err(match error.take_message() {
                Some(request) => SendError::NotSent(Box::new(request.map(|sent| sent.body)), error.into_error()),
                None => SendError::Interrupted(error.into_error()),
            }),
        }
    }
}

/// Returns whether the connection may be reused after this answer. A faulty server may send a body with an answer that must not have one;
/// its bytes would be read as the next answer. [`send`](Upstream::send) also gives up a connection after a failed upload: the server may
/// not have read the body, and would read it as the next request.
fn reuse_after(method: &Method, status: StatusCode) -> Reuse {
    let bodiless = *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || status.is_informational() { Reuse::Never } else { Reuse::Allowed }
}

/// Connects to a host by trying all its addresses in order. Keepalive detects dead connections.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                sextant_process::sockets::set_keepalive(&stream)?;
                return Ok(stream);
            }
            Err(error) => failed = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failed)
}

impl Upstream {
    /// Requests the server's version.
    ///
    /// # Errors
    /// If the server does not answer with success; the text says why.
    pub async fn probe(self: &Arc<Self>) -> Result<(), String> {
        let origin = &self.shared.origin;
        let connection = self.acquire(true).await.map_err(|error| origin.describe(&error))?;
        let mut request = Request::new(RequestBody::Empty);
        let path = format!("{}/version", origin.api_path);
        *request.uri_mut() = path.parse().map_err(|error| format!("{path}: {error}"))?;
        origin.set_target(&mut request).map_err(|error| format!("{path}: {error}"))?;
        let answer = match self.send(connection, request).await {
            Ok(answer) => answer,
            Err(SendError::NotSent(_, error) | SendError::Interrupted(error)) => return Err(origin.describe(&error)),
            Err(SendError::TimedOut(silence)) => return Err(format!("it is silent for {} s", silence.as_secs())),
        };
        let status = answer.status();
        // The body is read so that the connection can be reused.
        let body =
            http_body_util::BodyExt::collect(http_body_util::Limited::new(answer.into_body(), READ_BUFFER)).await;
        match (status.is_success(), body) {
            (true, Ok(_)) => Ok(()),
            (true, Err(error)) => Err(error.to_string()),
            (false, _) => Err(format!("it answers {status} when it is asked for its version")),
        }
    }
}
