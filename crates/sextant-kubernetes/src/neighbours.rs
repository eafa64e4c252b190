//! Finds other nodes that use the namespace of the runs.

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::ListParams;
use sextant_core::names::Identity;

use super::cluster::with_timeout;
use crate::decisions::neighbours::{self, Neighbour};

/// How many of the other nodes' Jobs are read.
const JOBS: u32 = 200;

/// Lists the other nodes that have Jobs in the namespace.
///
/// # Errors
/// The API server's errors.
pub async fn find(jobs: &Api<Job>, identity: &Identity) -> kube::Result<Vec<Neighbour>> {
    let theirs = ListParams::default().labels(&neighbours::selector(identity.key())).limit(JOBS);
    Ok(neighbours::read(&with_timeout(jobs.list(&theirs)).await?.items))
}
