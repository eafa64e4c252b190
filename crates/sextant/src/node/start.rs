//! The beginning: log in, agree with the server on encryption, reach the cluster, open the live connection.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use printable::excerpt;
use tracing::{error, info, warn};
use vantage6::encryption::{Cryptor, PublicKey};
use vantage6::live::{LiveEvents, LiveOptions, connect};
use vantage6::{Backoff, Client, Node, NodeId, OrganizationId, ServerUrl};

use super::announce::Announcer;
use super::origins::Origins;
use super::places::Places;
use super::recipients::Recipients;
use super::report::{KEPT_LOGS, LOGS};
use super::supplies::Supplies;
use super::turn::INPUTS;
use super::{Context, NodeError};
use crate::config::{Config, RuntimeConfig};
use crate::core::encryption::{Disagreement, agree, has_key};
use crate::core::mask::Mask;
use crate::core::names::Identity;
use crate::core::secrets;
use crate::core::situation::Limits;
use crate::health::Health;
use crate::hold::Hold;
use crate::hub::{Hub, Server};
use crate::runtime::Runtime;
use crate::runtime::kubernetes::{Connected, Kubernetes};
use crate::runtime::local::{self, Local};
use crate::supervisor::Supervisor;

/// The pause between two tries to log in.
const PAUSE: Duration = Duration::from_secs(5);
/// What passes in a moment is tried again at once; everything longer is this node's business, which says what waits.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(2),
    patience: Some(Duration::from_secs(5)),
};
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
) -> Result<(Context, LiveEvents), NodeError> {
    let client = client(&config)?;
    info!("Sextant {} connects to the vantage6 server at {}", env!("CARGO_PKG_VERSION"), client.url());
    let cryptor = config.encryption.cryptor().map_err(NodeError::Configuration)?;
    let mask = Mask::new(secrets::of(&config)).map_err(|error| NodeError::Configuration(error.to_string()))?;
    // Server and cluster are reached at the same time: whichever is slow is waited for once, unless the other can't be used at all.
    let (node, mut connected) = tokio::try_join!(log_in(&client), async {
        match &config.runtime {
            RuntimeConfig::Kubernetes(settings) => Ok(Some(Connected::open(settings).await?)),
            RuntimeConfig::Local(_) => Ok::<_, NodeError>(None),
        }
    })?;
    let identity = Identity::of(&config, node);
    stand_by(&config, connected.as_mut(), &identity, &hold, &health, supervisor).await?;

    // All of this waits for somebody's answers, so it is done at the same time too. A node that turns out not to agree with its
    // server has been online there for a moment.
    let (live, events) =
        connect(&client, LiveOptions::default()).map_err(|error| NodeError::Other(error.to_string()))?;
    let hub: Arc<dyn Hub> = Arc::new(Server::new(client.clone(), live));
    let supplies = Arc::new(Supplies::new(hub.clone(), cryptor.clone()));
    let (me, started) = tokio::try_join!(
        hello(&client, &cryptor),
        runtime(&config, connected, identity, supplies.clone(), &health, supervisor)
    )?;
    let Started { runtime, limits, places } = started;
    let context = Context {
        announcer: Announcer::new(hub.clone(), me.clone(), &config),
        places: places.map(|places| Places::new(places.get())),
        inputs: tokio::sync::Semaphore::new(INPUTS),
        logs: Arc::new(tokio::sync::Semaphore::new(LOGS)),
        kept_logs: Arc::new(tokio::sync::Semaphore::new(KEPT_LOGS)),
        recipients: Recipients::new(hub.clone(), cryptor.is_encrypted()),
        origins: Origins::new(hub.clone()),
        cryptor,
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

/// The node's client for its server, which has not said anything yet.
///
/// # Errors
/// If there is something wrong with the server's address, or certificates can't be read.
pub(crate) fn client(config: &Config) -> Result<Client, NodeError> {
    let url = ServerUrl::new(&config.server_url, config.port, &config.api_path)
        .map_err(|error| NodeError::Configuration(error.to_string()))?;
    let mut builder = Client::builder(url, config.api_key.clone()).backoff(BACKOFF);
    if let Some(path) = &config.ca_certificates {
        builder = builder.ca_file(path);
    }
    builder.build().map_err(|error| NodeError::Configuration(error.to_string()))
}

/// Logs in: the node's number.
async fn log_in(client: &Client) -> Result<NodeId, NodeError> {
    answer(client, || client.node_id()).await
}

/// Learns who this node is, and agrees with the server on encryption.
async fn hello(client: &Client, cryptor: &Cryptor) -> Result<Node, NodeError> {
    let refused = |why: Disagreement| NodeError::Refused(why.to_string());
    let me = answer(client, || client.whoami()).await?;
    let collaboration = answer(client, || client.collaboration(me.collaboration)).await?;
    if let Some(key) = agree(cryptor, &collaboration).map_err(refused)? {
        let organization = answer(client, || client.organization(me.organization)).await?;
        if !has_key(&organization, key).map_err(refused)? {
            answer(client, || publish(client, me.organization, key)).await??;
            info!("The organization had no public key at the server; it has this one now: {}", key.fingerprint());
        }
        info!("Inputs and results are encrypted; the fingerprint of this organization's key is {}", key.fingerprint());
    }
    info!(
        "This is node {} '{}' of organization {} in collaboration {} '{}' at {}",
        me.id,
        excerpt(&me.name),
        me.organization,
        collaboration.id,
        excerpt(&collaboration.name),
        client.url()
    );
    Ok(me)
}

/// The server's answer, waited for as long as the server is away.
async fn answer<T, F>(client: &Client, ask: impl Fn() -> F) -> Result<T, NodeError>
where
    F: Future<Output = Result<T, vantage6::Error>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error @ vantage6::Error::WrongApiKey { .. }) => return Err(NodeError::Refused(error.to_string())),
            Err(error @ vantage6::Error::Tls { .. }) => {
                error!("{} can't be used: {error}. Trying again in {} s.", client.url(), PAUSE.as_secs());
            }
            Err(error) if error.is_transient() => {
                warn!(
                    "The server at {} can't be reached: {error}. Trying again in {} s.",
                    client.url(),
                    PAUSE.as_secs()
                );
            }
            Err(error) => {
                error!(
                    "{} does not answer as a vantage6 server: {error}. Are server_url, port and api_path right? Trying again in {} s.",
                    client.url(),
                    PAUSE.as_secs()
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts the organization's public key at the server. The inner error is for a server that does not let this node do that.
async fn publish(
    client: &Client,
    organization: OrganizationId,
    key: &PublicKey,
) -> Result<Result<(), NodeError>, vantage6::Error> {
    match client.set_public_key(organization, &key.to_server()).await {
        Err(error) if matches!(error.status(), Some(401 | 403)) => Ok(Err(NodeError::Refused(format!(
            "Organization {organization} has no public key at the server, and this node may not put it there: {error}. An administrator \
             can; `sextant keys show FILE` prints it."
        )))),
        other => other.map(Ok),
    }
}
