//! The node: finds runs and takes each of them to its one report. It knows only the two ports: `Hub`, the server, and `Runtime`, which runs
//! the algorithms.
//!
//! ```text
//!   live events ─▶ listen ─▶ sync ─▶ registry ─▶ reconciler (one task per run) ─▶ runtime
//!             every minute ─▶ ┘             └─▶ report ─▶ server
//! ```

mod admission;
mod database_parameters;
mod early_starts;
mod image_check;
mod listen;
mod live_log;
mod live_status;
mod machine_metrics;
mod metrics;
mod new_tasks;
mod origins;
mod oversized;
mod pending;
mod reconciler;
mod registry;
mod report;
mod run_inputs;
mod slots;
mod sync;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sextant_core::gate::Gate;
use sextant_core::hub::{Hub, HubEvents, Node, NodeInfo};
use sextant_core::leadership::Leadership;
use sextant_core::masks::Masks;
use sextant_core::node_error::NodeError;
use sextant_core::policies::Policies;
use sextant_core::registries::Registries;
use sextant_core::run_state::Limits;
use sextant_core::runtime::Runtime;
use sextant_metrics::NodeMetrics;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use tokio::sync::Semaphore;

use self::early_starts::EarlyStarts;
use self::live_log::LiveLogs;
use self::live_status::StatusPublisher;
use self::origins::Origins;
use self::registry::Registry;
use self::report::{KEPT_LOGS, LOGS};
pub use self::run_inputs::RunInputs;
use self::slots::{KEPT_INPUTS, RunSlots};

/// The part of the node's health that is its live connection to the server.
pub const SERVER: &str = "server";

/// The part of the node's health for the network isolation.
pub const ISOLATION: &str = "isolation";

/// What a node is made between: its two ports, and what belongs to them.
pub struct Parts {
    /// The server.
    pub hub: Arc<dyn Hub>,
    /// What happens on the live connection to it.
    pub events: HubEvents,
    /// This node, as the server knows it.
    pub me: Node,
    /// What runs the algorithms.
    pub runtime: Arc<dyn Runtime>,
    /// Whom the policies have asked for the content of images.
    pub registries: Arc<dyn Registries>,
    /// What the runtime asks for a run's input and token.
    pub run_inputs: Arc<RunInputs>,
    /// What the owner has set.
    pub settings: Settings,
    /// What the process says of itself; it has the parts [`SERVER`] and [`ISOLATION`].
    pub health: Arc<Health>,
    /// What is counted of runs.
    pub metrics: NodeMetrics,
    /// Whether this process may act; it is asked before each action.
    pub leadership: Arc<Leadership>,
}

/// What the owner of the node has set.
pub struct Settings {
    /// Which algorithms may run, and for whom.
    pub policies: Policies,
    /// Whether researchers may read what algorithms print.
    pub share_algorithm_logs: bool,
    /// How often the server is told how busy this node is; `None`: never.
    pub report_metrics: Option<Duration>,
    /// Whether the runs of one job share a folder.
    pub shares_tmp: bool,
    /// What others may know of how this node is set up; `None`: nothing.
    pub info: Option<NodeInfo>,
    /// How long things may take, and how large they may be.
    pub limits: Limits,
    /// The limit of concurrent runs; `None`: no limit.
    pub max_concurrent_runs: Option<NonZeroUsize>,
    /// What a researcher must not read in logs.
    pub masks: Masks,
}

/// What every part of the node needs.
pub(crate) struct Context {
    pub(crate) hub: Arc<dyn Hub>,
    pub(crate) me: Node,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) registries: Arc<dyn Registries>,
    pub(crate) origins: Origins,
    pub(crate) run_inputs: Arc<RunInputs>,
    pub(crate) status_publisher: StatusPublisher,
    pub(crate) early_starts: EarlyStarts,
    pub(crate) policies: Policies,
    pub(crate) share_algorithm_logs: bool,
    pub(crate) live_logs: LiveLogs,
    pub(crate) report_metrics: Option<Duration>,
    pub(crate) shares_tmp: bool,
    pub(crate) limits: Limits,
    pub(crate) masks: Masks,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: NodeMetrics,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) slots: Option<Arc<RunSlots>>,
    /// How many bytes the logs of reports under way may take.
    pub(crate) logs: Arc<Semaphore>,
    /// How many bytes the logs of stopped runs may take until they are reported.
    pub(crate) kept_logs: Arc<Semaphore>,
    /// How many bytes of inputs are kept for runs that wait for a slot.
    pub(crate) inputs: Semaphore,
    /// For what tasks say of their databases.
    pub(crate) databases: database_parameters::ParameterBudget,
}

impl Context {
    /// The parts put together, and the events to listen to.
    pub(crate) fn new(parts: Parts) -> (Self, HubEvents) {
        let Parts { hub, events, me, runtime, registries, run_inputs, settings, health, metrics, leadership } = parts;
        let Settings {
            policies,
            share_algorithm_logs,
            report_metrics,
            shares_tmp,
            info,
            limits,
            max_concurrent_runs,
            masks,
        } = settings;
        let context = Self {
            early_starts: EarlyStarts::new(hub.clone(), leadership.clone()),
            status_publisher: StatusPublisher::new(hub.clone(), me.clone(), info),
            slots: max_concurrent_runs.map(|runs| RunSlots::new(runs.get())),
            inputs: Semaphore::new(KEPT_INPUTS),
            databases: database_parameters::ParameterBudget::default(),
            logs: Arc::new(Semaphore::new(LOGS)),
            kept_logs: Arc::new(Semaphore::new(KEPT_LOGS)),
            origins: Origins::new(hub.clone()),
            policies,
            share_algorithm_logs,
            live_logs: LiveLogs::default(),
            report_metrics,
            shares_tmp,
            hub,
            me,
            runtime,
            registries,
            run_inputs,
            limits,
            masks,
            health,
            metrics,
            leadership,
        };
        (context, events)
    }
}

/// Does the node's work; it never ends.
///
/// # Errors
/// If the server does not want this node any more, or the live connection was ended from this side.
pub async fn serve(parts: Parts, supervisor: &Supervisor) -> Result<(), NodeError> {
    let (context, events) = Context::new(parts);
    supervisor.spawn("the watch of the launch gate", follow(context.runtime.gate(), context.health.clone()));
    sync::run(Arc::new(Registry::new(context)), events).await
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
