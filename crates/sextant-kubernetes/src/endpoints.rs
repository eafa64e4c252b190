//! How pods reach this node: the addresses of its data port and its proxy, and the pinned key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::ServerConfig;
use sextant_config::{Config, KubernetesConfig};
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_process::listening;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::warn;

use super::{Connected, address, cluster, secrets};
use crate::data_port::keys::NodeSecret;
use crate::data_port::tls;
use crate::decisions::job::DataPortForPods;
use crate::decisions::network_policy::Endpoints;

/// The default port of a proxy whose address has none.
const PROXY: u16 = 8080;

/// All that pods need to reach this node, and all that the node needs to be reached.
pub struct NodeEndpoints {
    /// The addresses that pods get.
    pub endpoints: Endpoints,
    /// The node's secret, from which the keys of runs derive.
    pub secret: Arc<NodeSecret>,
    /// The data port's side of TLS.
    pub tls: ServerConfig,
    /// The data port's address and pin, as pods get them.
    pub data_port: DataPortForPods,
    /// The Secrets with which images are pulled.
    pub pull_secrets: Vec<String>,
}

impl NodeEndpoints {
    /// Determines the endpoints, and creates the Secrets that do not exist yet. `port` is the data port's on this machine.
    ///
    /// # Errors
    /// If a configured name can't be resolved, or the cluster refuses a request.
    pub async fn find(
        connected: &Connected,
        config: &Config,
        settings: &KubernetesConfig,
        identity: &Identity,
        port: u16,
    ) -> Result<Self, NodeError> {
        let client = &connected.client;
        let api: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
        let host = connected.api_server.as_ref().map(|(host, _)| host.as_str());
        let (endpoints, secret) =
            tokio::try_join!(endpoints_from(settings, client, host, port), secrets::of_node(&api, identity))?;
        let (tls, pin) = tls::server(&secret).map_err(|error| NodeError::Configuration(error.to_string()))?;
        let mut pull_secrets = settings.image_pull_secrets.clone();
        if !config.docker_registries.is_empty() {
            pull_secrets.push(secrets::of_registries(&api, identity, &config.docker_registries).await?);
        }
        let data_port = DataPortForPods { address: endpoints.data_port.to_string(), pin };
        Ok(Self { endpoints, secret: Arc::new(secret), tls, data_port, pull_secrets })
    }
}

async fn endpoints_from(
    settings: &KubernetesConfig,
    client: &Client,
    api_server: Option<&str>,
    port: u16,
) -> Result<Endpoints, NodeError> {
    let data_port = address::for_pods(settings, client, api_server, port).await?;
    Ok(Endpoints { data_port, proxy: proxy(settings, data_port).await? })
}

/// The addresses of data port and proxy that a node running here would give to pods.
///
/// # Errors
/// If a configured name can't be resolved, or if the cluster is needed for an address and can't be used.
pub async fn endpoints(settings: &KubernetesConfig) -> Result<Endpoints, NodeError> {
    let port = settings.data_port.listen.port();
    let data_port = match &settings.data_port.address {
        Some(address) => address::configured("data_port", address, port, None).await?,
        None => {
            let access = cluster::access(settings).await?;
            let client = cluster::connect(&access).await?;
            address::for_pods(settings, &client, access.address().host(), port).await?
        }
    };
    Ok(Endpoints { data_port, proxy: proxy(settings, data_port).await? })
}

/// The address of a separate proxy, or else that of the node, which is the data port's.
async fn proxy(settings: &KubernetesConfig, data_port: SocketAddr) -> Result<SocketAddr, NodeError> {
    match &settings.proxy.address {
        Some(address) => address::configured("proxy", address, PROXY, Some(data_port.ip())).await,
        None => Ok(SocketAddr::new(data_port.ip(), settings.proxy.listen.port())),
    }
}

/// Opens a port for pods, which the setting `kubernetes.<what>.listen` names. After a takeover, the previous leader may still have the port
/// if it hangs on the same machine; then this waits for it.
pub async fn listen(what: &str, address: SocketAddr, taken_over: bool) -> Result<TcpListener, NodeError> {
    let mut told = false;
    loop {
        match listening::listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if taken_over && error.kind() == std::io::ErrorKind::AddrInUse => {
                if !told {
                    warn!("Waiting for the port {address}: the previous leader still has the port");
                    told = true;
                }
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                return Err(NodeError::Configuration(format!(
                    "The port for pods at {address} can't be opened: {error}. Set `kubernetes.{what}.listen` to an address and port \
                     that are free."
                )));
            }
        }
    }
}
