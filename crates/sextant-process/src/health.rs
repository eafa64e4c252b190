//! What a process says of itself to those who run it: `/healthz` (it lives), `/readyz` (it can do its work; if not,
//! why) and `/metrics` (Prometheus's text format). For kubelets and monitoring, not for algorithms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// How many characters there are at most to say why a part can't do its work.
const WHY: usize = 1_000;
/// How many may ask at once; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a request's head may take, and a connection may be kept without one.
const PATIENCE: Duration = Duration::from_secs(30);

type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// The state of a process: ready as soon as none of its parts has a reason against it.
#[derive(Default)]
pub struct Health {
    /// Why not, by part.
    against: Mutex<BTreeMap<&'static str, String>>,
    sources: Mutex<Vec<Source>>,
}

impl Health {
    /// Of a process whose parts are not ready until they say so.
    pub fn waiting_for(parts: &[&'static str]) -> Arc<Self> {
        let health = Self::default();
        for part in parts {
            health.unready(part, "has not begun yet");
        }
        Arc::new(health)
    }

    /// The part can do its work.
    pub fn ready(&self, part: &'static str) {
        self.against.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// The part can't do its work, and why: for the operator. Others may have had a hand in the words.
    pub fn unready(&self, part: &'static str, why: impl Into<String>) {
        let why = printable::excerpt_of(&why.into(), WHY);
        self.against.lock().unwrap_or_else(PoisonError::into_inner).insert(part, why);
    }

    /// Whether nothing is against it.
    pub fn is_ready(&self) -> bool {
        self.against.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether nothing is against this part.
    pub fn is_ready_in(&self, part: &'static str) -> bool {
        !self.against.lock().unwrap_or_else(PoisonError::into_inner).contains_key(part)
    }

    /// Adds figures: the function writes its lines in Prometheus's text format when somebody asks.
    pub fn figures(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    fn reasons(&self) -> String {
        let mut text = String::new();
        for (part, why) in self.against.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "{part}: {why}");
        }
        text
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(text, "# TYPE sextant_info gauge\nsextant_info{{version=\"{version}\"}} 1");
        let _ = writeln!(text, "# TYPE sextant_ready gauge\nsextant_ready {}", u8::from(self.is_ready()));
        if let Some(bytes) = resident_bytes() {
            let _ = writeln!(text, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {bytes}");
        }
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&mut text);
        }
        text
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, text) = match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
            (&Method::GET | &Method::HEAD, "/readyz") => match self.reasons() {
                reasons if reasons.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
                reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons),
            },
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, self.metrics()),
            _ => (StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// The memory that this process holds, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Opens the health port.
///
/// # Errors
/// If the address is not free; the text says what to do.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    crate::listening::listen(address).map_err(|error| {
        format!(
            "The health port can't be opened at {address}: {error}. Set `health.listen` to an address and port that are free."
        )
    })
}

/// Serves the health port until the future is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("the health port could not take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let health = health.clone();
        connections.spawn(async move {
            if let Err(error) = connection(stream, health).await {
                debug!("a connection to the health port ended: {error}");
            }
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, health: Arc<Health>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = health.answer(request.method(), request.uri().path());
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(32)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let answer = health.answer(&Method::GET, path);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_when_nothing_is_against_it() {
        let health = Health::waiting_for(&["server", "isolation"]);
        assert_eq!(ask(&health, "/healthz").await.0, 200);
        health.ready("server");
        let (status, text) = ask(&health, "/readyz").await;
        assert_eq!((status, text.as_str()), (503, "isolation: has not begun yet\n"));
        health.ready("isolation");
        assert_eq!(ask(&health, "/readyz").await, (200, "ready\n".into()));
        health.unready("isolation", "the API server can be reached");
        assert_eq!(ask(&health, "/readyz").await, (503, "isolation: the API server can be reached\n".into()));
        assert_eq!(ask(&health, "/").await.0, 404);
    }

    #[tokio::test]
    async fn figures_come_from_whoever_has_some() {
        let health = Health::waiting_for(&[]);
        health.figures(|text| text.push_str("sextant_things 3\n"));
        let (status, text) = ask(&health, "/metrics").await;
        assert_eq!(status, 200);
        for line in ["sextant_ready 1", "sextant_things 3", "process_resident_memory_bytes "] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[tokio::test]
    async fn answers_over_the_network() {
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listen(address).await.unwrap_err().contains("`health.listen`"));
        let server = tokio::spawn(serve(listener, Health::waiting_for(&[])));
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/readyz").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
        server.abort();
    }
}
