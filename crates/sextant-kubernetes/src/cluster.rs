//! Access to the cluster by kubeconfig or service account, and error messages that say what to do.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use printable::excerpt_of;
use rustls::CertificateError;
use sextant_config::KubernetesConfig;
use sextant_core::node_error::NodeError;
use tracing::{info, warn};

use super::access::{Access, Source};

/// How many characters of an error message are kept.
const WORDS: usize = 2_000;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);
/// The pause between two attempts to reach an unavailable cluster.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether this process is a pod of the cluster that runs its Jobs.
pub fn in_cluster(config: &KubernetesConfig) -> bool {
    config.kubeconfig.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Reads the configuration of the access to the cluster.
///
/// # Errors
/// If there is no kubeconfig and this process is not a pod, or the kubeconfig can't be used.
pub async fn access(config: &KubernetesConfig) -> Result<Arc<Access>, NodeError> {
    let source = Source::of(config, in_cluster(config)).map_err(|why| NodeError::Cluster(not_configured(&why)))?;
    Access::open(source.clone()).await.map_err(|why| {
        NodeError::Cluster(match &source {
            Source::Pod => format!(
                "This pod's service account can't be used: {why}. Is automountServiceAccountToken on for the node's pod?"
            ),
            Source::Kubeconfigs { paths, .. } if config.kubeconfig.is_none() && !paths.iter().any(|path| path.exists()) => {
                not_configured(&why)
            }
            Source::Kubeconfigs { .. } => format!("{} can't be used: {why}.", source.beginning()),
        })
    })
}

fn not_configured(why: &str) -> String {
    format!(
        "No Kubernetes cluster is configured: {why}. Set `kubernetes.kubeconfig` or KUBECONFIG to a kubeconfig file (microk8s: \
         `microk8s config > kubeconfig`), or use `local:` to try Sextant without a cluster."
    )
}

/// Connects to the cluster, waiting while it is unavailable.
///
/// # Errors
/// If the cluster answers but rejects the credentials, or is not the one that the kubeconfig trusts.
pub async fn connect(access: &Arc<Access>) -> Result<Client, NodeError> {
    let client = access.client();
    loop {
        let result = with_timeout(client.apiserver_version()).await;
        let address = access.address();
        match result {
            Ok(version) => {
                info!("Kubernetes {} at {address}", version.git_version);
                return Ok(client);
            }
            // The cluster answers, but does not show its version to every user.
            Err(error) if status_code(&error) == Some(403) => {
                info!("Kubernetes at {address}");
                return Ok(client);
            }
            Err(error) => match final_reason(access, &error) {
                Some(why) => return Err(NodeError::Cluster(why)),
                None => warn!(
                    "The Kubernetes cluster at {address} can't be reached: {}. Is it running, and is this the right \
                     address? Retrying in {} s.",
                    error_chain(&error),
                    PAUSE.as_secs()
                ),
            },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why the cluster can't be used until the kubeconfig changes; `None` for errors that may be transient.
pub fn final_reason(access: &Access, error: &kube::Error) -> Option<String> {
    let (address, source) = (access.address(), access.source());
    if status_code(error) == Some(401) {
        return Some(format!(
            "The cluster at {address} does not accept the credentials of {source}. Have they expired, or been \
             revoked? Put valid ones there (docs/OPERATIONS.md, \"Credentials\")."
        ));
    }
    let what = match certificate_error(error)? {
        // A reinstalled cluster has a new certificate authority, often with the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by no authority that it trusts. Put the cluster's present one there (certificate-authority-data)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name. Use an address that it covers as `server`, or name one of its names as `tls-server-name`"
        }
        _ => return None,
    };
    Some(format!(
        "The certificate of the cluster at {address} is not accepted: by {source}, it {what}. ({})",
        error_chain(error)
    ))
}

/// The problem with the API server's certificate, if that is the error.
fn certificate_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(error)) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    // An I/O error displays its inner error and not itself, so it needs unwrapping.
    let held = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
    match held {
        Some(held) => certificate_error(held),
        None => certificate_error(error.source()?),
    }
}

/// Limits how long a call may take.
///
/// # Errors
/// The call's own, or a timeout.
pub async fn with_timeout<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    with_timeout_of(CALL, call).await
}

/// Limits how long a call may take.
///
/// # Errors
/// The call's own, or a timeout.
pub async fn with_timeout_of<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(format!("the API server did not answer in {} s", limit.as_secs()).into()))
    })
}

/// Retries a call for as long as its error is transient.
///
/// # Errors
/// An error that is not transient.
pub async fn retry_transient<T, F>(what: &str, call: impl Fn() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    loop {
        match with_timeout(call()).await {
            Err(error) if is_transient(&error) => {
                warn!("{what}: {}. Retrying in {} s.", error_chain(&error), PAUSE.as_secs());
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether an error may be transient: the API server is unreachable, overloaded, or fails.
fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500..=599),
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// The HTTP status of an error response; `None` if there was no response.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// An error with its causes, since the cause is what helps ("connection refused"). The API server quotes what it refuses, which may come
/// from another source and have any length, so the text is cut.
pub fn error_chain(error: &dyn std::error::Error) -> String {
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
