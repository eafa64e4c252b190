//! `sextant proxy`: runs the proxy as its own process.
//!
//! Each worker is a thread with its own listener on the same port and its own connections to the server. Workers share very little state,
//! so a request rarely waits for another thread.
//!
//! The process is ready as soon as it listens. The server's availability is a metric and not part of readiness: all replicas use the same
//! server, and an algorithm learns more from an answer to try again than from a Service without endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbound::HttpProxies;
use sextant_config::{Config, RuntimeConfig};
use sextant_process::health::{self, Health};
use sextant_process::listening::{self, PortSharing};
use sextant_process::telemetry::LogFormat;
use sextant_process::{memory_limit, rlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use super::access_log::{self, AccessLog};
use super::memory::Memory;
use super::upstream::Upstream;
use super::{Resources, Shared, server};

/// The most workers. More have nothing to do, because the server is slower.
const WORKERS: usize = 4;
/// The most connections that wait to be accepted, for each worker.
const BACKLOG: i32 = 1024;
/// The interval between probes of the server.
const LOOK: Duration = Duration::from_secs(5);
/// The time limit for a probe.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
const LISTENERS: &str = "listeners";

/// Why the proxy stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The configuration can't be used.
    #[error("{0}")]
    Configuration(String),
    /// Another error.
    #[error("{0}")]
    Other(String),
}

impl ProxyError {
    /// Returns the exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If the proxy can't start.
pub fn run(config: &Config, format: LogFormat) -> Result<(), ProxyError> {
    let address = match &config.runtime {
        RuntimeConfig::Kubernetes(settings) => settings.proxy.listen,
        RuntimeConfig::Local(_) => {
            let message = "With `local` the node itself is the proxy: there is none to be started on its own.";
            return Err(ProxyError::Configuration(message.into()));
        }
    };
    let memory = memory_limit::of_this_process();
    let means = Resources { open_files: rlimit::raise_open_files(), memory: Memory::of(memory) };
    let shared = HttpProxies::from_env()
        .and_then(|environment| Shared::new(config, &environment, AccessLog::lines(format), means))
        .map_err(ProxyError::Configuration)?;
    let health = Health::waiting_for(&[LISTENERS]);
    shared.register(health.metrics());

    let (sender, end) = watch::channel(false);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS));
    let threads = open(address, workers, &shared, &end)?;
    health.ready(LISTENERS);
    let through = shared.origin.http_proxy.as_ref().map(|proxy| format!(" through the {proxy}")).unwrap_or_default();
    info!("The proxy is open at {address}; it leads to {}{through}", shared.origin.api_url);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
    let ended = runtime.block_on(watch_over(config, shared.clone(), health));
    sender.send_replace(true);
    for thread in threads {
        let _ = thread.join();
    }
    shared.access.flush();
    ended
}

/// Starts this many workers.
fn open(
    address: SocketAddr,
    workers: usize,
    shared: &Arc<Shared>,
    end: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, ProxyError> {
    let mut threads = Vec::new();
    for number in 0..workers {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
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
        threads.push(thread.spawn(move || runtime.block_on(server::serve(listener, shared, end))).map_err(setup)?);
    }
    Ok(threads)
}

fn setup(error: std::io::Error) -> ProxyError {
    ProxyError::Other(format!("The process could not be set up: {error}"))
}

/// Runs everything besides the workers: health endpoints, access log, probes and signals.
async fn watch_over(config: &Config, shared: Arc<Shared>, health: Arc<Health>) -> Result<(), ProxyError> {
    let other = |error| ProxyError::Other(format!("signals can't be heard: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(address) = config.health_listen {
        let listener = health::listen(address).map_err(ProxyError::Configuration)?;
        tasks.spawn(health::serve(listener, health.clone()));
    }
    tasks.spawn(look_after_the_server(shared.clone(), LOOK));
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(access_log::AT_LEAST).await;
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

/// Probes the server regularly, for the metrics and the log.
async fn look_after_the_server(shared: Arc<Shared>, every: Duration) {
    let upstream = Upstream::new(shared.clone());
    loop {
        let answer = tokio::time::timeout(LOOK_WITHIN, upstream.probe()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("it does not answer within {} s", LOOK_WITHIN.as_secs())));
        match answer {
            Ok(()) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if shared.metrics.server_answers(now.as_secs()) {
                    info!("The vantage6 server at {} answers.", shared.origin.api_url);
                }
            }
            Err(problem) => {
                if shared.metrics.server_is_silent() {
                    warn!(
                        "The vantage6 server at {} can't be used: {problem}. Algorithms' requests wait for it, then hear 503.",
                        shared.origin.api_url
                    );
                }
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// Opens a listener that shares its port with those of the other workers.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    listening::listen_with(address, PortSharing::Shared, BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sextant_metrics::Metrics;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn show(metrics: &Metrics, line: &str) {
        for _ in 0..400 {
            if metrics.encode().lines().any(|each| each.starts_with(line)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {line}");
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_a_metric_and_the_proxy_serves_all_the_same() {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = origin.local_addr().unwrap();
        drop(origin);
        let text = format!("server_url: http://{to}\napi_key: k\n");
        let config = Config::parse(&text, Path::new("a.yaml"), &|_| None).unwrap();
        let mut shared =
            Shared::new(&config, &HttpProxies::default(), AccessLog::Node, crate::tests::RESOURCES).unwrap();
        Arc::get_mut(&mut shared).unwrap().timeouts.unavailable = Duration::from_millis(100);
        let metrics = Metrics::default();
        shared.register(&metrics);
        let (sender, end) = watch::channel(false);
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let threads = open(address, 2, &shared, &end).unwrap_or_else(|error| panic!("{error}"));
        let looking = tokio::spawn(look_after_the_server(shared.clone(), Duration::from_millis(20)));
        show(&metrics, "sextant_proxy_upstream_up 0").await;
        // The proxy listens, and tells an algorithm to try again.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5"), "{answer}");

        let there = TcpListener::bind(to).await.unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = there.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            }
        });
        show(&metrics, "sextant_proxy_upstream_up 1").await;
        show(&metrics, "sextant_proxy_upstream_last_success_timestamp_seconds 1").await;
        server.abort();
        show(&metrics, "sextant_proxy_upstream_up 0").await;
        looking.abort();
        sender.send_replace(true);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
