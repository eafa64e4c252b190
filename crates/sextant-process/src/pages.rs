//! The pages of the health port, and the bounds on those who ask for them.
//!
//! The routes are axum's; the connections are served here, because `axum::serve` bounds neither their number nor the time that a request's
//! head may take.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use log_throttle::LogThrottle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::health::Health;

/// How many may ask at once; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a request's head may take, and a connection may be kept without one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pages of a process.
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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(times) = broken.happened() {
                    warn!(times, "The health port could not accept a connection: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let router = router.clone();
        connections.spawn(async move {
            if let Err(error) = connection(stream, router).await {
                debug!("A connection to the health port ended: {error}");
            }
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(32)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}
