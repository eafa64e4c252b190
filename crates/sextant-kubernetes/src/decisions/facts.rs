//! The cluster's status of a run's Job and pod, reduced to what the decisions need. It is small, so that ten thousand runs fit in memory,
//! and typed, so that the decisions do not depend on Kubernetes's optional fields.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use printable::excerpt_of;
use sextant_core::assignment::Assignment;
use sextant_core::names::Identity;
use sextant_core::run_identity::RunIdentity;
use sextant_core::stop_note::StopNote;
use vantage6_types::{RunId, TaskId};

use super::injected::{self, Injected};
use super::labels;

/// The init container that fetches the input and the token.
pub const RECEIVE: &str = "receive";
/// The container of the task's image.
pub const ALGORITHM: &str = "algorithm";
/// The container that uploads the output.
pub const RETURN: &str = "return";

/// How many characters of the cluster's messages are kept. They may quote others, for example a registry.
const WORDS: usize = 2_000;

/// Trims and shortens a message of the cluster.
fn said(words: Option<&String>) -> String {
    words.map_or_else(String::new, |words| excerpt_of(words.trim(), WORDS))
}

/// A run's Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// The Job's name.
    pub name: String,
    /// The Job's uid. The run's Secret refers to it as its owner.
    pub uid: String,
    /// The run.
    pub run: RunId,
    /// The run's task.
    pub task: TaskId,
    /// Distinguishes the run from others with its ID, if the Job has it.
    pub identity: Option<RunIdentity>,
    /// When the Job was created.
    pub created: Option<Timestamp>,
    /// Whether the run has been reported to the server.
    pub reported: bool,
    /// Whether its pod keeps running after the run was reported.
    pub lingers: bool,
    /// Why this node, or an earlier process of it, has stopped the run; `None` if it has not.
    pub stopped: Option<Box<StopNote>>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Reason and message of the Job controller, if it marked the Job as failed.
    pub failed: Option<(String, String)>,
    /// When the Job controller marked the Job as failed.
    pub failed_at: Option<Timestamp>,
    /// The number of this launch of the run, from 1.
    pub attempt: u32,
    /// How many earlier launches had started the algorithm.
    pub executions: u32,
    /// Whether its pods' key derives from its uid, as for every Job that this version creates.
    pub key_of_uid: bool,
    /// Whether its pod may have received the token, without which no algorithm starts.
    pub supplied: bool,
}

/// A run's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's name.
    pub name: String,
    /// The uid of the Job that created it.
    pub job_uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its phase is Failed or Succeeded, or it is gone.
    pub over: bool,
    /// When it was found to be gone without having been seen to end. All other facts may have been outdated by then.
    pub gone: Option<Timestamp>,
    /// Why it has not been scheduled so far, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// Whether it has been scheduled to a machine.
    pub scheduled: bool,
    /// When it was scheduled.
    pub scheduled_at: Option<Timestamp>,
    /// Why the pod as a whole failed (`Evicted`, `NodeLost`, …): reason and message.
    pub reason: Option<(String, String)>,
    /// Why the cluster disrupts it (`PreemptionByScheduler`, `EvictionByEvictionAPI`, …): reason and message.
    pub disruption: Option<(String, String)>,
    /// When its termination began.
    pub told: Option<Timestamp>,
    /// When it must have terminated, if it is being deleted.
    pub ends_at: Option<Timestamp>,
    /// The algorithm's memory limit.
    pub memory_limit: Option<String>,
    /// The algorithm's limit on ephemeral storage.
    pub disk_limit: Option<String>,
    /// The state of `receive`.
    pub receive: Container,
    /// The state of `algorithm`.
    pub algorithm: Container,
    /// The state of `return`.
    pub returns: Container,
    /// The containers that the cluster has added.
    pub injected: Vec<Injected>,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Container {
    /// The kubelet has not reported it yet.
    #[default]
    Unknown,
    /// Not started.
    Waiting {
        /// Kubernetes's reason, for example `ImagePullBackOff`.
        reason: String,
        /// The explanation.
        message: String,
    },
    /// Running.
    Running {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// Terminated.
    Ended(End),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its exit code; 128 + n when signal n killed it.
    pub code: i32,
    /// Kubernetes's reason, for example `OOMKilled`.
    pub reason: String,
    /// Its termination message.
    pub message: String,
    /// Whether it ever started.
    pub started: bool,
    /// When it ended.
    pub at: Option<Timestamp>,
}

impl Container {
    /// Whether it was certainly started.
    fn has_started(&self) -> bool {
        match self {
            Self::Running { .. } => true,
            Self::Ended(end) => end.started,
            Self::Unknown | Self::Waiting { .. } => false,
        }
    }

    /// Corrects the state of a container that is known to have started. A kubelet that has lost it, because it restarted or freed
    /// resources, reports it as unknown and without its ID, or, if the pod is over, as not started.
    fn if_started(self, over: bool) -> Self {
        match self {
            Self::Ended(end) if end.reason == "ContainerStatusUnknown" => Self::Ended(End { started: true, ..end }),
            Self::Waiting { ref reason, .. }
                if over && matches!(reason.as_str(), "PodInitializing" | "ContainerCreating") =>
            {
                Self::lost()
            }
            Self::Unknown if over => Self::lost(),
            other => other,
        }
    }

    /// The state of a container that was started and lost.
    fn lost() -> Self {
        let reason = "ContainerStatusUnknown".to_owned();
        Self::Ended(End { code: 137, reason, message: String::new(), started: true, at: None })
    }

    /// Whether it is gone and its end was not observed, as after a machine's restart.
    pub fn was_lost(&self) -> bool {
        matches!(self, Self::Ended(end) if matches!(end.reason.as_str(), "ContainerStatusUnknown" | "Unknown"))
    }
}

impl PodFacts {
    /// Merges earlier facts: an algorithm that was started stays started, whatever a machine that has lost it reports.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        if before.name != self.name || !before.algorithm.has_started() || self.algorithm.has_started() {
            return self;
        }
        let algorithm = match self.algorithm {
            Container::Ended(end) => Container::Ended(End { started: true, ..end }),
            Container::Waiting { .. } | Container::Unknown if self.over => Container::lost(),
            _ => before.algorithm.clone(),
        };
        Self { algorithm, ..self }
    }

    /// Whether something requested its termination, so that the ends of its containers may not be their own doing.
    pub fn told_to_end(&self) -> bool {
        self.deleting || self.disruption.is_some() || self.reason.is_some()
    }

    /// Whether its machine has reported the final state. For a pod on a lost machine, or one deleted by force, the cluster only
    /// knows an earlier state.
    pub fn final_word(&self) -> bool {
        let lost =
            |(reason, _): &(String, String)| matches!(reason.as_str(), "DeletionByTaintManager" | "DeletionByPodGC");
        self.over && self.gone.is_none() && !self.disruption.as_ref().is_some_and(lost) && !self.receive.was_lost()
    }
}

