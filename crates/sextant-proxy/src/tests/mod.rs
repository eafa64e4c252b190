//! Tests the proxy between a fake server and callers of all kinds.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

mod allowed;
mod blobs;
mod bodies;
mod certificates;
mod collaboration;
mod connection_limits;
mod egress_proxy;
mod encrypted;
mod fake_server;
mod faults;
mod foreign_tokens;
mod forwarding;
mod hostile;
mod images;
mod memory;
mod ownership;
mod quotas;
mod slow;
mod stale_tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use outbound::HttpProxies;
use sextant_config::Config;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vantage6::encryption::Cryptor;

use super::access_log::AccessLog;
use super::caller::tests::{ALGORITHM, bearer};
use super::memory::Memory;
use super::{Resources, Shared, Timeouts, server};

/// The resources of a proxy without a memory limit.
pub(super) const RESOURCES: Resources =
    Resources { open_files: 4096, memory: Memory { connections: 204, tasks: 16 << 20, results: 8 << 20 } };
/// A task with the caller's image.
const TASK: &str = r#"{"image": "i"}"#;

/// Creates the state of a proxy that does not use its server.
pub(super) fn shared() -> Arc<Shared> {
    let config =
        Config::parse("server_url: http://127.0.0.1:9\napi_key: k\n", std::path::Path::new("a.yaml"), &|_| None);
    Shared::new(&config.unwrap(), &HttpProxies::default(), AccessLog::Node, RESOURCES).unwrap()
}

/// A running proxy.
struct Served {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// A response.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Starts a proxy for the server at this address, with short timeouts.
async fn proxy(to: SocketAddr) -> Served {
    proxy_with(to, Cryptor::Plain).await
}

/// Starts a proxy with or without encryption.
async fn proxy_with(to: SocketAddr, cryptor: Cryptor) -> Served {
    proxy_of(to, cryptor, |_| {}).await
}

/// Starts a proxy with settings of the test.
async fn proxy_of(to: SocketAddr, cryptor: Cryptor, set: impl FnOnce(&mut Shared)) -> Served {
    let timeouts = Timeouts {
        unavailable: Duration::from_secs(2),
        idle: Duration::from_millis(500),
        first_delay: Duration::from_millis(20),
        upload: Duration::from_secs(5),
    };
    let text = format!("server_url: http://{to}\napi_key: k\n");
    let config = Config::parse(&text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
    let mut shared = Shared::new(&config, &HttpProxies::default(), AccessLog::Node, RESOURCES).unwrap();
    let settings = Arc::get_mut(&mut shared).unwrap();
    (settings.timeouts, settings.cryptor) = (timeouts, cryptor);
    // The token counts as its task's, except in tests of that check.
    let known = HeaderMap::from_iter([(header::AUTHORIZATION, bearer(ALGORITHM))]);
    settings.owners.trust(&known);
    settings.unencrypted.insert(&known);
    set(settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = watch::channel(false);
    let serving = tokio::spawn(server::serve(listener, shared.clone(), ended));
    Served { address, shared, end, serving }
}

impl Served {
    /// Sends a request as an algorithm does: with its token, on a new connection.
    async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Got {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, bearer(ALGORITHM))
            .body(Full::new(body.into()))
            .unwrap();
        if path.contains("blobstream") {
            request.headers_mut().insert("x-public-key", encrypted::key(0).public().to_server().parse().unwrap());
        }
        self.send(request).await
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, "").await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        self.send_from("127.0.0.1", request).await
    }

    /// Sends a request from one of this machine's addresses.
    async fn send_from(&self, source: &str, mut request: Request<Full<Bytes>>) -> Got {
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("proxyserver:8080"));
        let (parts, body) = self.connect_from(source).await.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// Sends a GET request and returns the response with its body unread.
    async fn begin(&self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::get(path)
            .header(header::HOST, "proxyserver")
            .header(header::AUTHORIZATION, bearer(ALGORITHM))
            .body(Full::default())
            .unwrap();
        self.connect().await.send_request(request).await
    }

    /// Opens a connection that is closed with the runtime.
    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        self.connect_from("127.0.0.1").await
    }

    async fn connect_from(&self, source: &str) -> SendRequest<Full<Bytes>> {
        let stream = stream_from(source, self.address).await;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Connects from one of this machine's addresses.
async fn stream_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

fn answer(status: u16, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
