//! The proxy: the only way from an algorithm to the server.
//!
//! ```text
//!   algorithm ──▶ server.rs ──▶ forward.rs ──▶ retry.rs ──▶ upstream.rs ──▶ vantage6 server
//!                 connections    steps of      retries     pooled
//!                                a request                 connections
//!
//!   caller       the algorithm's token, and no other
//!   route        what is asked for; what no algorithm needs does not pass
//!   coalesce     the same request at the same time is sent once
//!   links        links to other pages lead through the proxy
//!   create_task  subtasks run their caller's image, and leave encrypted
//!   collaboration  nothing leaves unencrypted where the server says that all is encrypted
//!   ownership    whose results are asked for
//!   results      results of the caller's own subtasks, decrypted
//! ```
//!
//! It holds no key of the node's: a request goes on with the algorithm's own token. It serves either on its own
//! (`sextant proxy`, [`run`]) or within the node, for nodes outside of a cluster and for the local runtime
//! ([`embedded`]). Bodies pass as streams, both ways.

mod access_log;
mod body;
mod budget;
mod caller;
mod coalesce;
mod collaboration;
mod create_task;
mod database_clock;
mod egress_proxy;
mod embedded;
mod encrypted_task;
mod fair_queue;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod links;
mod memory;
mod outline;
mod ownership;
mod pace;
mod plain_task;
mod public_keys;
mod refusal;
mod request_body;
mod results;
mod retry;
mod route;
mod run;
mod server;
mod small_reads;
mod spool;
mod subtask;
mod task_status;
mod token_cache;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use log_throttle::LogThrottle;
use outbound::HttpProxies;
use sextant_config::Config;
use sextant_metrics::{Connections, Metrics, ProxyMetrics};
use sextant_process::connection_limits::{ConnectionCounts, ConnectionLimiter};
use vantage6::OrganizationId;
use vantage6::encryption::Cryptor;

use self::access_log::AccessLog;
use self::caller::Caller;
use self::coalesce::Coalescer;
use self::database_clock::DatabaseClock;
use self::encrypted_task::Quotas;
use self::fair_queue::FairQueue;
use self::memory::Memory;
use self::ownership::OwnerCache;
use self::public_keys::PublicKeyCache;
use self::token_cache::TokenCache;
use self::upstream::Origin;
pub use embedded::{Embedded, embedded};
pub use run::{ProxyError, run};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// How long a server that is away is waited for, and how long a request that does no harm is tried again.
    pub unavailable: Duration,
    /// How long the server may be silent: before its answer, and in the middle of it. Long, since 4.5.5 does one thing at a time.
    pub idle: Duration,
    /// The first pause between two tries; then twice as long each time.
    pub first_delay: Duration,
    /// How long an algorithm may be waited for while it sends or reads: in sum, and longer for what is large.
    pub upload: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            unavailable: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            first_delay: Duration::from_millis(250),
            upload: Duration::from_secs(300),
        }
    }
}

/// What a proxy has for the work of algorithms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    pub open_files: u64,
    pub memory: Memory,
}

/// What all workers of a proxy have in common.
pub(crate) struct Shared {
    pub origin: Origin,
    pub timeouts: Timeouts,
    pub coalescer: Coalescer,
    pub metrics: ProxyMetrics,
    pub access: AccessLog,
    pub connections: Arc<ConnectionLimiter<Caller>>,
    pub cryptor: Cryptor,
    /// The node's organization, if that is known: then nothing is done for other organizations' algorithms.
    pub organization: Option<OrganizationId>,
    pub public_keys: PublicKeyCache,
    pub tokens: TokenCache,
    /// Tokens whose collaboration is not encrypted, as the server said lately.
    pub unencrypted: TokenCache,
    /// Whose subtasks are whose.
    pub owners: OwnerCache,
    /// Of the server's database.
    pub database_clock: DatabaseClock,
    /// For tasks on their way, and for results that are decrypted.
    pub quotas: Quotas,
    /// For arithmetic with keys.
    pub rsa_queue: Arc<FairQueue>,
    /// Results that could not be decrypted.
    pub undecryptable: Arc<LogThrottle>,
}

impl Shared {
    /// Everything that a proxy for this configuration needs, in an environment that may name an HTTP proxy.
    ///
    /// # Errors
    /// If the configuration does not make sense for it; the text says what to do.
    pub fn new(
        config: &Config,
        environment: &HttpProxies,
        access: AccessLog,
        means: Resources,
    ) -> Result<Arc<Self>, String> {
        let Resources { open_files, memory } = means;
        Ok(Arc::new(Self {
            origin: Origin::new(config, environment)?,
            timeouts: Timeouts::default(),
            coalescer: Coalescer::default(),
            metrics: ProxyMetrics::default(),
            access,
            connections: ConnectionLimiter::new(server::limits(open_files, memory.connections)),
            cryptor: config.encryption.cryptor()?,
            organization: config.encryption.organization,
            public_keys: PublicKeyCache::default(),
            tokens: TokenCache::default(),
            unencrypted: TokenCache::default(),
            owners: OwnerCache::default(),
            database_clock: DatabaseClock::default(),
            quotas: Quotas::new(config.proxy_tmp_size(), &memory),
            rsa_queue: Arc::default(),
            undecryptable: Arc::default(),
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
