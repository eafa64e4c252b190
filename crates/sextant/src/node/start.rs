//! The beginning: reach the server and what runs the algorithms, and make everything that the node needs.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::announce::Announcer;
use super::origins::Origins;
use super::places::Places;
use super::report::{KEPT_LOGS, LOGS};
use super::supplies::Supplies;
use super::turn::INPUTS;
use super::{Context, NodeError};
use crate::config::{Config, RuntimeConfig};
use crate::core::hub::{Hub, HubEvents};
use crate::core::mask::Mask;
use crate::core::names::Identity;
use crate::core::secrets;
use crate::core::situation::Limits;
use crate::health::Health;
use crate::hold::Hold;
use crate::hub::Connection;
use crate::runtime::Runtime;
use crate::runtime::kubernetes::{Connected, Kubernetes};
use crate::runtime::local::{self, Local};
use crate::supervisor::Supervisor;

/// How long a local algorithm may take to be started: nothing has to be found or pulled for it.
const LOCAL_START: Duration = Duration::from_secs(60);

/// Makes everything that the node needs.
///
/// # Errors
/// What keeps it from running at all; what is merely away is waited for.
pub async fn start(
    config: Config,
    health: Arc<Health>,
    hold: Arc<Hold>,
    supervisor: &Supervisor,
) -> Result<(Context, HubEvents), NodeError> {
    let connection = Connection::new(&config)?;
    info!("Sextant {} connects to the vantage6 server at {}", env!("CARGO_PKG_VERSION"), connection.url());
    let mask = Mask::new(secrets::of(&config)).map_err(|error| NodeError::Configuration(error.to_string()))?;
    // Server and cluster are reached at the same time: whichever is slow is waited for once, unless the other can't be used at all.
    let (node, mut connected) = tokio::try_join!(connection.log_in(), async {
        match &config.runtime {
            RuntimeConfig::Kubernetes(settings) => Ok(Some(Connected::open(settings).await?)),
            RuntimeConfig::Local(_) => Ok::<_, NodeError>(None),
        }
    })?;
    let identity = Identity::of(&config, node);
    stand_by(&config, connected.as_mut(), &identity, &hold, &health, supervisor).await?;

    // All of this waits for somebody's answers, so it is done at the same time too.
    let (server, events) = connection.open()?;
    let hub: Arc<dyn Hub> = Arc::new(server);
    let supplies = Arc::new(Supplies::new(hub.clone()));
    let (me, started) = tokio::try_join!(
        connection.hello(),
        runtime(&config, connected, identity, supplies.clone(), &health, supervisor)
    )?;
    let Started { runtime, limits, places } = started;
    let context = Context {
        announcer: Announcer::new(hub.clone(), me.clone(), &config),
        places: places.map(|places| Places::new(places.get())),
        inputs: tokio::sync::Semaphore::new(INPUTS),
        logs: Arc::new(tokio::sync::Semaphore::new(LOGS)),
        kept_logs: Arc::new(tokio::sync::Semaphore::new(KEPT_LOGS)),
        origins: Origins::new(hub.clone()),
        config,
        hub,
        me,
        runtime,
        supplies,
        limits,
        mask,
        health,
        hold,
    };
    Ok((context, events))
}

/// Waits until this process is the one of its node that acts. Until then it is not online, and its data port is closed.
async fn stand_by(
    config: &Config,
    connected: Option<&mut Connected>,
    identity: &Identity,
    hold: &Arc<Hold>,
    health: &Arc<Health>,
    supervisor: &Supervisor,
) -> Result<(), NodeError> {
    match (&config.runtime, connected) {
        (RuntimeConfig::Kubernetes(settings), Some(connected)) => {
            connected.acquire(&settings.namespace, identity, hold.clone(), health.clone(), supervisor).await;
            Ok(())
        }
        (RuntimeConfig::Kubernetes(_), None) => Ok(()),
        (RuntimeConfig::Local(_), _) => {
            local::acquire(config, identity, hold.clone(), health, supervisor).await.map_err(NodeError::Configuration)
        }
    }
}

/// The runtime, and what the configuration sets for it.
struct Started {
    runtime: Arc<dyn Runtime>,
    limits: Limits,
    places: Option<NonZeroUsize>,
}

async fn runtime(
    config: &Config,
    connected: Option<Connected>,
    identity: Identity,
    supplies: Arc<Supplies>,
    health: &Health,
    supervisor: &Supervisor,
) -> Result<Started, NodeError> {
    match (&config.runtime, connected) {
        (RuntimeConfig::Kubernetes(settings), Some(connected)) => Ok(Started {
            runtime: Arc::new(
                Kubernetes::start(connected, config, settings, identity, supplies, health, supervisor).await?,
            ),
            limits: Limits {
                pending: settings.pending_timeout,
                image_pull: settings.image_pull_timeout,
                deadline: settings.deadline,
                retry_disrupted: settings.retry_disrupted,
                output: settings.output_limit,
            },
            places: settings.max_concurrent_runs,
        }),
        (RuntimeConfig::Kubernetes(_), None) => Err(NodeError::Other("the cluster was not connected".into())),
        (RuntimeConfig::Local(settings), _) => Ok(Started {
            runtime: Arc::new(
                Local::start(config, settings, &identity, supplies, health, supervisor)
                    .map_err(NodeError::Configuration)?,
            ),
            limits: Limits {
                pending: LOCAL_START,
                image_pull: LOCAL_START,
                deadline: settings.deadline,
                retry_disrupted: 0,
                output: None,
            },
            places: settings.max_concurrent_runs,
        }),
    }
}
