//! The beginning: log in, learn who this node is, agree with the server on encryption, open the live connection.

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

/// The pause between two tries to log in.
const PAUSE: Duration = Duration::from_secs(5);
/// What passes in a moment is tried again at once; everything longer is the caller's business, who says what waits.
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

/// The client for a node's server, which has not said anything yet.
///
/// # Errors
/// If there is something wrong with the server's address, or certificates can't be read.
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

/// Records each request in the metrics. The certificate is parsed when it changes.
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

/// What the server says of this node.
#[derive(Debug)]
pub struct Me(vantage6::Node);

impl Me {
    /// The node's number.
    pub fn node(&self) -> NodeId {
        self.0.id
    }

    /// Whose node it is.
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
    /// As the configuration says.
    ///
    /// # Errors
    /// If there is something wrong with it.
    pub fn new(config: &Config) -> Result<Self, NodeError> {
        let cryptor = config.encryption.cryptor().map_err(NodeError::Configuration)?;
        Ok(Self { client: client(config)?, cryptor })
    }

    /// The same, with its requests counted.
    ///
    /// # Errors
    /// If there is something wrong with the configuration.
    pub fn measured(config: &Config, metrics: ServerMetrics) -> Result<Self, NodeError> {
        let known = Mutex::default();
        let client = builder(config)?.observer(move |end| count(&metrics, end, &known)).build();
        Ok(Self { client: client.map_err(|error| NodeError::Configuration(error.to_string()))?, ..Self::new(config)? })
    }

    /// The address of the server's API.
    pub fn url(&self) -> String {
        self.client.url().to_string()
    }

    /// Logs in, as soon as the server is there, and learns who this node is.
    ///
    /// # Errors
    /// If the server does not know this node.
    pub async fn log_in(&self) -> Result<Me, NodeError> {
        Ok(Me(answer(&self.client, || self.client.whoami()).await?))
    }

    /// Opens the live connection. A node that turns out not to [agree](Self::hello) with its server has been online there for a moment.
    ///
    /// # Errors
    /// If there is something wrong with the settings.
    pub fn open(&self) -> Result<(Server, HubEvents), NodeError> {
        let (live, events) =
            connect(&self.client, LiveOptions::default()).map_err(|error| NodeError::Other(error.to_string()))?;
        Ok((Server::new(self.client.clone(), self.cryptor.clone(), Some(live)), into_stream(events)))
    }

    /// The server without a live connection, for reading.
    pub fn without_events(self) -> Server {
        Server::new(self.client, self.cryptor, None)
    }

    /// Agrees with the server on encryption.
    ///
    /// # Errors
    /// If they don't agree.
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

/// The server's answer; waits while the server is unavailable.
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

/// What the server says to a public key.
enum Published {
    /// It has it now.
    Yes,
    /// It does not let this node put it there; in words.
    Refused(String),
}

/// Puts the organization's public key at the server.
async fn publish(client: &Client, organization: OrganizationId, key: &PublicKey) -> Result<Published, Error> {
    match client.set_public_key(organization, &key.to_server()).await {
        Err(error) if matches!(error.status(), Some(401 | 403)) => Ok(Published::Refused(format!(
            "Organization {organization} has no public key at the server, and this node may not upload it: {error}. \
             An administrator can; `sextant keys show FILE` prints it."
        ))),
        other => other.map(|()| Published::Yes),
    }
}