impl JobFacts {
    /// Whether the Job controller marked it as failed for this reason.
    pub fn failed_by(&self, reason: &str) -> bool {
        self.failed.as_ref().is_some_and(|(why, _)| why == reason)
    }

    /// Whether it belongs to this run, and not to an earlier run with the same ID: a server may reuse the IDs of deleted runs.
    pub fn is_of(&self, node: &Identity, assignment: &Assignment) -> bool {
        match self.identity {
            Some(identity) => {
                identity == assignment.identity && self.name == node.attempt_name(assignment, self.attempt)
            }
            // 0.1.0 distinguished runs only by timestamps.
            None => self.name == node.former_attempt_name(assignment, self.attempt),
        }
    }

    /// Reads a Job; `None` if it is not a run's.
    pub fn read(job: &Job) -> Option<Self> {
        let meta = &job.metadata;
        let (task, run) = labels::run_of(meta.labels.as_ref()?)?;
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
        let count = |key| meta.annotations.as_ref()?.get(key)?.parse().ok();
        let failed = conditions
            .into_iter()
            .flatten()
            .find(|c| (c.type_ == "Failed" || c.type_ == "FailureTarget") && c.status == "True");
        Some(Self {
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            run,
            task,
            identity: meta.annotations.as_ref().and_then(|all| all.get(labels::RUN_IDENTITY)?.parse().ok()),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            reported: meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(labels::REPORTED)),
            lingers: meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(labels::LINGERS)),
            stopped: meta.annotations.as_ref().and_then(|all| serde_json::from_str(all.get(labels::STOPPED)?).ok()),
            deleting: meta.deletion_timestamp.is_some(),
            failed: failed.map(|c| (said(c.reason.as_ref()), said(c.message.as_ref()))),
            failed_at: failed.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0),
            attempt: count(labels::ATTEMPT).unwrap_or(1),
            executions: count(labels::EXECUTIONS).unwrap_or(0),
            key_of_uid: meta.annotations.as_ref().and_then(|all| all.get(labels::RUN_KEY)).map(String::as_str)
                == Some(labels::RUN_KEY_OF_UID),
            // Only the process that created the Job knows better.
            supplied: true,
        })
    }
}

