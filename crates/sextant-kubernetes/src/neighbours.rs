//! Looks for other nodes in the namespace of the runs.

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::ListParams;
use sextant_core::names::Identity;

use super::cluster::with_timeout;
use crate::decisions::neighbours::{self, Neighbour};

/// How many of their Jobs are read.
const JOBS: u32 = 200;

/// The nodes that some Jobs of the namespace are of, besides this one.
///
/// # Errors
/// The API server's.
pub async fn find(jobs: &Api<Job>, identity: &Identity) -> kube::Result<Vec<Neighbour>> {
    let theirs = ListParams::default().labels(&neighbours::selector(identity.key())).limit(JOBS);
    Ok(neighbours::read(&with_timeout(jobs.list(&theirs)).await?.items))
}
