//! Pods that keep running after their run is done, because the cluster has added a container that does not end, as service meshes do.
//! A Job completes only when its whole pod has ended, and nothing can end a single container. A deadline ends the pod, but marks the Job as
//! failed and deletes the log. So the node keeps the pod as long as a finished one, unless other runs need its resources. Then a TTL of
//! zero removes its Job at once: this node needs no permission to delete, and has none.

#![expect(clippy::disallowed_types, reason = "made here, to be sent")]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tracing::debug;

use super::Kubernetes;
use super::launch::patch;
use crate::decisions::facts::{Container, JobFacts, PodFacts};
use crate::decisions::injected::Injected;
use crate::decisions::labels;

/// How long `return` has to get the command to exit. After that, the pod is ended even if it can't reach the node.
const LAST_MINUTE: Duration = Duration::from_secs(60);

/// When the pod of a run that has been reported is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Immediately: nothing that still runs in the pod is needed.
    Now,
    /// The pod ends by itself. It is ended if it still runs this many seconds after its Job was created.
    Soon(i64),
    /// The pod does not end by itself. It is ended this many seconds after its Job was created, and its Job is removed with it.
    Lingering(i64),
}

impl End {
    /// Determines the end of the pod of a run with this Job and pod.
    pub fn of(job: &JobFacts, pod: Option<&PodFacts>, keep: Duration, now: Timestamp) -> Self {
        // A pod whose containers end by themselves is kept for inspection. The Job controller ends every other pod.
        let Some(pod) = pod.filter(|pod| pod.over || ends_by_itself(pod)) else { return Self::Now };
        let age = job.created.map_or(0, |created| now.duration_since(created).as_secs().max(0));
        let after = |wait: Duration| age.saturating_add(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
        if !pod.over && pod.injected.iter().any(Injected::lingers) {
            Self::Lingering(after(LAST_MINUTE.saturating_add(keep)))
        } else {
            Self::Soon(after(LAST_MINUTE))
        }
    }

    /// The patch of the Job, in addition to the mark that the run has been reported.
    pub fn patch(self) -> Value {
        let (deadline, lingers) = match self {
            Self::Now => (1, Value::Null),
            Self::Soon(deadline) => (deadline, Value::Null),
            Self::Lingering(deadline) => (deadline, json!("true")),
        };
        json!({
            "metadata": { "annotations": { (labels::LINGERS): lingers } },
            "spec": { "activeDeadlineSeconds": deadline },
        })
    }
}

/// Whether the run's own containers have finished, once `return` has been told to exit.
fn ends_by_itself(pod: &PodFacts) -> bool {
    let returns = matches!(pod.returns, Container::Running { .. } | Container::Ended(_));
    returns && matches!(pod.algorithm, Container::Ended(_))
}

/// Whether a Job's lingering pod has been ended while the Job still exists.
pub fn has_ended(job: &Job) -> bool {
    let kept = job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished != Some(0));
    kept && JobFacts::read(job).is_some_and(|job| job.lingers && job.reported && !job.deleting && job.failed.is_some())
}

/// Removes a Job by setting its TTL to zero.
pub async fn remove(jobs: Api<Job>, job: Job) {
    let gone = json!({ "metadata": { "uid": job.uid() }, "spec": { "ttlSecondsAfterFinished": 0 } });
    if let Err(error) = patch(&jobs, &job.name_any(), gone).await {
        debug!("Could not remove the Job '{}': {error}; Kubernetes removes it later", job.name_any());
    }
}

impl Kubernetes {
    /// Ends lingering pods, because a run waits for their resources.
    pub(super) async fn end_lingering(&self) {
        for job in self.run_index.lingering() {
            let now = json!({ "metadata": { "uid": job.uid }, "spec": { "activeDeadlineSeconds": 1 } });
            if let Err(error) = patch(&self.jobs, &job.name, now).await {
                debug!("Could not end the pod of the Job '{}': {error}", job.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::facts::End as ContainerEnd;
    use crate::decisions::facts::sample;
    use crate::decisions::injected::Kind;

    const RUNNING: Container = Container::Running { since: None };

    fn ended() -> Container {
        let (reason, message) = ("Completed".into(), String::new());
        Container::Ended(ContainerEnd { code: 0, reason, message, started: true, at: None })
    }

    #[test]
    fn a_pod_with_something_that_goes_on_is_kept_as_long_as_a_finished_one() {
        let done = || PodFacts { algorithm: ended(), returns: RUNNING, ..sample::pod() };
        let with = |kind, state, pod: PodFacts| {
            let injected = vec![Injected { name: "mesh".into(), image: "mesh:1".into(), kind, state }];
            PodFacts { injected, ..pod }
        };
        let over = |pod| PodFacts { over: true, ..pod };
        let now = Timestamp::from_second(100).unwrap();
        let job = JobFacts { created: Timestamp::from_second(90).ok(), ..sample::job() };
        for (pod, expected) in [
            (None, End::Now),
            (Some(sample::pod()), End::Now),
            (Some(PodFacts { algorithm: RUNNING, returns: RUNNING, ..sample::pod() }), End::Now),
            (Some(with(Kind::Beside, RUNNING, sample::pod())), End::Now),
            (Some(done()), End::Soon(70)),
            (Some(over(done())), End::Soon(70)),
            (Some(with(Kind::Sidecar, RUNNING, done())), End::Soon(70)),
            (Some(with(Kind::Beside, ended(), done())), End::Soon(70)),
            (Some(with(Kind::Beside, RUNNING, done())), End::Lingering(3670)),
            (Some(with(Kind::Beside, RUNNING, over(done()))), End::Soon(70)),
        ] {
            assert_eq!(End::of(&job, pod.as_ref(), Duration::from_secs(3600), now), expected, "{pod:?}");
        }
    }

    #[test]
    fn a_job_goes_when_its_lingering_pod_was_ended_and_not_before() {
        let job = |annotations: Value, failed: bool, keep: i64| -> Job {
            let condition = json!({"type": "Failed", "status": "True", "reason": "DeadlineExceeded"});
            serde_json::from_value(json!({
                "metadata": {"name": "j", "uid": "u", "labels": {labels::TASK: "1", labels::RUN: "2"}, "annotations": annotations},
                "spec": {"ttlSecondsAfterFinished": keep, "template": {}},
                "status": {"conditions": if failed { json!([condition]) } else { json!([]) }},
            }))
            .unwrap()
        };
        let lingers = || json!({labels::REPORTED: "completed", labels::LINGERS: "true"});
        assert!(has_ended(&job(lingers(), true, 3600)));
        assert!(!has_ended(&job(lingers(), false, 3600)));
        assert!(!has_ended(&job(lingers(), true, 0)));
        assert!(!has_ended(&job(json!({labels::REPORTED: "completed"}), true, 3600)));
    }
}
