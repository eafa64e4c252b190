//! One check of the isolation: starts a pod that listens and a pod that tries all targets, and returns the latter's findings.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod, PodStatus};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use sextant_config::KubernetesConfig;
use sextant_core::names::Identity;
use sextant_core::pod_issue::{IssueKind, PodIssue};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::cluster::{error_chain, with_timeout};
use super::{events, neighbours, targets::Targets};
use crate::decisions::isolation::Expected;
use crate::decisions::isolation::{Findings, How, Proof, Target, Try, judge};
use crate::decisions::labels;
use crate::decisions::probe::{Orders, probe};

/// How long each of the two pods may take to start, including the pull of Sextant's own image.
const START: Duration = Duration::from_secs(100);
/// How long the trying pod may take, including its start.
const TRIES: Duration = Duration::from_secs(130);

/// How often the node checks meanwhile whether the cluster's rules forbid the pods.
const ASKED: Duration = Duration::from_secs(5);

/// Checks the isolation with pods in this node's namespace.
pub struct Prober {
    jobs: Api<Job>,
    pods: Api<Pod>,
    events: Api<Event>,
    identity: Identity,
    settings: KubernetesConfig,
    pull_secrets: Vec<String>,
}

/// A probe that was started. The listening one runs for minutes unless it is ended.
struct Started {
    job: String,
    uid: String,
}

