//! Checks the ResourceQuotas and LimitRanges of the namespace of the runs.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use kube::api::ListParams;
use kube::{Api, Client};
use sextant_config::KubernetesConfig;
use tracing::{debug, warn};

use super::cluster::{error_chain, with_timeout};
use crate::decisions::namespace_rules::broken;

/// What to do about such rules.
pub const REMEDY: &str = "Change them, or `kubernetes.resources` (the algorithm) and `kubernetes.helper_resources` (receive, return, probe); \
                          see docs/OPERATIONS.md, \"Quotas and LimitRanges\".";

/// The rules that no run can satisfy.
///
/// # Errors
/// The API server's errors, for example if this account may not list the rules.
pub async fn find(client: &Client, settings: &KubernetesConfig) -> kube::Result<Vec<String>> {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &settings.namespace);
    let ranges: Api<LimitRange> = Api::namespaced(client.clone(), &settings.namespace);
    let all = ListParams::default();
    let (quotas, ranges) = tokio::join!(with_timeout(quotas.list(&all)), with_timeout(ranges.list(&all)));
    Ok(broken(settings, &quotas?.items, &ranges?.items))
}

/// Warns the operator at startup about such rules, since each run would fail.
pub async fn tell(client: &Client, settings: &KubernetesConfig) {
    match find(client, settings).await {
        Ok(found) if found.is_empty() => {}
        Ok(found) => {
            warn!("Rules of the namespace '{}' forbid every run: {}. {REMEDY}", settings.namespace, found.join("; "));
        }
        Err(error) => debug!("Can't read ResourceQuotas and LimitRanges: {}", error_chain(&error)),
    }
}
