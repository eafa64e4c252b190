//! The node: finds runs, executes them and reports each of them once. It depends on two ports only: `Hub`, the server, and `Runtime`,
//! which runs the algorithms.
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
mod signal;
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

/// The health component of the live connection to the server.
pub const SERVER: &str = "server";

/// The health component of the network isolation.
pub const ISOLATION: &str = "isolation";

/// Everything that a node is built from: its two ports, and what belongs to them.
pub struct Parts {
    /// The server.
    pub hub: Arc<dyn Hub>,
    /// The events of the live connection to the server.
    pub events: HubEvents,
    /// This node's record at the server.
    pub me: Node,
    /// The runtime, which runs the algorithms.
    pub runtime: Arc<dyn Runtime>,
    /// The registries, which the policies ask for images' digests.
    pub registries: Arc<dyn Registries>,
    /// The source of runs' inputs and tokens for the runtime.
    pub run_inputs: Arc<RunInputs>,
    /// The owner's settings.
    pub settings: Settings,
    /// The health of this process, with the components [`SERVER`] and [`ISOLATION`].
    pub health: Arc<Health>,
    /// The metrics of runs.
    pub metrics: NodeMetrics,
    /// Whether this process is the leader, which is checked before each action.
    pub leadership: Arc<Leadership>,
}

/// The settings of the node's owner.
pub struct Settings {
    /// Which algorithms may run, and for whom.
    pub policies: Policies,
    /// Whether researchers may read what algorithms print.
    pub share_algorithm_logs: bool,
    /// How often this node's load is reported to the server; `None`: never.
    pub report_metrics: Option<Duration>,
    /// Whether the runs of one job share a folder.
    pub shares_tmp: bool,
    /// The configuration to share with users of the server; `None`: none of it.
    pub info: Option<NodeInfo>,
    /// Limits of time and size.
    pub limits: Limits,
    /// The limit of concurrent runs; `None`: no limit.
    pub max_concurrent_runs: Option<NonZeroUsize>,
    /// The secrets to mask in logs.
    pub masks: Masks,
}

/// What all modules of the node share.
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
    /// The memory for logs of reports in flight, in bytes.
    pub(crate) logs: Arc<Semaphore>,
    /// The memory for logs of stopped runs until they are reported, in bytes.
    pub(crate) kept_logs: Arc<Semaphore>,
    /// The memory for inputs of runs that wait for a slot, in bytes.
    pub(crate) inputs: Semaphore,
    /// The memory for tasks' database parameters.
    pub(crate) databases: database_parameters::ParameterBudget,
}

impl Context {
    /// Builds the context, and returns it with the events to listen to.
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

/// Runs the node. Returns only with an error.
///
/// # Errors
/// If the server rejects this node, or this process closed the live connection.
pub async fn serve(parts: Parts, supervisor: &Supervisor) -> Result<(), NodeError> {
    let (context, events) = Context::new(parts);
    supervisor.spawn("the watch of the launch gate", follow(context.runtime.gate(), context.health.clone()));
    sync::run(Arc::new(Registry::new(context)), events).await
}

/// Keeps the node's readiness in step with the launch gate: a node that launches nothing is not ready.
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
