//! The node: logs in, starts its runtime, hears of runs and drives each of them to its one report.
//!
//! ```text
//!   live events ─▶ listen ─▶ sync ─▶ registry ─▶ drive (one task per run) ─▶ runtime
//!             every minute ─▶ ┘             └─▶ report ─▶ server
//! ```

mod admission;
mod announce;
mod columns;
mod drive;
mod listen;
mod new_tasks;
mod origins;
mod places;
mod recipients;
mod registry;
mod report;
mod start;
mod supplies;
mod sync;
#[cfg(test)]
mod tests;
mod turn;
mod waiting;

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use vantage6::Node;
use vantage6::encryption::Cryptor;

use self::announce::Announcer;
use self::origins::Origins;
use self::places::Places;
use self::recipients::Recipients;
use self::registry::Registry;
pub(crate) use self::start::client;
use self::supplies::Supplies;
use crate::config::Config;
use crate::core::isolation::Gate;
use crate::core::masks::Masks;
use crate::core::situation::Limits;
use crate::health::{self, Health};
use crate::hold::{self, Hold};
use crate::hub::Hub;
use crate::runtime::Runtime;
use crate::runtime::kubernetes::StartError;
use crate::supervisor::Supervisor;

/// The part of the node's health that is its live connection to the server.
pub(crate) const SERVER: &str = "server";

/// The part of the node's health that is the walls around algorithms.
const ISOLATION: &str = "isolation";

/// What every part of the node needs.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) hub: Arc<dyn Hub>,
    pub(crate) me: Node,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// How this organization reads what is sent to it.
    pub(crate) cryptor: Cryptor,
    pub(crate) recipients: Recipients,
    pub(crate) origins: Origins,
    pub(crate) supplies: Arc<Supplies>,
    pub(crate) announcer: Announcer,
    pub(crate) limits: Limits,
    /// What a researcher must not read in logs.
    pub(crate) masks: Masks,
    pub(crate) health: Arc<Health>,
    /// Whether this process may act; it is asked before each step.
    pub(crate) hold: Arc<Hold>,
    /// How many runs may be under way; `None`: any number.
    pub(crate) places: Option<Arc<Places>>,
    /// How many bytes the logs of reports under way may take.
    pub(crate) logs: Arc<tokio::sync::Semaphore>,
    /// How many bytes the logs of stopped runs may take until they are reported.
    pub(crate) kept_logs: Arc<tokio::sync::Semaphore>,
    /// How many bytes of inputs are kept for runs that wait for a place.
    pub(crate) inputs: tokio::sync::Semaphore,
}

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Something in the configuration can't be.
    #[error("{0}")]
    Configuration(String),
    /// The server does not want this node.
    #[error("{0}")]
    Refused(String),
    /// The cluster can't be used.
    #[error("{0}")]
    Cluster(String),
    /// Another process of this node acts now: this one is to begin anew, and stands by then.
    #[error("{0}")]
    TakenOver(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Refused(_) => 3,
            Self::Cluster(_) => 4,
            Self::TakenOver(_) | Self::Other(_) => 1,
        }
    }
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(text) => Self::Configuration(text),
            StartError::Cluster(text) => Self::Cluster(text),
        }
    }
}

/// Runs the node until a signal ends it. Runs under way are left alone: the next process goes on with them.
///
/// # Errors
/// What keeps a node from running: see [`NodeError`].
pub async fn run(config: Config) -> Result<(), NodeError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stop = async {
        let other = |error| NodeError::Other(format!("signals can't be heard: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        tokio::select! {
            _ = terminate.recv() => info!("ending at SIGTERM; runs under way go on, and are reported by the next start"),
            _ = interrupt.recv() => info!("ending at SIGINT; runs under way go on, and are reported by the next start"),
        }
        Ok(())
    };
    let hold = Arc::new(Hold::default());
    let supervisor = Arc::new(Supervisor::default());
    let result = tokio::select! {
        result = serve(config, hold.clone(), supervisor.clone()) => result,
        failure = supervisor.failed() => Err(NodeError::Other(format!("{failure}, without which this node can't work; runs under way go on, and are reported by the next start"))),
        to = hold.lost() => Err(NodeError::TakenOver(format!("{to} has taken over from this process"))),
        result = stop => result,
    };
    hold.give_back().await;
    result
}

async fn serve(config: Config, hold: Arc<Hold>, supervisor: Arc<Supervisor>) -> Result<(), NodeError> {
    let health = Health::waiting_for(&[SERVER, ISOLATION, hold::PART]);
    if let Some(address) = config.health_listen {
        let listener = health::listen(address).await.map_err(NodeError::Configuration)?;
        supervisor.spawn("the health port", health::serve(listener, health.clone()));
        info!("The health port is open at {address}");
    }
    let (context, live) = start::start(config, health.clone(), hold, &supervisor).await?;
    supervisor.spawn("the watch of the launch gate", follow(context.runtime.gate(), health));
    let registry = Arc::new(Registry::new(context));
    sync::run(registry, live).await
}

/// A node that launches nothing is not ready.
async fn follow(mut gate: tokio::sync::watch::Receiver<Gate>, health: Arc<Health>) {
    loop {
        match &*gate.borrow_and_update() {
            Gate::Open => health.ready(ISOLATION),
            Gate::Shut(why) => health.unready(ISOLATION, why.clone()),
        }
        if gate.changed().await.is_err() {
            return;
        }
    }
}
