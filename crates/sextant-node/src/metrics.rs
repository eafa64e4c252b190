//! Records runs in the node's metrics.

use std::time::Duration;

use jiff::Timestamp;
use sextant_core::blame::blame;
use sextant_core::hub::Run;
use sextant_core::next_action::ServerView;
use sextant_core::run_state::{Failure, RunState};
use sextant_metrics::{NodeMetrics, Stage, TrackedRun};
use vantage6_types::RunStatus;

use super::report::Reported;

/// Starts tracking a run that is new to this process.
pub fn track(metrics: &NodeMetrics, run: &Run, under_way: bool) -> TrackedRun {
    if under_way {
        return metrics.taken_over();
    }
    let since = run.assigned_at.map(|at| Timestamp::now().duration_since(at));
    // The server's clock may be ahead of this machine's.
    metrics.heard(since.map(|since| Duration::try_from(since).unwrap_or_default()))
}

/// The stage of a run, for the metrics.
pub fn stage(server: &ServerView, run_state: &RunState) -> Stage {
    match run_state {
        _ if server.finished => Stage::Releasing,
        _ if server.verdict.is_some() => Stage::Reporting,
        RunState::Absent if server.launched => Stage::Launching,
        RunState::Absent => Stage::Waiting,
        RunState::Starting(starting) => Stage::Starting(starting.waits_for),
        RunState::Running { .. } => Stage::Running,
        RunState::Ended(_) | RunState::TerminatingWithOutput { .. } => Stage::Collecting,
        RunState::Terminating { .. } => Stage::Terminating,
        RunState::Failed(_) => Stage::Reporting,
        RunState::Released => Stage::Releasing,
    }
}

/// Counts the outcome of a report. `delivered` is the size of the output that was sent with it.
pub fn reported(metrics: &NodeMetrics, reported: &Reported, failure: Option<&Failure>, delivered: Option<u64>) {
    match reported {
        Reported::Yes(status) => {
            metrics.finished(label(status));
            if let Some((failure, blame)) = failure.and_then(|failure| Some((failure, blame(failure)?))) {
                metrics.failed(failure.reason, blame.as_str());
            }
            if let Some(bytes) = delivered {
                metrics.delivered(bytes);
            }
        }
        Reported::Later | Reported::Failing => metrics.report_retried(),
        Reported::Already | Reported::Never(_) => {}
    }
}

fn label(status: &RunStatus) -> &'static str {
    match status {
        RunStatus::Completed => "completed",
        RunStatus::Failed => "failed",
        RunStatus::StartFailed => "start failed",
        RunStatus::NoDockerImage => "non-existing Docker image",
        RunStatus::Crashed => "crashed",
        RunStatus::Killed => "killed by user",
        RunStatus::NotAllowed => "not allowed",
        _ => "other",
    }
}
