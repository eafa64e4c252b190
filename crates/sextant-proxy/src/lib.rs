//! Connects algorithms to the vantage6 server. An algorithm has no other connection to it.
//!
//! ```text
//!   algorithm ──▶ server.rs ──▶ forward.rs ──▶ retry.rs ──▶ upstream.rs ──▶ vantage6 server
//!                 connections    steps of      retries     pooled
//!                                a request                 connections
//!
//!   caller         accepts only tokens of algorithms
//!   route          rejects requests that no algorithm needs
//!   coalesce       sends simultaneous identical requests once
//!   links          rewrites links to other pages to lead through the proxy
//!   create_task    limits subtasks to their caller's image and encrypts their inputs
//!   collaboration  sends nothing unencrypted unless the server says that the collaboration is not encrypted
//!   ownership      finds out whose results a request is for
//!   results        decrypts results of the caller's own subtasks
//!   blobs          decrypts such results from the server's blob store
//!   blob_upload    encrypts inputs for the blob store
//! ```
//!
//! The proxy has no credentials for the server: it forwards each request with the algorithm's own token. It runs as its own process
//! (`sextant proxy`, [`run`]) or within the node, for nodes outside a cluster and for the local runtime ([`embedded`]). It streams
//! request and response bodies.

mod access_log;
mod blob_upload;
mod blobs;
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
mod known;
mod links;
mod lookup;
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
use vantage6::encryption::Cryptor;
use vantage6::{BlobId, OrganizationId};

use self::access_log::AccessLog;
use self::caller::Caller;
use self::coalesce::Coalescer;
use self::database_clock::DatabaseClock;
use self::encrypted_task::Quotas;
use self::fair_queue::FairQueue;
use self::known::Known;
use self::memory::Memory;
use self::ownership::OwnerCache;
use self::public_keys::PublicKeyCache;
use self::token_cache::TokenCache;
use self::upstream::Origin;
pub use embedded::{Embedded, embedded};
pub use run::{ProxyError, run};

/// Time limits for connections to the server and for uploads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// How long to wait for an unavailable server, and how long to retry a safe request.
    pub unavailable: Duration,
    /// How long the server may send nothing, before its answer or during it. Long, because server 4.5.5 handles one request at a time.
    pub idle: Duration,
    /// The delay before the first retry; it doubles with each further one.
    pub first_delay: Duration,
    /// How long it may take to receive a task that is held until it is complete; larger tasks get more time.
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

/// The resources that a proxy may use for algorithms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    pub open_files: u64,
    pub memory: Memory,
}

/// The state that all workers of a proxy share.
pub(crate) struct Shared {
    pub origin: Origin,
    pub timeouts: Timeouts,
    pub coalescer: Coalescer,
    pub metrics: ProxyMetrics,
    pub access: AccessLog,
    pub connections: Arc<ConnectionLimiter<Caller>>,
    pub cryptor: Cryptor,
    /// The node's organization, if known. The proxy then does not act for algorithms of other organizations.
    pub organization: Option<OrganizationId>,
    pub public_keys: PublicKeyCache,
    pub tokens: TokenCache,
    /// Tokens whose collaboration is not encrypted, according to a recent answer of the server.
    pub unencrypted: TokenCache,
    /// Recent findings about which tasks are subtasks of which caller.
    pub owners: OwnerCache,
    /// Whether a blob is a result of one of the caller's subtasks, by token hash.
    pub blob_owners: Known<([u8; 32], BlobId), bool>,
    /// Public keys of organizations in the caller's collaboration, by token hash and key fingerprint.
    pub recipients: Known<([u8; 32], String), ()>,
    /// Whether the clock of the server's database is ahead of UTC.
    pub database_clock: DatabaseClock,
    /// Limits for tasks that are being received and for results that are being decrypted.
    pub quotas: Quotas,
    /// Schedules RSA operations fairly among callers.
    pub rsa_queue: Arc<FairQueue>,
    /// Limits log lines about results that can't be decrypted.
    pub undecryptable: Arc<LogThrottle>,
}

impl Shared {
    /// Creates the state for a configuration, with the HTTP proxies that the environment names.
    ///
    /// # Errors
    /// If the configuration can't be used; the text says what to do.
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
            blob_owners: Known::default(),
            recipients: Known::default(),
            database_clock: DatabaseClock::default(),
            quotas: Quotas::new(config.proxy_tmp_size(), &memory),
            rsa_queue: Arc::default(),
            undecryptable: Arc::default(),
        }))
    }

    /// Adds the proxy's metrics to those of the process.
    pub fn register(&self, metrics: &Metrics) {
        let connections = self.connections.clone();
        metrics.proxy(&self.metrics, move || {
            let ConnectionCounts { unauthenticated, authenticated, evictions } = connections.counts();
            Connections { open: unauthenticated + authenticated, unauthenticated, evicted: evictions }
        });
    }
}
