//! The state of a run on its runtime, from which the next action follows.

use std::time::Duration;

use jiff::Timestamp;
use vantage6_types::RunStatus;

/// The state of a run on its runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// The runtime knows nothing of it.
    Absent,
    /// It was launched, and its algorithm is not running yet.
    Starting(Starting),
    /// Its algorithm runs.
    Running {
        /// Since when, if the runtime says.
        since: Option<Timestamp>,
    },
    /// Its algorithm has ended by itself, and its output can be collected.
    Ended(Exit),
    /// The same, but its pod is being terminated: what has not been collected when it is gone is lost.
    TerminatingWithOutput {
        /// How its algorithm ended.
        exit: Exit,
        /// Until when its pod may still upload the output.
        until: Option<Timestamp>,
        /// What is reported if it doesn't.
        failure: Failure,
    },
    /// Its pod is being terminated, whoever asked for that. Its machine will say how it ended; a machine that has not done so by then is
    /// taken for lost.
    Terminating {
        /// Until when the machine may answer.
        until: Option<Timestamp>,
        /// What is reported if it doesn't.
        failure: Failure,
    },
    /// It ended without an output.
    Failed(Failure),
    /// It was released: the server has its report, and what is left of it goes away by itself.
    Released,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starting {
    /// Since when.
    pub since: Option<Timestamp>,
    /// What for.
    pub waits_for: WaitsFor,
    /// In words, for people.
    pub detail: String,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// A pod to be made of its Job.
    Pod,
    /// A quota of the namespace that has room for a pod.
    Quota,
    /// A machine with room.
    Machine,
    /// A volume.
    Volume,
    /// The start of Sextant's own container.
    OwnContainer,
    /// Sextant's own image, whose pull has failed so far.
    OwnImage,
    /// A container that the cluster has added to the pod.
    Injected,
    /// The image of such a container, whose pull has failed so far.
    InjectedImage,
    /// Input and token: the node or its server.
    Inputs,
    /// The algorithm's image, which is being pulled or unpacked.
    Pull,
    /// The algorithm's image, whose pull has failed so far.
    Image,
    /// The algorithm's container, which could not be started so far.
    Container,
}

/// How an algorithm ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// More about it where there is more to say than the code, for the researcher.
    pub note: Option<String>,
    /// The reason of its Event: `AlgorithmFailed`, `OutOfMemory`, …
    pub reason: &'static str,
}

impl Exit {
    /// The meaning of an exit code, if nothing else is known.
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
    /// For the operator: what Kubernetes said.
    pub detail: String,
    /// The reason of its Event: `Evicted`, `ImageUnavailable`, …
    pub reason: &'static str,
    /// Whether the algorithm had started, so that there may be a log of it.
    pub started: bool,
    /// Set where neither the algorithm nor the task is to blame, but the cluster: the run may be launched again.
    pub disruption: Option<Disruption>,
}

/// What was disrupted; by default, nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disruption {
    /// Which launch of the run this was, from 1.
    pub attempt: u32,
    /// How many launches, with this one, got so far that the algorithm was started.
    pub executions: u32,
}

impl Failure {
    /// An end before the algorithm was started.
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

    /// The same with a reason of its own.
    #[must_use]
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// The same of an algorithm that had started, or had not.
    #[must_use]
    pub fn started(self, started: bool) -> Self {
        Self { started, ..self }
    }
}

/// How long a run may wait, and how often it may be disrupted, as the node's owner set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a machine, a volume, our own containers.
    pub pending: Duration,
    /// For an image whose pull fails.
    pub image_pull: Duration,
    /// For the algorithm to end.
    pub deadline: Duration,
    /// How often an algorithm that was disrupted is executed again.
    pub retry_disrupted: u32,
    /// How many bytes an output may have.
    pub output: Option<u64>,
}
