//! Causes that end a run's pod before its algorithm and its output are done: Kubernetes's reasons for them, and Sextant's texts.

use sextant_core::run_state::{Disruption, Failure};
use vantage6_types::RunStatus;

use super::facts::{Container, JobFacts, PodFacts};
use super::injected::Injected;

/// Why a pod was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisruptionCause {
    /// The run wrote more to the machine's disk than its limit.
    DiskLimit,
    /// The machine evicted it because the machine ran low on this resource.
    Evicted(Option<&'static str>),
    /// The scheduler or a machine preempted it for a pod of a higher priority.
    Preempted,
    /// The machine was drained.
    Drained,
    /// The machine was shut down.
    Shutdown,
    /// The machine was lost.
    Machine,
    /// The machine that the scheduler had chosen did not admit it.
    Rejected,
    /// One of the causes above, while no node was running: only the Job records it.
    TakenAway,
    /// The Job's own deadline passed.
    TimedOut,
    /// A person or program deleted the pod.
    PodDeleted,
    /// A person or program deleted the Job.
    JobDeleted,
    /// Any other cause.
    Stopped,
}

/// How far the run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its algorithm had not started.
    Starting,
    /// Its algorithm had started.
    Running,
    /// Its algorithm had ended by itself.
    Ended,
}

impl DisruptionCause {
    /// Determines the cause from Kubernetes's reasons.
    pub fn of(job: &JobFacts, pod: &PodFacts) -> Self {
        let (reason, message) = pod.reason.as_ref().map_or(("", ""), |(reason, message)| (reason, message));
        let disruption = pod.disruption.as_ref().map_or("", |(reason, _)| reason);
        match (reason, disruption) {
            ("Evicted", _) if is_own_limit(message) => Self::DiskLimit,
            ("Evicted", _) => Self::Evicted(scarce(message)),
            ("Preempting", _) | (_, "PreemptionByScheduler") => Self::Preempted,
            (_, "EvictionByEvictionAPI") => Self::Drained,
            ("Terminated" | "NodeShutdown" | "Shutdown", _) => Self::Shutdown,
            ("NodeLost", _) | (_, "DeletionByTaintManager" | "DeletionByPodGC") => Self::Machine,
            // The machine rejected the pod on arrival.
            (
                "UnexpectedAdmissionError" | "NodeAffinity" | "NodeName" | "TopologyAffinityError" | "TaintToleration",
                _,
            ) => Self::Rejected,
            (reason, _) if reason.starts_with("OutOf") => Self::Rejected,
            (_, "TerminationByKubelet") => Self::Evicted(scarce(message)),
            _ if job.failed_by("DeadlineExceeded") => Self::TimedOut,
            _ if job.deleting => Self::JobDeleted,
            // Only the Job controller saw its end.
            _ if pod.gone.is_some() && job.failed_by("PodFailurePolicy") => Self::TakenAway,
            _ if pod.algorithm.was_lost() || pod.receive.was_lost() => Self::Machine,
            ("", _) if pod.deleting => Self::PodDeleted,
            _ => Self::Stopped,
        }
    }

    /// The row of the table: the reason, the researcher's text, and whether the run may be relaunched.
    fn row(&self, disk_limit: Option<&str>) -> (&'static str, String, bool) {
        let (reason, text, disruption) = match self {
            Self::DiskLimit => {
                let limit = disk_limit.map(|limit| format!(" ({limit})")).unwrap_or_default();
                return ("DiskLimitExceeded", format!("The run wrote more to disk than its limit{limit}"), false);
            }
            Self::Evicted(Some(what)) => {
                return ("Evicted", format!("The run was evicted from its machine, which ran low on {what},"), true);
            }
            Self::Evicted(None) => ("Evicted", "The run was evicted from its machine", true),
            Self::Preempted => ("Preempted", "The run was preempted by a more important one", true),
            Self::Drained => ("Drained", "The run's machine was taken out of service", true),
            Self::Shutdown => ("MachineShutdown", "The run's machine was shut down", true),
            Self::Machine => ("MachineLost", "The run's machine was lost", true),
            Self::TakenAway => ("Disrupted", "The run was taken off its machine", true),
            Self::Rejected => ("MachineRefused", "The run's machine did not accept it", true),
            Self::TimedOut => ("TimedOut", "The run was stopped, because it took longer than this node allows,", false),
            Self::PodDeleted => ("PodDeleted", "The run's pod was deleted from the cluster", false),
            Self::JobDeleted => ("JobDeleted", "The run's Job was deleted from the cluster", false),
            Self::Stopped => ("Stopped", "The run was stopped in the cluster", false),
        };
        (reason, text.to_owned(), disruption)
    }

    /// The failure to report.
    pub fn failure(&self, job: &JobFacts, pod: Option<&PodFacts>, progress: Progress, note: Option<&str>) -> Failure {
        let (reason, text, disruption) = self.row(pod.and_then(|pod| pod.disk_limit.as_deref()));
        let before = match progress {
            Progress::Starting => "before the algorithm started.",
            Progress::Running => "before the algorithm ended.",
            Progress::Ended => "before its output could be uploaded to the node.",
        };
        let note = note.map(|note| format!(" {note}")).unwrap_or_default();
        let started = progress != Progress::Starting;
        Failure {
            status: RunStatus::Crashed,
            message: format!("{text} {before}{note}"),
            detail: detail(job, pod),
            reason,
            started,
            disruption: disruption
                .then(|| Disruption { attempt: job.attempt, executions: job.executions + u32::from(started) }),
        }
    }
}

/// Everything that Kubernetes reports about the end, for the operator.
fn detail(job: &JobFacts, pod: Option<&PodFacts>) -> String {
    let mut said = Vec::new();
    if let Some(pod) = pod {
        said.extend(pod.reason.iter().map(|(reason, message)| format!("{reason}: {message}")));
        said.extend(pod.disruption.iter().map(|(reason, message)| format!("{reason}: {message}")));
        for (name, container) in [("receive", &pod.receive), ("algorithm", &pod.algorithm), ("return", &pod.returns)] {
            if let Container::Ended(end) = container
                && end.code != 0
            {
                said.push(format!("{name} exited with {} ({}) {}", end.code, end.reason, end.message.trim()));
            }
        }
        said.extend(pod.injected.iter().filter_map(Injected::unhappy_end));
        if pod.deleting {
            said.push("the pod was deleted".into());
        }
    }
    said.extend(job.failed.iter().map(|(reason, message)| format!("the Job failed: {reason}: {message}")));
    if job.deleting {
        said.push("the Job was deleted".into());
    }
    if said.is_empty() { "the pod has ended".into() } else { said.join("; ") }
}

/// Whether the pod was evicted because of its own limit, and not to free resources for others.
fn is_own_limit(message: &str) -> bool {
    ["exceeded its local ephemeral storage limit", "exceeds the limit", "exceeds the total limit of containers"]
        .iter()
        .any(|words| message.contains(words))
}

/// The resource that the machine ran low on.
fn scarce(message: &str) -> Option<&'static str> {
    let (_, resource) = message.split_once("low on resource: ")?;
    match resource.split(['.', ' ', ',']).next()? {
        "memory" => Some("memory"),
        "ephemeral-storage" | "inodes" => Some("disk space"),
        "pids" => Some("processes"),
        _ => None,
    }
}