impl PodFacts {
    /// Reads a pod; `None` if it is not a run's.
    pub fn read(pod: &Pod) -> Option<(RunId, Self)> {
        let meta = &pod.metadata;
        let (_, run) = labels::run_of(meta.labels.as_ref()?)?;
        let status = pod.status.as_ref();
        let condition = |kind| status?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind);
        let scheduled = condition("PodScheduled");
        let disruption = condition("DisruptionTarget").filter(|c| c.status == "True");
        let ends_at = meta.deletion_timestamp.as_ref().map(|time| time.0);
        let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or_default());
        let deleted_at = ends_at.and_then(|ends| ends.checked_sub(grace).ok());
        let disrupted_at = disruption.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0);
        let limit = |resource| {
            let containers = &pod.spec.as_ref()?.containers;
            let limits = containers.iter().find(|c| c.name == ALGORITHM)?.resources.as_ref()?.limits.as_ref()?;
            Some(limits.get(resource)?.0.clone())
        };
        let container = |name| {
            let find = |list: Option<&Vec<ContainerStatus>>| list?.iter().find(|c| c.name == name).map(read_state);
            status
                .and_then(|s| find(s.init_container_statuses.as_ref()).or_else(|| find(s.container_statuses.as_ref())))
                .unwrap_or_default()
        };
        let over = status.and_then(|s| s.phase.as_deref()).is_some_and(|phase| matches!(phase, "Failed" | "Succeeded"));
        let (algorithm, returns) = (container(ALGORITHM), container(RETURN));
        // Containers start in order: if `return` has started, so had the algorithm, unless its image was missing.
        let algorithm = if returns.has_started() { algorithm.if_started(over) } else { algorithm };
        let facts = Self {
            name: meta.name.clone()?,
            job_uid: meta.labels.as_ref()?.get(labels::JOB_UID).cloned().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            over,
            gone: None,
            unschedulable: scheduled.filter(|c| c.status == "False").map(|c| said(c.message.as_ref())),
            scheduled: scheduled.is_some_and(|c| c.status == "True"),
            scheduled_at: scheduled.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0),
            reason: status.filter(|s| s.reason.is_some()).map(|s| (said(s.reason.as_ref()), said(s.message.as_ref()))),
            disruption: disruption.map(|c| (said(c.reason.as_ref()), said(c.message.as_ref()))),
            told: deleted_at.into_iter().chain(disrupted_at).min(),
            ends_at,
            memory_limit: limit("memory"),
            disk_limit: limit("ephemeral-storage"),
            receive: container(RECEIVE),
            algorithm,
            returns,
            injected: injected::of(pod),
        };
        Some((run, facts))
    }
}

/// Reads a container's state from the kubelet's report.
pub(super) fn read_state(status: &ContainerStatus) -> Container {
    match status.state.as_ref() {
        Some(ContainerState { running: Some(running), .. }) => {
            Container::Running { since: running.started_at.as_ref().map(|time| time.0) }
        }
        Some(ContainerState { terminated: Some(end), .. }) => Container::Ended(End {
            code: end.exit_code,
            reason: said(end.reason.as_ref()),
            message: said(end.message.as_ref()),
            // The kubelet also reports containers as lost that never existed. Those have no ID.
            started: match end.reason.as_deref() {
                Some("StartError" | "ContainerCannotRun") => false,
                Some("ContainerStatusUnknown") => status.container_id.as_ref().is_some_and(|id| !id.is_empty()),
                _ => true,
            },
            at: end.finished_at.as_ref().map(|time| time.0),
        }),
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            Container::Waiting { reason: said(waiting.reason.as_ref()), message: said(waiting.message.as_ref()) }
        }
        _ => Container::Unknown,
    }
}

/// A Job and its pod in the initial state for tests: scheduled, with no container started.
#[cfg(test)]
pub mod sample {
    use super::*;

    /// A Job of run 1 with the uid `u`.
    pub fn job() -> JobFacts {
        JobFacts {
            name: "j".into(),
            uid: "u".into(),
            run: RunId(1),
            task: TaskId(1),
            identity: None,
            created: None,
            reported: false,
            lingers: false,
            stopped: None,
            deleting: false,
            failed: None,
            failed_at: None,
            attempt: 1,
            executions: 0,
            key_of_uid: true,
            supplied: true,
        }
    }

