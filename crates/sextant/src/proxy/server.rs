//! The side of the algorithms: takes their connections, so many and no more, and ends well.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Shared;
use super::forward::Proxy;

/// How many algorithms may be connected at once, if there are file descriptors for so many; further ones wait.
const CONNECTIONS: u64 = 4096;
/// How many connections one pod may have; further ones are closed.
const PER_CALLER: u32 = 128;
/// How long a request's head may take, and a connection may be kept without a request.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest head, and what is read ahead of a body.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 64;
/// How long an algorithm may leave what was sent to it.
const UNREAD: Duration = Duration::from_secs(120);
/// How long requests under way have at the end.
pub(crate) const LAST_REQUESTS: Duration = Duration::from_secs(25);

/// Who may come in.
pub(crate) struct Doors {
    places: Arc<Semaphore>,
    callers: Mutex<HashMap<IpAddr, u32>>,
}

impl Doors {
    /// As many as there may be open files: each connection may need another one to the server.
    pub fn within(open_files: u64) -> Self {
        let most = (open_files.saturating_sub(64) / 2).clamp(16, CONNECTIONS);
        Self { places: Arc::new(Semaphore::new(most as usize)), callers: Mutex::default() }
    }

    /// Lets a caller in, unless it has too many connections already.
    fn enter(&self, caller: IpAddr) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.entry(caller).or_default();
        let fits = *count < PER_CALLER;
        *count += u32::from(fits);
        fits
    }

    fn leave(&self, caller: IpAddr) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = callers.entry(caller) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A connection that was let in.
struct Guest {
    shared: Arc<Shared>,
    caller: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.shared.doors.leave(self.caller);
        self.shared.figures.connections.fetch_sub(1, Relaxed);
    }
}

/// Serves until it is told to end; then finishes what is under way.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut end: watch::Receiver<bool>) {
    let proxy = Proxy::new(shared.clone());
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = shared.doors.places.clone().acquire_owned() => place,
            () = told(&mut end) => break,
        };
        let Ok(place) = place else { break };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the caller has gone already: neither is a reason to stop.
                    warn!("the proxy could not take a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = told(&mut end) => break,
        };
        while connections.try_join_next().is_some() {}
        let caller = address.ip().to_canonical();
        if !shared.doors.enter(caller) {
            shared.figures.crowded.fetch_add(1, Relaxed);
            continue;
        }
        shared.figures.connections.fetch_add(1, Relaxed);
        let guest = Guest { shared: shared.clone(), caller, _place: place };
        let (proxy, end) = (proxy.clone(), end.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, address, proxy, end).await {
                debug!("a connection of an algorithm ended: {error}");
            }
            drop(guest);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_REQUESTS, all).await.is_err() {
        warn!("requests under way were not finished within {} s and are ended", LAST_REQUESTS.as_secs());
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    proxy: Arc<Proxy>,
    end: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    crate::data_port::notice_silence(&stream)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD))?;
    debug!("{address} is connected");
    Ok(converse(stream, proxy, end).await?)
}

/// Answers one request after the other.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    proxy: Arc<Proxy>,
    mut end: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_headers(HEADERS)
            .max_buf_size(HEAD)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = told(&mut end) => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}

/// Waits until it is told to end, or whoever would tell has gone.
async fn told(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}
