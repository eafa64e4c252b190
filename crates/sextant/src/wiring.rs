//! `sextant node`: connects to the server and to the runtime, and starts the node between the two.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sextant_config::secrets;
use sextant_config::{Config, RuntimeConfig};
use sextant_core::hub::Hub;
use sextant_core::leadership::{self, Leadership};
use sextant_core::masks::Masks;
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_core::run_state::Limits;
use sextant_core::runtime::Runtime;
use sextant_hub::Connection;
use sextant_kubernetes::{Connected, Kubernetes};
use sextant_local::Local;
use sextant_node::{ISOLATION, Parts, RunInputs, SERVER, Settings};
use sextant_process::health::{self, Health};
use sextant_process::supervisor::Supervisor;
use sextant_registry::OciRegistries;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::node_info;

/// How long a local algorithm may take to start: no machine must be found and no image pulled.
const LOCAL_START: Duration = Duration::from_secs(60);

/// Runs the node until a signal ends it. Running algorithms continue, and the next process resumes them.
///
/// # Errors
/// What keeps a node from running; see [`NodeError`].
pub async fn run(config: Config) -> Result<(), NodeError> {
    let stop = async {
        let other = |error| NodeError::Other(format!("signals can't be received: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        tokio::select! {
            _ = terminate.recv() => info!("Ending at SIGTERM; running algorithms continue, and the next start reports them"),
            _ = interrupt.recv() => info!("Ending at SIGINT; running algorithms continue, and the next start reports them"),
        }
        Ok(())
    };
    let leadership = Arc::new(Leadership::default());
    let supervisor = Arc::new(Supervisor::default());
    let result = tokio::select! {
        result = serve(config, leadership.clone(), supervisor.clone()) => result,
        failure = supervisor.failed() => Err(NodeError::Other(format!("{failure}, without which this node can't \
            work; running algorithms continue, and the next start reports them"))),
        to = leadership.superseded() => Err(NodeError::TakenOver(format!("{to} has taken over from this process"))),
        result = stop => result,
    };
    leadership.release().await;
    result
}

async fn serve(config: Config, leadership: Arc<Leadership>, supervisor: Arc<Supervisor>) -> Result<(), NodeError> {
    let health = Health::waiting_for(&[SERVER, ISOLATION, leadership::PART]);
    if let Some(address) = config.health_listen {
        let listener = health::listen(address).map_err(NodeError::Configuration)?;
        supervisor.spawn("the health port", health::serve(listener, health.clone()));
        info!("The health port listens at {address}");
    }
    let parts = start(config, health, leadership, &supervisor).await?;
    sextant_node::serve(parts, &supervisor).await
}

/// Creates everything that the node needs.
///
/// # Errors
/// Permanent failures. The node retries for as long as a dependency is unavailable.
async fn start(
    mut config: Config,
    health: Arc<Health>,
    leadership: Arc<Leadership>,
    supervisor: &Supervisor,
) -> Result<Parts, NodeError> {
    // Registered before standing by, because the metric says who leads.
    let leads = leadership.clone();
    let metrics = health.metrics().node(move || leads.is_leader());
    let connection = Connection::measured(&config, health.metrics().server())?;
    info!("Sextant {} connects to the vantage6 server at {}", env!("CARGO_PKG_VERSION"), connection.url());
    let masks = Masks::new(secrets::of(&config)).map_err(|error| NodeError::Configuration(error.to_string()))?;
    // Connects to server and cluster concurrently, so that the waiting times don't add up. A permanent failure of either one ends both.
    let (me, mut connected) = tokio::try_join!(connection.log_in(), async {
        match &config.runtime {
            RuntimeConfig::Kubernetes(settings) => {
                Ok(Some(Connected::open(settings, health.metrics().kubernetes()).await?))
            }
            RuntimeConfig::Local(_) => Ok::<_, NodeError>(None),
        }
    })?;
    config.encryption =
        std::mem::take(&mut config.encryption).of_organization(me.organization()).map_err(NodeError::Configuration)?;
    let config = &config;
    let identity = config.identity(me.node());
    stand_by(config, connected.as_mut(), &identity, &leadership, &health, supervisor).await?;

    // These steps wait for responses too, so they also run concurrently.
    let (server, events) = connection.open()?;
    let hub: Arc<dyn Hub> = Arc::new(server);
    let run_inputs = Arc::new(RunInputs::new(hub.clone()));
    let registries = Arc::new(OciRegistries::new(config).map_err(NodeError::Configuration)?);
    let (me, started) = tokio::try_join!(
        connection.hello(&me),
        runtime(config, connected, identity, run_inputs.clone(), &health, supervisor)
    )?;
    let Started { runtime, limits, max_concurrent_runs } = started;
    let settings = Settings {
        policies: config.policies.clone(),
        share_algorithm_logs: config.share_algorithm_logs,
        report_metrics: config.report_metrics,
        shares_tmp: config.shares_tmp(),
        info: config.share_config.then(|| node_info::of(config)),
        limits,
        max_concurrent_runs,
        masks,
    };
    Ok(Parts { hub, events, me, runtime, registries, run_inputs, settings, health, metrics, leadership })
}

/// Waits until this process is the leader of its node. Until then it is not online, and its data port is closed.
async fn stand_by(
    config: &Config,
    connected: Option<&mut Connected>,
    identity: &Identity,
    leadership: &Arc<Leadership>,
    health: &Arc<Health>,
    supervisor: &Supervisor,
) -> Result<(), NodeError> {
    match (&config.runtime, connected) {
        (RuntimeConfig::Kubernetes(settings), Some(connected)) => {
            connected.acquire(&settings.namespace, identity, leadership.clone(), health.clone(), supervisor).await;
            Ok(())
        }
        (RuntimeConfig::Kubernetes(_), None) => Ok(()),
        (RuntimeConfig::Local(_), _) => {
            sextant_local::acquire(config, identity, leadership.clone(), health, supervisor)
                .await
                .map_err(NodeError::Configuration)
        }
    }
}

/// The runtime, with its settings from the configuration.
struct Started {
    runtime: Arc<dyn Runtime>,
    limits: Limits,
    max_concurrent_runs: Option<NonZeroUsize>,
}

async fn runtime(
    config: &Config,
    connected: Option<Connected>,
    identity: Identity,
    run_inputs: Arc<RunInputs>,
    health: &Health,
    supervisor: &Supervisor,
) -> Result<Started, NodeError> {
    match (&config.runtime, connected) {
        (RuntimeConfig::Kubernetes(settings), Some(connected)) => Ok(Started {
            runtime: Arc::new(
                Kubernetes::start(connected, config, settings, identity, run_inputs, health, supervisor).await?,
            ),
            limits: Limits {
                pending: settings.pending_timeout,
                image_pull: settings.image_pull_timeout,
                deadline: settings.deadline,
                retry_disrupted: settings.retry_disrupted,
                output: settings.output_limit,
            },
            max_concurrent_runs: settings.max_concurrent_runs,
        }),
        (RuntimeConfig::Kubernetes(_), None) => Err(NodeError::Other("the cluster was not connected".into())),
        (RuntimeConfig::Local(settings), _) => Ok(Started {
            runtime: Arc::new(
                Local::start(config, settings, &identity, run_inputs, health, supervisor)
                    .map_err(NodeError::Configuration)?,
            ),
            limits: Limits {
                pending: LOCAL_START,
                image_pull: LOCAL_START,
                deadline: settings.deadline,
                retry_disrupted: 0,
                output: Some(settings.output_limit),
            },
            max_concurrent_runs: settings.max_concurrent_runs,
        }),
    }
}
