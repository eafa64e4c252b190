//! The state of a run on its runtime, from which its next action follows.

use std::time::Duration;

use jiff::Timestamp;
use vantage6_types::RunStatus;

/// The state of a run on its runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// The runtime has nothing of it.
    Absent,
    /// It was launched, but its algorithm does not run yet.
    Starting(Starting),
    /// Its algorithm runs.
    Running {
        /// Since when, if the runtime says.
        since: Option<Timestamp>,
    },
    /// Its algorithm has ended by itself, and its output can be collected.
    Ended(Exit),
    /// Its algorithm has ended by itself, but its pod is being terminated. An output that is not collected before the pod is gone is lost.
    TerminatingWithOutput {
        /// How its algorithm ended.
        exit: Exit,
        /// Until when its pod may still upload the output.
        until: Option<Timestamp>,
        /// The failure to report if it does not.
        failure: Failure,
    },
    /// Its pod is being terminated, for whatever reason. Its machine will report how it ended; a machine that has not done so by `until`
    /// counts as lost.
    Terminating {
        /// Until when the machine may answer.
        until: Option<Timestamp>,
        /// The failure to report if it does not.
        failure: Failure,
    },
    /// It ended without an output.
    Failed(Failure),
    /// It was released: it has been reported to the server, and its remaining objects disappear by themselves.
    Released,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starting {
    /// Since when it waits.
    pub since: Option<Timestamp>,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// An explanation for people.
    pub detail: String,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The pod of its Job, which has not been created yet.
    Pod,
    /// Room for its pod in a quota of the namespace.
    Quota,
    /// A machine with enough resources.
    Machine,
    /// A volume.
    Volume,
    /// The start of Sextant's own container.
    OwnContainer,
    /// Sextant's own image, whose pull has failed so far.
    OwnImage,
    /// A container that the cluster has added to the pod.
    Injected,
    /// The image of such an added container, whose pull has failed so far.
    InjectedImage,
    /// The input and the token, which the node or its server has not returned yet.
    Inputs,
    /// The algorithm's image, which is being pulled or unpacked.
    Pull,
    /// The algorithm's image, whose pull has failed so far.
    Image,
    /// The algorithm's container, which could not be started so far.
    Container,
}

/// How an algorithm ended, if it ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// An explanation for the researcher, if the exit code alone does not say enough.
    pub note: Option<String>,
    /// The reason for its Event: `AlgorithmFailed`, `OutOfMemory`, …
    pub reason: &'static str,
}

impl Exit {
    /// Interprets an exit code without further information.
    pub fn with_code(code: i32) -> Self {
        let (note, reason) = match code {
            0 => (None, "AlgorithmEnded"),
            129..=192 => (Some(format!("The algorithm was killed by signal {}.", code - 128)), "AlgorithmKilled"),
            code => (Some(format!("The algorithm ended with exit code {code}.")), "AlgorithmFailed"),
        };
        Self { code, note, reason }
    }
}

/// Why there is no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// vantage6's status.
    pub status: RunStatus,
    /// For the researcher: no paths, addresses or secrets of the organization.
    pub message: String,
    /// For the operator: the message of Kubernetes.
    pub detail: String,
    /// The reason for its Event: `Evicted`, `ImageUnavailable`, …
    pub reason: &'static str,
    /// Whether the algorithm had started, so that it may have a log.
    pub started: bool,
    /// Set if the cluster is the cause, and neither the algorithm nor the task. The run may then be relaunched.
    pub disruption: Option<Disruption>,
}

/// The disrupted launch; by default, none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disruption {
    /// The number of the launch, from 1.
    pub attempt: u32,
    /// How many launches, including this one, had started the algorithm.
    pub executions: u32,
}

impl Failure {
    /// A failure before the algorithm was started.
    pub fn new(status: RunStatus, message: impl Into<String>, detail: impl Into<String>) -> Self {
        let reason = match &status {
            RunStatus::NoDockerImage => "ImageUnavailable",
            RunStatus::NotAllowed => "NotAllowed",
            RunStatus::Killed => "Killed",
            RunStatus::StartFailed => "StartFailed",
            _ => "RunFailed",
        };
        Self { status, message: message.into(), detail: detail.into(), reason, started: false, disruption: None }
    }

    /// Sets the reason.
    #[must_use]
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// Sets whether the algorithm had started.
    #[must_use]
    pub fn started(self, started: bool) -> Self {
        Self { started, ..self }
    }
}

/// Limits on a run's waiting times and disruptions, which the node's owner configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long to wait for a machine, a volume, or Sextant's own containers.
    pub pending: Duration,
    /// How long to wait for an image whose pull fails.
    pub image_pull: Duration,
    /// How long the algorithm may run.
    pub deadline: Duration,
    /// How many times a disrupted algorithm is executed again.
    pub retry_disrupted: u32,
    /// The maximum size of an output in bytes.
    pub output: Option<u64>,
}
