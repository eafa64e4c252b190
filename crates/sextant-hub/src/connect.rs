//! Connects to the server: logs in, learns which node this is, checks that both sides agree on encryption, opens the live connection.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use printable::excerpt;
use sextant_config::Config;
use sextant_core::hub::{HubEvents, Node};
use sextant_core::node_error::NodeError;
use sextant_metrics::{Answer, ServerMetrics};
use tracing::{error, info, warn};
use vantage6::encryption::{Cryptor, PublicKey};
use vantage6::live::{LiveEvents, LiveOptions, connect};
use vantage6::{Backoff, Client, ClientBuilder, Error, NodeId, OrganizationId, RequestEnd, ServerUrl};

use super::encryption::{Disagreement, agree, has_key};
use super::{Server, convert};

/// The pause between two login attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// Retries within a request are short. The caller handles longer outages, because it can log what is waiting.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(2),
    patience: Some(Duration::from_secs(5)),
};

impl From<Disagreement> for NodeError {
    fn from(why: Disagreement) -> Self {
        Self::Refused(why.to_string())
    }
}

/// Creates the client for a node's server, without connecting.
///
/// # Errors
/// If the server's address is invalid, or certificates can't be read.
pub fn client(config: &Config) -> Result<Client, NodeError> {
    let builder = builder(config)?;
    builder.build().map_err(|error| NodeError::Configuration(error.to_string()))
}

fn builder(config: &Config) -> Result<ClientBuilder, NodeError> {
    let url = ServerUrl::new(&config.server_url, config.port, &config.api_path)
        .map_err(|error| NodeError::Configuration(error.to_string()))?;
    let mut builder = Client::builder(url, config.api_key.clone()).backoff(BACKOFF);
    if let Some(path) = &config.ca_certificates {
        builder = builder.ca_file(path);
    }
    Ok(builder)
}

/// Records each request in the metrics. The certificate is parsed only when it changes.
fn count(metrics: &ServerMetrics, end: &RequestEnd<'_>, known: &Mutex<Vec<u8>>) {
    let date = end.date.map(jiff::Timestamp::as_second);
    metrics.ended(Answer { method: end.method, path: end.path, status: end.status, took: end.took, date });
    let Some(certificate) = end.certificate else { return };
    let mut known = known.lock();
    if *known != certificate {
        certificate.clone_into(&mut known);
        if let Some(at) = outbound::trust::ends(certificate) {
            metrics.certificate_ends(at);
        }
    }
}

/// The server's description of this node.
#[derive(Debug)]
pub struct Me(vantage6::Node);

impl Me {
    /// The node's ID.
    pub fn node(&self) -> NodeId {
        self.0.id
    }

    /// The node's organization.
    pub fn organization(&self) -> OrganizationId {
        self.0.organization
    }
}

/// A connection to a server that has not been used yet.
pub struct Connection {
    client: Client,
    cryptor: Cryptor,
}

impl Connection {
    /// Creates a connection from the configuration.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn new(config: &Config) -> Result<Self, NodeError> {
        let cryptor = config.encryption.cryptor().map_err(NodeError::Configuration)?;
        Ok(Self { client: client(config)?, cryptor })
    }

    /// Creates a connection whose requests are counted.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn measured(config: &Config, metrics: ServerMetrics) -> Result<Self, NodeError> {
        let known = Mutex::default();
        let client = builder(config)?.observer(move |end| count(&metrics, end, &known)).build();
        Ok(Self { client: client.map_err(|error| NodeError::Configuration(error.to_string()))?, ..Self::new(config)? })
    }

    /// The address of the server's API.
    pub fn url(&self) -> String {
        self.client.url().to_string()
    }

    /// Logs in, waiting while the server is unavailable, and returns which node this is.
    ///
    /// # Errors
    /// If the server does not know this node.
    pub async fn log_in(&self) -> Result<Me, NodeError> {
        Ok(Me(answer(&self.client, || self.client.whoami()).await?))
    }

    /// Opens the live connection. A node that turns out not to [agree](Self::hello) with its server is online there for a moment.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn open(&self) -> Result<(Server, HubEvents), NodeError> {
        let (live, events) =
            connect(&self.client, LiveOptions::default()).map_err(|error| NodeError::Other(error.to_string()))?;
        Ok((Server::new(self.client.clone(), self.cryptor.clone(), Some(live)), into_stream(events)))
    }

    /// The server without a live connection, for reading.
    pub fn without_events(self) -> Server {
        Server::new(self.client, self.cryptor, None)
    }

    /// Checks that node and server agree on encryption, and uploads the organization's public key if the server has none.
    ///
    /// # Errors
    /// If they do not agree.
    pub async fn hello(&self, Me(me): &Me) -> Result<Node, NodeError> {
        let client = &self.client;
        let collaboration = answer(client, || client.collaboration(me.collaboration)).await?;
        if let Some(key) = agree(&self.cryptor, &collaboration)? {
            let organization = answer(client, || client.organization(me.organization)).await?;
            if !has_key(&organization, key)? {
                match answer(client, || publish(client, me.organization, key)).await? {
                    Published::Yes => {}
                    Published::Refused(why) => return Err(NodeError::Refused(why)),
                }
                info!(
                    "The organization had no public key at the server; the node uploaded this one: {}",
                    key.fingerprint()
                );
            }
            info!(
                "Inputs and results are encrypted; the fingerprint of this organization's key is {}",
                key.fingerprint()
            );
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
        Ok(convert::node(me))
    }
}

fn into_stream(events: LiveEvents) -> HubEvents {
    let events = stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) });
    events.filter_map(async |event| convert::event(event)).boxed()
}

/// Repeats a request until the server answers it.
async fn answer<T, F>(client: &Client, ask: impl Fn() -> F) -> Result<T, NodeError>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error @ Error::WrongApiKey { .. }) => return Err(NodeError::Refused(error.to_string())),
            Err(error @ Error::Tls { .. }) => {
                error!("Can't use {}: {error}. Retrying in {} s.", client.url(), PAUSE.as_secs());
            }
            Err(error) if error.is_transient() => {
                warn!("The server at {} can't be reached: {error}. Retrying in {} s.", client.url(), PAUSE.as_secs());
            }
            Err(error) => {
                error!(
                    "{} does not answer as a vantage6 server: {error}. Are server_url, port and api_path right? Retrying in {} s.",
                    client.url(),
                    PAUSE.as_secs()
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The server's response to a public key.
enum Published {
    /// The server has stored it.
    Yes,
    /// The server does not allow this node to upload it, with an explanation.
    Refused(String),
}

/// Uploads the organization's public key.
async fn publish(client: &Client, organization: OrganizationId, key: &PublicKey) -> Result<Published, Error> {
    match client.set_public_key(organization, &key.to_server()).await {
        Err(error) if matches!(error.status(), Some(401 | 403)) => Ok(Published::Refused(format!(
            "Organization {organization} has no public key at the server, and this node may not upload it: {error}. \
             An administrator can; `sextant keys show FILE` prints it."
        ))),
        other => other.map(|()| Published::Yes),
    }
}
