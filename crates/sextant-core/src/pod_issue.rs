//! Why the pod of a run does not start, as the runtime reports it.

use jiff::Timestamp;

use super::run_state::{Failure, WaitsFor};

/// What the runtime says of a run that does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIssue {
    /// In the runtime's words, for the operator.
    pub text: String,
    /// What it means for the run.
    pub kind: IssueKind,
    /// When it was last reported.
    pub at: Option<Timestamp>,
}

/// What an issue means for the run.
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
