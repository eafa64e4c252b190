//! Watches the Jobs and pods of this node and keeps the [`RunIndex`] up to date. kube's watcher lists again by itself after errors and
//! expired watches (410), and reconnects if a watch stays silent beyond its end.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sextant_core::names::Identity;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::cluster::{error_chain, status_code};
use super::lingering;
use super::run_index::RunIndex;
use crate::decisions::facts::{JobFacts, PodFacts};
use crate::decisions::labels;

/// After this many seconds the API server ends a watch, and the next one continues where it ended. So a watch that is silent for longer
/// has lost its connection; see the limit on silence in [`super::access`].
const WATCH: u32 = 25;

/// Watches this node's objects of one kind. Objects that another release of the chart has created with this node's key are left out.
fn own<K>(api: Api<K>, identity: &Identity) -> impl Stream<Item = Result<Event<K>, Error>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let selector = labels::selector(identity.key());
    let release = identity.release().map(str::to_owned);
    watcher(api, Config::default().timeout(WATCH).labels(&selector)).default_backoff().filter(move |event| {
        let foreign = match event {
            Ok(Event::InitApply(object) | Event::Apply(object) | Event::Delete(object)) => {
                labels::is_of_another_release(object.labels(), release.as_deref())
            }
            _ => false,
        };
        std::future::ready(!foreign)
    })
}

/// Logs an error. Rejected credentials are logged once for all requests by [`super::access`].
fn complain(what: &str, error: &Error) {
    let unauthorized = match error {
        Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
            status_code(error) == Some(401)
        }
        _ => false,
    };
    if unauthorized {
        debug!("Can't watch the {what} with these credentials");
    } else {
        warn!("Can't watch the {what} at the moment: {}", error_chain(error));
    }
}

/// Follows the Jobs; never returns. `seen` becomes true after the first complete list.
pub async fn jobs(api: Api<Job>, identity: Identity, run_index: Arc<RunIndex>, seen: watch::Sender<bool>) {
    let mut events = pin!(own(api.clone(), &identity));
    let mut found = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found.clear(),
            Ok(Event::InitApply(job)) => {
                if let Some(facts) = JobFacts::read(&job) {
                    found.insert(facts.uid.clone());
                    run_index.job(facts);
                }
                remove_lingering(&api, job);
            }
            Ok(Event::InitDone) => {
                run_index.retain_jobs(&found);
                found = HashSet::new();
                seen.send_replace(true);
            }
            Ok(Event::Apply(job)) => {
                if let Some(facts) = JobFacts::read(&job) {
                    run_index.job(facts);
                }
                remove_lingering(&api, job);
            }
            Ok(Event::Delete(job)) => {
                if let (Some((_, run)), Some(uid)) = (labels::run_of(job.labels()), job.uid()) {
                    run_index.job_gone(run, &uid);
                }
            }
            Err(error) => complain("Jobs", &error),
        }
    }
}

/// Removes a Job that was kept only for its lingering pod.
fn remove_lingering(api: &Api<Job>, job: Job) {
    if lingering::has_ended(&job) {
        tokio::spawn(lingering::remove(api.clone(), job));
    }
}

/// Follows the pods; never returns. `seen` becomes true after the first complete list.
pub async fn pods(api: Api<Pod>, identity: Identity, run_index: Arc<RunIndex>, seen: watch::Sender<bool>) {
    let mut events = pin!(own(api, &identity));
    let mut found = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found.clear(),
            Ok(Event::InitApply(pod)) => {
                if let Some((run, facts)) = PodFacts::read(&pod) {
                    found.insert(facts.name.clone());
                    run_index.pod(run, facts);
                }
            }
            Ok(Event::InitDone) => {
                run_index.retain_pods(&found, Timestamp::now());
                found = HashSet::new();
                seen.send_replace(true);
            }
            Ok(Event::Apply(pod)) => {
                if let Some((run, facts)) = PodFacts::read(&pod) {
                    run_index.pod(run, facts);
                }
            }
            Ok(Event::Delete(pod)) => {
                if let Some((run, facts)) = PodFacts::read(&pod) {
                    // A delete event has the pod's last facts, possibly with the reason of its termination.
                    run_index.pod(run, facts);
                    run_index.pod_gone(run, &pod.name_any(), Timestamp::now());
                }
            }
            Err(error) => complain("pods", &error),
        }
    }
}
