//! The proxy: the only way from an algorithm to the server.
//!
//! ```text
//!   algorithm ──▶ server.rs ──▶ forward.rs ──▶ exchange.rs ──▶ upstream.rs ──▶ vantage6 server
//!                 connections    caller: an        tried again   connections
//!                                algorithm's token
//!                                and no other
//!                                route:  what is asked for; what no algorithm needs does not pass
//!                                share:  the same question at the same time is asked once
//!                                links:  pages lead back here
//!                                subtasks: of their caller's image, and encrypted
//!                                whose, results: of the caller's own subtasks, decrypted
//! ```
//!
//! It holds no key of the node's: a request goes on with the algorithm's own token. It serves either on its own
//! (`sextant proxy`, [`run`]) or within the node, for nodes outside of a cluster and for the local runtime
//! ([`embedded`]). Bodies pass as streams, both ways.

mod accepted;
mod access;
mod body;
mod budget;
mod caller;
mod embedded;
mod exchange;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod links;
mod memory;
mod outline;
mod recipients;
mod refusal;
mod request_body;
mod results;
mod route;
mod run;
mod server;
mod share;
mod sips;
mod spool;
mod status;
mod subtask;
mod subtasks;
mod tasks;
mod turns;
mod unencrypted;
mod upstream;
mod way;
mod whose;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use log_throttle::LogThrottle;
use outbound::HttpProxies;
use sextant_config::Config;
use sextant_metrics::{Connections, Metrics, ProxyMetrics};
use sextant_process::connection_limits::{ConnectionCounts, ConnectionLimiter};
use vantage6::encryption::Cryptor;

use self::accepted::Accepted;
use self::access::Access;
use self::caller::Caller;
use self::memory::Memory;
use self::recipients::Recipients;
use self::share::Shares;
use self::tasks::Room;
use self::turns::Turns;
use self::upstream::Place;
use self::whose::Relations;
pub use embedded::{Embedded, embedded};
pub use run::{ProxyError, run};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long a server that is away is waited for, and how long a request that does no harm is tried again.
    pub away: Duration,
    /// How long the server may be silent: before its answer, and in the middle of it. Long, since 4.5.5 does one thing at a time.
    pub silence: Duration,
    /// The first pause between two tries; then twice as long each time.
    pub pause: Duration,
    /// How long a task that is kept until all of it has come may take; a large one longer.
    pub task: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            away: Duration::from_secs(30),
            silence: Duration::from_secs(120),
            pause: Duration::from_millis(250),
            task: Duration::from_secs(300),
        }
    }
}

/// What a proxy has for the work of algorithms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means {
    pub open_files: u64,
    pub memory: Memory,
}

/// What all workers of a proxy have in common.
pub(crate) struct Shared {
    pub place: Place,
    pub patience: Patience,
    pub shares: Shares,
    pub metrics: ProxyMetrics,
    pub access: Access,
    pub connections: Arc<ConnectionLimiter<Caller>>,
    pub cryptor: Cryptor,
    pub recipients: Recipients,
    pub accepted: Accepted,
    /// Whose subtasks are whose.
    pub relations: Relations,
    /// For tasks on their way, and for results that are decrypted.
    pub room: Room,
    /// For arithmetic with keys.
    pub turns: Arc<Turns>,
    /// Results that could not be decrypted.
    pub damaged: Arc<LogThrottle>,
}

impl Shared {
    /// Everything that a proxy for this configuration needs, in an environment that may name an HTTP proxy.
    ///
    /// # Errors
    /// If the configuration does not make sense for it; the text says what to do.
    pub fn new(config: &Config, environment: &HttpProxies, access: Access, means: Means) -> Result<Arc<Self>, String> {
        let Means { open_files, memory } = means;
        Ok(Arc::new(Self {
            place: Place::of(config, environment)?,
            patience: Patience::default(),
            shares: Shares::default(),
            metrics: ProxyMetrics::default(),
            access,
            connections: ConnectionLimiter::new(server::limits(open_files, memory.connections)),
            cryptor: config.encryption.cryptor()?,
            recipients: Recipients::default(),
            accepted: Accepted::default(),
            relations: Relations::default(),
            room: Room::new(config.proxy_tmp_size(), &memory),
            turns: Arc::default(),
            damaged: Arc::default(),
        }))
    }

    /// Adds what is counted to the process's metrics.
    pub fn register(&self, metrics: &Metrics) {
        let connections = self.connections.clone();
        metrics.proxy(&self.metrics, move || {
            let ConnectionCounts { unauthenticated, authenticated, evictions } = connections.counts();
            Connections { open: unauthenticated + authenticated, unauthenticated, evicted: evictions }
        });
    }
}
