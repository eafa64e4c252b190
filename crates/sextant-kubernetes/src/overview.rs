//! The cluster's part of `sextant runs`: the node's Jobs and pods, read once, and the holder of its Lease.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use sextant_config::KubernetesConfig;
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_core::overview::Here;
use sextant_core::run_state::RunState;

use super::cluster::{self, error_chain, with_timeout};
use super::{Connected, events, lease};
use crate::decisions::facts::{JobFacts, PodFacts};
use crate::decisions::labels;
use crate::decisions::run_state::run_state;

/// How many objects one list request returns.
const PAGE: u32 = 500;
/// The maximum number of pending runs whose Events are read.
const ASKED: usize = 20;
/// A Lease holder that has renewed within this time is running.
const AT_WORK: Duration = Duration::from_secs(15);

/// The runs in the cluster, and a line about the leader.
///
/// # Errors
/// If the cluster can't be used.
pub async fn look(settings: &KubernetesConfig, identity: &Identity) -> Result<(Vec<Here>, String), NodeError> {
    let access = cluster::access(settings).await?;
    let client = Connected::to(&access).client;
    let namespace = &settings.namespace;
    let unusable = |error: kube::Error| {
        NodeError::Cluster(cluster::final_reason(&access, &error).unwrap_or_else(|| {
            format!("The runs in the namespace '{namespace}' can't be listed: {}", error_chain(&error))
        }))
    };
    let selector = labels::selector(identity.key());
    let (jobs, pods) = tokio::try_join!(
        all(Api::<Job>::namespaced(client.clone(), namespace), &selector),
        all(Api::<Pod>::namespaced(client.clone(), namespace), &selector),
    )
    .map_err(unusable)?;
    let pods: HashMap<String, PodFacts> =
        pods.iter().filter_map(PodFacts::read).map(|(_, pod)| (pod.job_uid.clone(), pod)).collect();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut asked = 0;
    let mut here = Vec::new();
    for job in jobs {
        let Some(facts) = JobFacts::read(&job) else { continue };
        if labels::is_of_another_release(job.labels(), identity.release()) {
            continue;
        }
        let pod = pods.get(&facts.uid);
        let pod_name = pod.map(|pod| pod.name.clone());
        let mut run_state = run_state(Some(&facts), pod);
        if let RunState::Starting(starting) = &mut run_state
            && asked < ASKED
        {
            asked += 1;
            // Only the text is shown, which does not depend on the image.
            if let Some(issue) =
                events::issue(&events, &facts.name, pod_name.as_deref(), settings.scratch.as_ref(), "").await
            {
                starting.detail = format!("{} ({})", starting.detail, issue.text);
            }
        }
        let name = job.metadata.annotations.unwrap_or_default().remove(labels::TASK_NAME).unwrap_or_default();
        let place = pod_name.map_or("its pod".into(), |name| format!("pod {name}"));
        here.push(Here { run: facts.run, task: facts.task, name, run_state, since: facts.created, place });
    }
    Ok((here, at_work(&client, namespace, identity).await))
}

/// Lists all objects, page by page.
async fn all<K>(api: Api<K>, selector: &str) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut parameters = ListParams::default().labels(selector).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = with_timeout(api.list(&parameters)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// A line about the leader of this node.
async fn at_work(client: &Client, namespace: &str, identity: &Identity) -> String {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    const NOBODY: &str = "No process of this node is running: runs are neither started nor reported";
    match with_timeout(api.get_opt(&identity.lease_name())).await {
        Err(error) => format!("Can't determine whether a process of this node is running: {}.", error_chain(&error)),
        Ok(None) => format!("{NOBODY}; none ever ran in the namespace '{namespace}'."),
        Ok(Some(lease)) => {
            let spec = lease.spec.unwrap_or_default();
            let age = spec.renew_time.map(|time| Timestamp::now().duration_since(time.0));
            match (spec.holder_identity.filter(|holder| !holder.is_empty()), age) {
                (Some(holder), Some(age)) if age.unsigned_abs() < AT_WORK => {
                    format!("{} is the leader of this node.", lease::words_of(&holder))
                }
                (Some(holder), _) => format!(
                    "{NOBODY}. The last leader, {}, ended without releasing the lease.",
                    lease::words_of(&holder)
                ),
                (None, _) => format!("{NOBODY}."),
            }
        }
    }
}
