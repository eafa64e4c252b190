//! Runs the proxy within a node: outside a cluster, and for the local runtime.

use std::net::SocketAddr;

use outbound::HttpProxies;
use sextant_config::Config;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use sextant_process::{memory_limit, rlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use super::access_log::AccessLog;
use super::memory::Memory;
use super::{Resources, Shared, server};

/// The proxy gets one part in this many of the node's open files; the data port has priority.
const SHARE: u64 = 8;
/// The proxy gets one part in this many of the memory.
const OF_MEMORY: u64 = 2;

/// A proxy that runs until this is dropped; it then accepts no more connections.
pub struct Embedded {
    /// The address that it listens on.
    pub address: SocketAddr,
    _end: watch::Sender<bool>,
}

/// Serves a listener within this process.
///
/// # Errors
/// If the configuration can't be used; the text says what to do.
pub fn embedded(
    listener: TcpListener,
    config: &Config,
    health: &Health,
    supervisor: &Supervisor,
) -> Result<Embedded, String> {
    let address = listener.local_addr().map_err(|error| format!("The proxy's address can't be read: {error}"))?;
    let memory = memory_limit::of_this_process().map(|limit| limit / OF_MEMORY);
    let means = Resources { open_files: rlimit::raise_open_files() / SHARE, memory: Memory::of(memory) };
    let shared = Shared::new(config, &HttpProxies::from_env()?, AccessLog::Node, means)?;
    if let Some(proxy) = &shared.origin.http_proxy {
        info!("Algorithms' requests go to the server through the {proxy}.");
    }
    shared.register(health.metrics());
    let (sender, end) = watch::channel(false);
    supervisor.spawn("the proxy", server::serve(listener, shared, end));
    Ok(Embedded { address, _end: sender })
}
