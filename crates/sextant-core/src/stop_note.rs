//! The stored reason why a run was stopped.

use serde::{Deserialize, Serialize};
use vantage6_types::RunStatus;

use crate::run_state::Failure;

/// Why a run was stopped, as the runtime stores it with the run. The report may have to wait for the server, and for the next process of
/// this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNote {
    /// The status to report.
    status: RunStatus,
    /// The text for the researcher.
    message: String,
    /// Whether the algorithm had started.
    started: bool,
}

impl StopNote {
    /// Creates the note from the failure for which a run is stopped.
    pub fn new(failure: &Failure) -> Self {
        let Failure { status, message, started, .. } = failure;
        Self { status: status.clone(), message: message.clone(), started: *started }
    }

    /// The failure to report.
    pub fn failure(&self) -> Failure {
        let reason = if self.status == RunStatus::Crashed { "DeadlineExceeded" } else { "Stopped" };
        let failure = Failure::new(self.status.clone(), &self.message, "this node stopped it").started(self.started);
        if failure.reason == "RunFailed" { failure.because(reason) } else { failure }
    }
}
