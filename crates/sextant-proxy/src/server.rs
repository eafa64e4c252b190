//! The side of the algorithms: takes their connections, so many and no more, and ends well.
//!
//! A connection counts as unauthenticated until one of its requests has had a token that the server accepts
//! ([`tokens`](super::tokens)); see [`connection_limits`](sextant_process::connection_limits) for what that means.

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

/// How many connections there may be at once, if there are file descriptors and memory for so many.
const MAX_CONNECTIONS: u64 = 4096;
/// How many of them one address may have without an accepted token (but not more than half), and how many one run with it (a quarter).
const MAX_PER_CALLER: usize = 128;
/// How often one address may connect in a second. More than an algorithm can that opens a connection for each request.
const RATE_PER_SOURCE: u32 = 1000;
/// How long a request's head may take, and a connection may be kept without a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest head: one with the longest token. Also what is written of an answer ahead of what the algorithm reads.
const MAX_HEAD: usize = 48 * 1024;
const MAX_HEADERS: usize = 64;
/// How long an algorithm may leave what was sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// What the kernel keeps for an algorithm that does not read.
const MAX_UNSENT: u32 = 128 * 1024;
/// How long requests under way have at the end.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How many connections there may be with so many open files, of which each may need another one to the server, and memory for so
/// many. Of the files one in eight is for those that have shown no token that the server accepts; of the memory a quarter, since they
/// get no large answers and hold half as much.
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

/// Between two tries to accept a connection, if that fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// Of all workers.
static BROKEN: LogThrottle = LogThrottle::new();

/// Serves until it is told to end; then finishes what is under way.
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
            // Without the usual farewell, which would keep something of it in the kernel.
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
        // In a flood of connections each is read before the next ones come, and what has to go has gone.
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

/// Answers one request after the other.
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

/// Waits until it is told to end, or whoever would tell has gone.
async fn shutdown_requested(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}
