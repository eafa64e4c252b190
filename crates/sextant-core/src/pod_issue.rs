//! Why the pod of a run does not start, as the runtime reports it.

use jiff::Timestamp;

use super::run_state::{Failure, WaitsFor};

/// The runtime's information about a run that does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIssue {
    /// The runtime's message, for the operator.
    pub text: String,
    /// Its effect on the run.
    pub kind: IssueKind,
    /// When it was last reported.
    pub at: Option<Timestamp>,
}

/// The effect of an issue on the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueKind {
    /// The pod can never be created. The run fails with this.
    Permanent(Failure),
    /// The run waits for this.
    WaitsFor(WaitsFor),
    /// The run makes progress.
    Progress,
    /// The runtime retries by itself.
    Other,
}
