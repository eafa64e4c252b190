//! `sextant proxy`: the proxy as a process of its own.
//!
//! Each worker is a thread that has its own listener at the same port, its own connections to the server, and shares
//! hardly anything with the others: so a request never waits for another thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use super::access::{self, Access};
use super::upstream::Upstream;
use super::{Shared, server};
use crate::config::{Config, RuntimeConfig};
use crate::health::{self, Health};
use crate::open_files;
use crate::telemetry::LogFormat;

/// More workers than this have nothing to do: the server is slower.
const WORKERS: usize = 4;
/// How many callers may wait to be let in.
const BACKLOG: i32 = 1024;
/// How often the server is asked whether it is there.
const LOOK: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
const SERVER: &str = "server";

/// Why the proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Something in the configuration can't be.
    #[error("{0}")]
    Configuration(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl ProxyError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// If it can't begin.
pub fn run(config: &Config, format: LogFormat) -> Result<(), ProxyError> {
    let other = |error: std::io::Error| ProxyError::Other(format!("The process could not be set up: {error}"));
    let address = match &config.runtime {
        RuntimeConfig::Kubernetes(settings) => settings.proxy.listen,
        RuntimeConfig::Local(_) => {
            let message = "With `local` the node itself is the proxy: there is none to be started on its own.";
            return Err(ProxyError::Configuration(message.into()));
        }
    };
    let shared = Shared::new(config, &Matcher::from_system(), Access::lines(format), open_files::raise())
        .map_err(ProxyError::Configuration)?;
    let health = Health::waiting_for(&[SERVER]);
    let figures = shared.clone();
    health.figures(move |text| figures.figures.write(text));

    let (sender, end) = watch::channel(false);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS));
    let mut threads = Vec::new();
    for number in 0..workers {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(other)?;
        let listener = {
            let _inside = runtime.enter();
            listen(address).map_err(|error| {
                ProxyError::Configuration(format!(
                    "The proxy can't be opened at {address}: {error}. Set `kubernetes.proxy.listen` to an address and port that are free."
                ))
            })?
        };
        let (shared, end) = (shared.clone(), end.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        threads.push(thread.spawn(move || runtime.block_on(server::serve(listener, shared, end))).map_err(other)?);
    }
    let through = shared.place.http_proxy.as_ref().map(|proxy| format!(" through the {proxy}")).unwrap_or_default();
    info!("The proxy is open at {address}; it leads to {}{through}", shared.place.api_url);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(other)?;
    let ended = runtime.block_on(watch_over(config, shared.clone(), health));
    sender.send_replace(true);
    for thread in threads {
        let _ = thread.join();
    }
    shared.access.flush();
    ended
}

/// Everything besides serving: health, the access log, signals.
async fn watch_over(config: &Config, shared: Arc<Shared>, health: Arc<Health>) -> Result<(), ProxyError> {
    let other = |error| ProxyError::Other(format!("signals can't be heard: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(address) = config.health_listen {
        let listener = health::listen(address).await.map_err(ProxyError::Configuration)?;
        tasks.spawn(health::serve(listener, health.clone()));
    }
    tasks.spawn(look_after_the_server(shared.clone(), health.clone()));
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(access::AT_LEAST).await;
            shared.access.flush();
        }
    });
    tokio::select! {
        _ = terminate.recv() => info!("ending at SIGTERM; requests under way are finished"),
        _ = interrupt.recv() => info!("ending at SIGINT; requests under way are finished"),
    }
    health.unready("signal", "is ending");
    Ok(())
}

/// Ready means: the server answers.
async fn look_after_the_server(shared: Arc<Shared>, health: Arc<Health>) {
    let upstream = Upstream::new(shared.clone());
    let mut was_there = None;
    loop {
        let answer = tokio::time::timeout(LOOK_WITHIN, upstream.looks_alive()).await;
        let problem = match answer {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(format!("it does not answer within {} s", LOOK_WITHIN.as_secs())),
        };
        let is_there = problem.is_none();
        match problem {
            None => {
                health.ready(SERVER);
                if was_there != Some(true) {
                    info!("the server answers");
                }
            }
            Some(problem) => {
                if was_there != Some(false) {
                    warn!("the vantage6 server at {} can't be used: {problem}", shared.place.api_url);
                }
                health.unready(SERVER, format!("{} can't be used: {problem}", shared.place.api_url));
            }
        }
        was_there = Some(is_there);
        tokio::time::sleep(LOOK).await;
    }
}

/// A listener that shares its port with those of the other workers.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
