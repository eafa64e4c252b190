//! Accepts connections from algorithms, up to a limit, and shuts down gracefully.
//!
//! A connection counts as unauthenticated until the server has accepted the token of one of its requests
//! ([`token_cache`](super::token_cache)); see [`connection_limits`](sextant_process::connection_limits) for the consequences.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log_throttle::LogThrottle;
use sextant_process::connection_limits::{ConnectionGuard, ConnectionLimits};
use sextant_process::listening;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Shared;
use super::caller::Caller;
use super::forward::Proxy;
use super::small_reads::SmallReads;

/// The most connections, if file descriptors and memory suffice.
const MAX_CONNECTIONS: u64 = 4096;
/// The most connections of one address without an accepted token (but at most half of those), and of one run with it (at most a quarter).
const MAX_PER_CALLER: usize = 128;
/// New connections of one address per second. An algorithm that opens a connection for each request stays below this.
const RATE_PER_SOURCE: u32 = 1000;
/// How long a request head may take to arrive, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest request head, with the longest token. Also how much of a response is buffered until the algorithm reads it.
const MAX_HEAD: usize = 48 * 1024;
const MAX_HEADERS: usize = 64;
/// How long an algorithm may leave sent data unacknowledged.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// How many unsent bytes the kernel buffers for an algorithm that does not read.
const MAX_UNSENT: u32 = 128 * 1024;
/// How long requests in progress may take at shutdown.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Returns the connection limits for this many open files and for memory that suffices for this many connections. Each connection may need
/// a second file, for one to the server. Unauthenticated connections get an eighth of the files. They may be as many as half of the
/// connections that fit into memory, but count as a quarter of it, because they get no large answers and hold half as much.
pub(crate) fn limits(open_files: u64, memory_for: u64) -> ConnectionLimits {
    let by_files = (open_files.saturating_sub(64) / 2).clamp(16, MAX_CONNECTIONS);
    let unauthenticated = (by_files / 8).min(memory_for / 2) as usize;
    let authenticated = (by_files - by_files / 8).min(memory_for / 4 * 3) as usize;
    ConnectionLimits {
        unauthenticated,
        unauthenticated_per_source: MAX_PER_CALLER.min(unauthenticated / 2),
        rate_per_source: RATE_PER_SOURCE,
        authenticated,
        authenticated_per_owner: MAX_PER_CALLER.min(authenticated / 4),
    }
}

/// The pause after an attempt to accept a connection has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// Shared by all workers.
static BROKEN: LogThrottle = LogThrottle::new();

/// Serves until shutdown is requested, then finishes the requests in progress.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut end: watch::Receiver<bool>) {
    let proxy = Proxy::new(shared.clone());
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = listening::accept(&listener, "The proxy", &BROKEN, ACCEPT_PAUSE) => accepted,
            () = shutdown_requested(&mut end) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok(guard) = shared.connections.enter(address.ip(), Instant::now()) else {
            shared.metrics.crowded();
            // Resets the connection, because a regular close would keep state in the kernel.
            let _ = stream.set_zero_linger();
            continue;
        };
        let (proxy, end) = (proxy.clone(), end.clone());
        connections.spawn(async move {
            let ended = tokio::select! {
                ended = connection(stream, address, proxy, guard.clone(), end) => ended,
                () = guard.evicted() => Err("another connection needed its place".into()),
            };
            if let Err(error) = ended {
                debug!("a connection of an algorithm ended: {error}");
            }
        });
        // During a flood of connections, this lets connections be read and evicted ones end before more are accepted.
        tokio::task::yield_now().await;
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
        warn!("requests under way were not finished within {} s and are ended", DRAIN_TIMEOUT.as_secs());
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    proxy: Arc<Proxy>,
    guard: Arc<ConnectionGuard<Caller>>,
    end: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    sextant_process::sockets::set_keepalive(&stream)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
    debug!("{address} is connected");
    Ok(serve_connection(stream, proxy, guard, end).await?)
}

/// Serves the requests of one connection.
pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    proxy: Arc<Proxy>,
    guard: Arc<ConnectionGuard<Caller>>,
    mut end: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let patience = proxy.shared.timeouts.upload;
    let service = service_fn(move |request| {
        let (proxy, under_way) = (proxy.clone(), guard.begin_request());
        async move { Ok::<_, Infallible>(proxy.answer(request, under_way).await) }
    });
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(SmallReads::new(stream, patience)), service)
    );
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = shutdown_requested(&mut end) => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}

/// Waits until shutdown is requested, or until the sender is dropped.
async fn shutdown_requested(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}
