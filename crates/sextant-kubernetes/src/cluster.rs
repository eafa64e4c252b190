//! The way into the cluster: kubeconfig or service account, and errors in words that say what to do.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use printable::excerpt_of;
use sextant_config::KubernetesConfig;
use sextant_core::node_error::NodeError;
use tracing::{info, warn};

/// How many characters of an error's words are kept.
const WORDS: usize = 2_000;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);
/// After so much silence a connection is given up: those that are kept for later ones, too, so that none of them that died unnoticed
/// (a firewall forgot it) costs a call its time. Longer than a quiet watch lasts ([`super::watch`]).
const SILENCE: Duration = Duration::from_secs(30);
/// The pause between two tries to reach a cluster that is away.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether this process is a pod of the cluster that it works in.
pub fn inside(config: &KubernetesConfig) -> bool {
    config.kubeconfig.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Reads how to reach the cluster.
///
/// # Errors
/// If there is no kubeconfig and this is no pod, or the kubeconfig can't be used.
pub async fn configuration(config: &KubernetesConfig) -> Result<Config, NodeError> {
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    let mut cluster = if inside(config) {
        Config::incluster().map_err(|error| {
            NodeError::Cluster(format!(
                "This pod's service account can't be used: {error}. Is automountServiceAccountToken on for the node's pod?"
            ))
        })?
    } else {
        let file = config.kubeconfig.as_deref();
        from_file(file, &options).await.map_err(|error| {
            NodeError::Cluster(match file {
                Some(path) => format!("The kubeconfig {} can't be used: {error}", path.display()),
                None => format!(
                    "No Kubernetes cluster is configured: {error}. Set `kubernetes.kubeconfig` or KUBECONFIG to a kubeconfig file \
                     (microk8s: `microk8s config > kubeconfig`), or use `local:` to try Sextant without a cluster."
                ),
            })
        })?
    };
    cluster.connect_timeout = Some(Duration::from_secs(10));
    cluster.read_timeout = Some(SILENCE);
    Ok(cluster)
}

/// Reads a kubeconfig, or the one that KUBECONFIG names. The environment's HTTPS_PROXY is about the world outside, and does
/// not count: pods would not find this node through it either.
async fn from_file(path: Option<&Path>, options: &KubeConfigOptions) -> Result<Config, String> {
    let read = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let kubeconfig = read.map_err(|error| error.to_string())?;
    if has_proxy(&kubeconfig, options) {
        return Err("it reaches its cluster through a proxy (proxy-url), and Sextant can't".into());
    }
    let mut cluster = Config::from_custom_kubeconfig(kubeconfig, options).await.map_err(|error| error.to_string())?;
    cluster.proxy_url = None;
    Ok(cluster)
}

/// Whether the kubeconfig itself names a proxy for the cluster in use.
fn has_proxy(kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> bool {
    let name = options.context.as_ref().or(kubeconfig.current_context.as_ref());
    let context =
        kubeconfig.contexts.iter().find(|each| Some(&each.name) == name).and_then(|each| each.context.as_ref());
    let cluster = context.and_then(|context| kubeconfig.clusters.iter().find(|each| each.name == context.cluster));
    let proxy = cluster.and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.as_ref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

/// Connects, and waits as long as the cluster is away.
///
/// # Errors
/// If the cluster is there and does not accept the credentials.
pub async fn connect(cluster: Config) -> Result<Client, NodeError> {
    let address = cluster.cluster_url.to_string();
    let client = Client::try_from(cluster)
        .map_err(|error| NodeError::Cluster(format!("The cluster at {address} can't be used: {error}")))?;
    loop {
        match bounded(client.apiserver_version()).await {
            Ok(version) => {
                info!("Kubernetes {} at {address}", version.git_version);
                return Ok(client);
            }
            Err(error) if code(&error) == Some(401) => {
                return Err(NodeError::Cluster(format!(
                    "The cluster at {address} does not accept the credentials of the kubeconfig: {error}"
                )));
            }
            // It is there, and does not tell its version to everybody.
            Err(error) if code(&error) == Some(403) => {
                info!("Kubernetes at {address}");
                return Ok(client);
            }
            Err(error) => {
                warn!(
                    "The Kubernetes cluster at {address} can't be reached: {}. Is it running, and is this the right address? Trying again in {} s.",
                    words(&error),
                    PAUSE.as_secs()
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A call that ends in any case.
///
/// # Errors
/// The call's own, or a time-out.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    bounded_by(CALL, call).await
}

/// A call that ends within the limit.
///
/// # Errors
/// The call's own, or a time-out.
pub async fn bounded_by<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(format!("the API server did not answer in {} s", limit.as_secs()).into()))
    })
}

/// A call at the start: what passes is waited for.
///
/// # Errors
/// What does not pass by itself.
pub async fn patiently<T, F>(what: &str, call: impl Fn() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    loop {
        match bounded(call()).await {
            Err(error) if passes(&error) => {
                warn!("{what}: {}. Trying again in {} s.", words(&error), PAUSE.as_secs());
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether an error may be over soon: the API server is away, overloaded, or not itself.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500..=599),
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// The HTTP status of an answer that was an error; `None` when there was no answer.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// An error with its causes: the cause is what helps ("connection refused"). The API server repeats what it refuses, which may be
/// somebody else's and of any length.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut words = excerpt_of(&error.to_string(), WORDS);
    let mut source = error.source();
    while let Some(error) = source {
        let text = excerpt_of(&error.to_string(), WORDS);
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        source = error.source();
    }
    words
}