impl Prober {
    /// Creates a prober for this node's namespace.
    pub fn new(client: &Client, identity: &Identity, settings: &KubernetesConfig, pull_secrets: &[String]) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), &settings.namespace),
            pods: Api::namespaced(client.clone(), &settings.namespace),
            events: Api::namespaced(client.clone(), &settings.namespace),
            identity: identity.clone(),
            settings: settings.clone(),
            pull_secrets: pull_secrets.to_vec(),
        }
    }

    /// Checks the isolation once.
    pub async fn prove(&self, targets: &Targets) -> Proof {
        self.prove_with_neighbour(targets).await.unwrap_or_else(Proof::Inconclusive)
    }

    async fn prove_with_neighbour(&self, targets: &Targets) -> Result<Proof, String> {
        let mut all = targets.now().await?;
        let others = neighbours::find(&self.jobs, &self.identity).await;
        let others =
            others.map_err(|error| format!("the Jobs of other nodes could not be listed: {}", error_chain(&error)))?;
        all.extend(targets.of_neighbours(&others));
        let ports = targets.ports();
        let neighbour = self.start(&Orders::Listen(ports.clone())).await?;
        let proof = async {
            let found = self.until(&neighbour, START, "start", listens).await?;
            for ip in addresses(&found) {
                all.extend(ports.iter().map(|port| Target {
                    name: "another algorithm's pod".into(),
                    attempt: Try { to: std::net::SocketAddr::new(ip, *port).to_string(), how: How::Tcp },
                    expected: Expected::Closed,
                }));
            }
            let findings = self.tried(&mut all).await?;
            // The listener must have run all the time; otherwise a missing answer means nothing.
            let still = self.find(&neighbour).await?;
            if still.status.as_ref().is_none_or(|status| !listens(status)) {
                return Err("the probe that listens ended too early".into());
            }
            debug!(machine = findings.machine, "The probe made {} attempts from a pod like an algorithm's", all.len());
            Ok(judge(&all, &findings))
        };
        let proof = proof.await;
        self.end(&neighbour).await;
        proof
    }

    /// Runs a pod that tries all targets. Sorts the targets into the order of the findings.
    async fn tried(&self, all: &mut [Target]) -> Result<Findings, String> {
        all.sort_by_key(|target| target.expected != Expected::Open);
        let (needed, closed) = all.split_at(all.partition_point(|target| target.expected == Expected::Open));
        let tries = |targets: &[Target]| targets.iter().map(|target| target.attempt.clone()).collect();
        let prober = self.start(&Orders::Try { needed: tries(needed), closed: tries(closed) }).await?;
        let pod = self.until(&prober, TRIES, "end", |status| ended(status).is_some()).await?;
        // A container that the cluster has added keeps running, and takes resources from a run.
        if !over(&pod) {
            self.end(&prober).await;
        }
        let message = ended(&pod).and_then(|end| end.message.clone()).unwrap_or_default();
        serde_json::from_str(&message).map_err(|_| {
            let message: String = message.chars().take(200).collect();
            format!("the probe did not report its findings, but '{message}'")
        })
    }

    async fn start(&self, orders: &Orders) -> Result<Started, String> {
        let job = probe(&self.identity, &self.settings, orders, &self.pull_secrets);
        let job = with_timeout(self.jobs.create(&PostParams::default(), &job))
            .await
            .map_err(|error| format!("the probe's Job could not be created: {}", error_chain(&error)))?;
        Ok(Started { job: job.name_any(), uid: job.uid().unwrap_or_default() })
    }

    fn selector(probe: &Started) -> String {
        format!("{}={}", labels::JOB_UID, probe.uid)
    }

    /// Waits until the status of a probe's pod satisfies `wanted`.
    async fn until(
        &self,
        probe: &Started,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&PodStatus) -> bool,
    ) -> Result<PodStatus, String> {
        let config = Config::default().labels(&Self::selector(probe));
        let pods = watcher(self.pods.clone(), config).default_backoff().applied_objects();
        let mut pods = pin!(pods);
        let found = async {
            loop {
                // Errors are transient; the watch restarts by itself.
                match pods.try_next().await {
                    Ok(Some(pod)) => match pod.status {
                        Some(status) if wanted(&status) => return Some(status),
                        Some(status) if over(&status) => return None,
                        _ => {}
                    },
                    Ok(None) => return None,
                    Err(_) => {}
                }
            }
        };
        let found = tokio::select! {
            found = timeout(patience, found) => found,
            why = self.forbidden(probe) => {
                return Err(format!("the cluster's rules do not allow the probe's pod: {why}"));
            }
        };
        match found {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("the probe's pod ended too early: {}", self.why_not_started(probe).await)),
            Err(_) => Err(format!(
                "the probe's pod did not {what} in {} s: {}",
                patience.as_secs(),
                self.why_not_started(probe).await
            )),
        }
    }

    /// Waits until the cluster reports that a probe's pod can't be created; otherwise never returns.
    async fn forbidden(&self, probe: &Started) -> String {
        loop {
            sleep(ASKED).await;
            if let Some(PodIssue { kind: IssueKind::Permanent(failure), .. }) = self.issue(probe, None).await {
                return failure.detail;
            }
        }
    }

    async fn find(&self, probe: &Started) -> Result<Pod, String> {
        let mine = ListParams::default().labels(&Self::selector(probe));
        let pods = with_timeout(self.pods.list(&mine)).await.map_err(|error| error_chain(&error))?;
        pods.items.into_iter().next().ok_or_else(|| "the probe's pod is gone".into())
    }

    async fn issue(&self, probe: &Started, pod: Option<&str>) -> Option<PodIssue> {
        events::issue(&self.events, &probe.job, pod, None, &self.settings.image).await
    }

    async fn why_not_started(&self, probe: &Started) -> String {
        let pod = self.find(probe).await.ok().map(|pod| pod.name_any());
        let issue = self.issue(probe, pod.as_deref()).await;
        let look = || format!("`kubectl describe job {} -n {}` may say why", probe.job, self.settings.namespace);
        issue.map_or_else(look, |issue| issue.text)
    }

    /// Ends a probe that is no longer needed. If that fails, the probe ends by itself. Kubernetes counts a Job that is ended as failed, so
    /// the Job is deleted at once, to leave no failed one.
    async fn end(&self, probe: &Started) {
        let patch = json!({ "spec": { "activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 0 } });
        if let Err(error) =
            with_timeout(self.jobs.patch(&probe.job, &PatchParams::default(), &Patch::Merge(patch))).await
        {
            debug!("Could not end the probe '{}': {}", probe.job, error_chain(&error));
        }
    }
}

fn listens(status: &PodStatus) -> bool {
    let running = status
        .container_statuses
        .iter()
        .flatten()
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    running && addresses(status).next().is_some()
}

fn over(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"))
}

fn ended(status: &PodStatus) -> Option<&ContainerStateTerminated> {
    status.container_statuses.iter().flatten().find_map(|container| container.state.as_ref()?.terminated.as_ref())
}

fn addresses(status: &PodStatus) -> impl Iterator<Item = std::net::IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let one = status.pod_ip.as_deref().filter(|_| status.pod_ips.is_none());
    all.chain(one).filter_map(|ip| ip.parse().ok())
}