    /// The pod of [`job`].
    pub fn pod() -> PodFacts {
        PodFacts {
            name: "p".into(),
            job_uid: "u".into(),
            created: None,
            deleting: false,
            over: false,
            gone: None,
            unschedulable: None,
            scheduled: true,
            scheduled_at: None,
            reason: None,
            disruption: None,
            told: None,
            ends_at: None,
            memory_limit: None,
            disk_limit: None,
            receive: Container::Unknown,
            algorithm: Container::Unknown,
            returns: Container::Unknown,
            injected: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> PodFacts {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {labels::TASK: "1", labels::RUN: "2"}},
            "status": status,
        }))
        .unwrap();
        let (run, facts) = PodFacts::read(&pod).unwrap();
        assert_eq!(run, RunId(2));
        facts
    }

    #[test]
    fn a_fresh_pod_tells_nothing() {
        let facts = pod(json!({"phase": "Pending"}));
        assert_eq!(facts.algorithm, Container::Unknown);
        assert!(!facts.scheduled && !facts.over && facts.unschedulable.is_none());
    }

    /// The report of a kubelet about a pod that it has evicted.
    #[test]
    fn an_algorithm_that_is_lost_was_started_if_return_was() {
        let ended = |reason: &str| json!({"terminated": {"exitCode": 137, "reason": reason}});
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let lost = "ContainerStatusUnknown";
        for (phase, algorithm, returns, started) in [
            ("Failed", ended(lost), ended("Error"), true),
            ("Failed", ended(lost), ended(lost), false),
            ("Failed", waits("PodInitializing"), ended("Error"), true),
            ("Failed", waits("PodInitializing"), waits("PodInitializing"), false),
            ("Failed", waits("ErrImagePull"), ended("Error"), false),
            ("Running", waits("PodInitializing"), json!({"running": {}}), false),
        ] {
            let status = |name, state: &serde_json::Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            let containers = json!([status("algorithm", &algorithm), status("return", &returns)]);
            let facts = pod(json!({"phase": phase, "containerStatuses": containers}));
            assert_eq!(facts.algorithm.has_started(), started, "{facts:?}");
            // A container that was seen running before.
            let running = PodFacts { algorithm: Container::Running { since: None }, ..facts.clone() };
            let after = facts.clone().after(&running);
            assert!(after.algorithm.has_started(), "{after:?}");
            assert_eq!(matches!(after.algorithm, Container::Running { .. }), phase == "Running");
            assert_eq!(facts.clone().after(&facts), facts);
        }
    }

    #[test]
    fn containers_are_found_by_name() {
        let facts = pod(json!({
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "initContainerStatuses": [{"name": "receive", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
            "containerStatuses": [
                {"name": "algorithm", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}},
                {"name": "return", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]
        }));
        assert!(facts.scheduled);
        assert!(matches!(facts.receive, Container::Ended(End { code: 0, .. })));
        assert_eq!(facts.algorithm, Container::Waiting { reason: "ErrImagePull".into(), message: "not found".into() });
        assert!(matches!(facts.returns, Container::Running { since: Some(_) }));
    }

    #[test]
    fn a_job_is_of_one_run_alone() {
        use sextant_core::assignment::sample::assignment;
        use sextant_core::run_identity::sample::identity;
        let node = Identity::new("s".into(), vantage6_types::NodeId(1), &"key".to_owned().into());
        let first = assignment(27, 27, "when the server was started");
        let second = Assignment { identity: identity("made later, of another image"), ..first.clone() };
        let third = assignment(27, 27, "after its next start");
        for attempt in [1, 2] {
            let job = |name: String, identity| JobFacts { name, identity, attempt, ..sample::job() };
            let made = job(node.attempt_name(&first, attempt), Some(first.identity));
            let former = job(node.former_attempt_name(&first, attempt), None);
            let forged = job(node.attempt_name(&second, attempt), Some(first.identity));
            let nameless = job(node.attempt_name(&first, attempt), None);
            for (what, job, of_first, of_second, of_third) in [
                ("made", made, true, false, false),
                ("by a former version", former, true, true, false),
                ("of two runs", forged, false, false, false),
                ("without its annotation", nameless, false, false, false),
            ] {
                let is_of = [&first, &second, &third].map(|run| job.is_of(&node, run));
                assert_eq!(is_of, [of_first, of_second, of_third], "{what}, launch {attempt}");
            }
        }
    }

    #[test]
    fn strangers_are_left_alone() {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"app": "x"}}})).unwrap();
        assert!(PodFacts::read(&pod).is_none());
        let job = serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}})).unwrap();
        assert!(JobFacts::read(&job).is_none());
    }

    #[test]
    fn a_jobs_report_and_failure_are_read() {
        let job = serde_json::from_value(json!({
            "metadata": {"name": "j", "uid": "u", "labels": {labels::TASK: "1", labels::RUN: "2"},
                "annotations": {labels::REPORTED: "completed", labels::RUN_IDENTITY: "00112233445566778899aabbccddeeff"}},
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]}
        }))
        .unwrap();
        let facts = JobFacts::read(&job).unwrap();
        assert!(facts.reported && !facts.deleting);
        assert_eq!(facts.identity, "00112233445566778899aabbccddeeff".parse().ok());
        assert_eq!(facts.failed, Some(("BackoffLimitExceeded".into(), "m".into())));
    }
}
