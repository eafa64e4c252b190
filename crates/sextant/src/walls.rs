//! `sextant walls`: prints the NetworkPolicies for a node that runs on a machine, for `kubectl apply -f -`. The chart makes
//! them for nodes in the cluster. Sextant itself makes none: it has no right to, so an algorithm that got hold of its
//! account could not tear them down.

use sextant_config::{Config, RuntimeConfig};
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_kubernetes::decisions::walls::{Ways, policies};

/// The policies as YAML.
///
/// # Errors
/// If the node runs no algorithms on Kubernetes, or it can't be found out where pods reach it.
pub async fn yaml(config: &Config) -> Result<String, NodeError> {
    let RuntimeConfig::Kubernetes(settings) = &config.runtime else {
        return Err(NodeError::Configuration(
            "Algorithms run with `local:`, as processes of this machine: there are no walls around them.".to_owned(),
        ));
    };
    let Ways { data_port, proxy } = sextant_kubernetes::ways(settings).await?;
    let key = Identity::key_of(&config.api_key);
    let mut text = format!(
        "# Made by `sextant walls`: what the algorithms of this node may reach is the proxy at {proxy} and the node at {data_port}.\n"
    );
    for policy in policies(settings, &key, Ways { data_port, proxy }) {
        let policy = serde_saphyr::to_string(&policy)
            .map_err(|error| NodeError::Configuration(format!("A policy can't be written as YAML: {error}")))?;
        text.push_str("---\n");
        text.push_str(&policy);
    }
    Ok(text)
}
