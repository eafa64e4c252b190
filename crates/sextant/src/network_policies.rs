//! `sextant network-policies`: prints the NetworkPolicies for a node outside the cluster, for `kubectl apply -f -`. The chart creates them
//! for nodes in the cluster. Sextant itself never creates or removes them and lacks the permission, so an algorithm that obtained its
//! account could not remove them.

use sextant_config::{Config, RuntimeConfig};
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_kubernetes::decisions::network_policy::{Endpoints, policies};

/// Returns the policies as YAML.
///
/// # Errors
/// The node does not run algorithms on Kubernetes, or the addresses where pods reach it can't be determined.
pub async fn yaml(config: &Config) -> Result<String, NodeError> {
    let RuntimeConfig::Kubernetes(settings) = &config.runtime else {
        return Err(NodeError::Configuration(
            "Algorithms run with `local:`, as processes of this machine: there are no network policies for them."
                .to_owned(),
        ));
    };
    let Endpoints { data_port, proxy } = sextant_kubernetes::endpoints(settings).await?;
    let key = Identity::key_of(&config.api_key);
    let services: String =
        settings.services.iter().map(|(alias, to)| format!(", {alias} ({} of {})", to.name, to.namespace)).collect();
    let mut text = format!(
        "# Created by `sextant network-policies`: the algorithms of this node may reach only the proxy at {proxy} \
         and the node at {data_port}{services}.\n"
    );
    for policy in policies(settings, &key, Endpoints { data_port, proxy }) {
        let policy = serde_saphyr::to_string(&policy)
            .map_err(|error| NodeError::Configuration(format!("A policy can't be written as YAML: {error}")))?;
        text.push_str("---\n");
        text.push_str(&policy);
    }
    Ok(text)
}
