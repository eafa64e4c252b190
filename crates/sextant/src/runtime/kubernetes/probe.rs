//! At start: do pods reach this node? A run whose pod can't would wait until its time is up, so it's better said
//! at once, with what to do.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::conditions::is_job_completed;
use kube::runtime::wait::{Condition, await_condition};
use tracing::{error, info, warn};

use super::cluster::{bounded, words};

/// How long the probe may take altogether; pulling Sextant's own image is part of it.
const PATIENCE: Duration = Duration::from_secs(150);

/// Runs the probe's Job and says what came of it.
pub async fn run(api: Api<Job>, job: Job, namespace: &str, address: &str) {
    let name = match bounded(api.create(&PostParams::default(), &job)).await {
        Ok(job) => job.metadata.name.unwrap_or_default(),
        Err(error) => {
            warn!("It could not be tried whether pods reach this node at {address}: {}", words(&error));
            return;
        }
    };
    let over = is_job_completed().or(failed);
    match tokio::time::timeout(PATIENCE, await_condition(api, &name, over)).await {
        Ok(Ok(Some(job))) if !failed(Some(&job)) => info!("Pods reach this node at {address}."),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => warn!("It could not be seen whether pods reach this node at {address}: {}", words(&error)),
        Ok(Ok(Some(_))) | Err(_) => error!(
            "Pods do NOT reach this node at {address}: runs will wait until they do. Set `kubernetes.data_port.address` to an \
             address of this machine that pods can connect to, and see that no firewall is between. (If Sextant's own image \
             can't be pulled, that is the reason: `kubectl describe job {name} -n {namespace}`.)"
        ),
    }
}

fn failed(job: Option<&Job>) -> bool {
    job.and_then(|job| job.status.as_ref()?.conditions.as_ref())
        .is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Failed" && c.status == "True"))
}
