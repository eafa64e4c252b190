//! The pages of the health port, with limits for its clients.
//!
//! The routes are axum's. The connections are served here, because `axum::serve` limits neither their number nor the time for a request's
//! head. A client that only holds connections, or never reads, must not keep the kubelet from its answer: the kubelet would restart the
//! process. So each new connection is accepted, and the longest idle connection of the source that has the most is closed.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use log_throttle::LogThrottle;
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

use super::connection_limits::{ConnectionLimiter, ConnectionLimits};
use super::health::Health;
use super::listening;

/// The limits of the health port, which has no authentication.
const LIMITS: ConnectionLimits = ConnectionLimits {
    unauthenticated: 64,
    unauthenticated_per_source: 16,
    rate_per_source: 50,
    authenticated: 0,
    authenticated_per_owner: 0,
};
/// The pause before accepting again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time limit for a request's head, and for an idle connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this time a connection may not start another request.
const LAST_REQUEST: Duration = Duration::from_secs(20);
/// The time limit for a whole connection, and for unread data on it.
const LIFE: Duration = Duration::from_secs(30);

/// Routes the pages of a process.
pub fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(alive).fallback(nothing))
        .route("/readyz", get(ready).fallback(nothing))
        .route("/metrics", get(metrics).fallback(nothing))
        .fallback(nothing)
        .with_state(health)
}

async fn alive() -> Response {
    text(StatusCode::OK, "alive\n".to_owned())
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match health.reasons() {
        reasons if reasons.is_empty() => text(StatusCode::OK, "ready\n".to_owned()),
        reasons => text(StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    text(StatusCode::OK, health.metrics().encode())
}

async fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "available pages: /healthz, /readyz and /metrics\n".to_owned())
}

fn text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Serves the pages until the future is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    let router = router(health);
    let broken = LogThrottle::new();
    let limiter = ConnectionLimiter::<()>::new(LIMITS);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, address) = listening::accept(&listener, "The health port", &broken, ACCEPT_PAUSE).await;
        while connections.try_join_next().is_some() {}
        let Ok(guard) = limiter.enter(address.ip(), Instant::now()) else {
            let _ = stream.set_zero_linger();
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            let ended = tokio::select! {
                ended = tokio::time::timeout(LIFE, connection(stream, router)) => ended.unwrap_or_else(|late| Err(late.into())),
                () = guard.evicted() => Err("another connection needed its place".into()),
            };
            if let Err(error) = ended {
                debug!("A connection to the health port ended: {error}");
            }
        });
        // In a flood of connections, lets each be answered before the next ones are accepted.
        tokio::task::yield_now().await;
    }
}

async fn connection(stream: TcpStream, router: Router) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(LIFE))?;
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_headers(32)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        ended = serving.as_mut() => return Ok(ended?),
        () = tokio::time::sleep(LAST_REQUEST) => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    async fn connect(from: u8, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn connections_that_only_stay_do_not_keep_others_from_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Health::waiting_for(&[])));
        let mut held = Vec::new();
        for index in 0..128 {
            let mut stream = connect(2 + index % 8, address).await;
            if index >= 64 {
                // Requests pages repeatedly, and reads no response.
                let _ = stream.try_write(&b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500));
                let _ = stream.flush().await;
            }
            held.push(stream);
        }
        for _ in 0..3 {
            let mut asking = connect(1, address).await;
            asking.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            let read = asking.read_to_string(&mut answer);
            tokio::time::timeout(Duration::from_secs(5), read).await.expect("an answer in time").unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
        }
        drop(held);
        server.abort();
    }
}
