//! What the node's metrics are told of runs.

use std::time::Duration;

use jiff::Timestamp;
use sextant_core::blame::blame;
use sextant_core::decide::ServerSide;
use sextant_core::hub::Run;
use sextant_core::situation::{self, Failure, Situation};
use sextant_metrics::{NodeMetrics, Stage, TrackedRun, WaitsFor};
use vantage6_types::RunStatus;

use super::report::Reported;

/// Begins to track a run that is new to this process.
pub fn track(metrics: &NodeMetrics, run: &Run, under_way: bool) -> TrackedRun {
    if under_way {
        return metrics.taken_over();
    }
    let since = run.assigned_at.map(|at| Timestamp::now().duration_since(at));
    // The server's clock may be ahead of this machine's.
    metrics.heard(since.map(|since| Duration::try_from(since).unwrap_or_default()))
}

/// How far a run is.
pub fn stage(server: &ServerSide, situation: &Situation) -> Stage {
    match situation {
        _ if server.finished => Stage::Releasing,
        _ if server.verdict.is_some() => Stage::Reporting,
        Situation::Absent if server.launched => Stage::Launching,
        Situation::Absent => Stage::Waiting,
        Situation::Starting(starting) => Stage::Starting(waits_for(starting.waits_for)),
        Situation::Running { .. } => Stage::Running,
        Situation::Ended(_) | Situation::Leaving { .. } => Stage::Collecting,
        Situation::Ending { .. } => Stage::Terminating,
        Situation::Failed(_) => Stage::Reporting,
        Situation::Reported => Stage::Releasing,
    }
}

fn waits_for(reason: situation::WaitsFor) -> WaitsFor {
    match reason {
        situation::WaitsFor::Pod => WaitsFor::Pod,
        situation::WaitsFor::Quota => WaitsFor::Quota,
        situation::WaitsFor::Machine => WaitsFor::Machine,
        situation::WaitsFor::Volume => WaitsFor::Volume,
        situation::WaitsFor::OwnContainer => WaitsFor::OwnContainer,
        situation::WaitsFor::OwnImage => WaitsFor::OwnImage,
        situation::WaitsFor::Injected => WaitsFor::Injected,
        situation::WaitsFor::InjectedImage => WaitsFor::InjectedImage,
        situation::WaitsFor::Supplies => WaitsFor::Input,
        situation::WaitsFor::Pull => WaitsFor::Pull,
        situation::WaitsFor::Image => WaitsFor::Image,
        situation::WaitsFor::Container => WaitsFor::Container,
    }
}

/// Counts what came of a report; `delivered` is the size of the output that went with it.
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
