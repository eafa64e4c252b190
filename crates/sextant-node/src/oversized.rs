//! Ends runs whose data at the server is too large to read. Waiting does not help, and every poll would find an open one again.

use log_throttle::LogThrottle;
use sextant_core::hub::{HubError, Report};
use tracing::warn;
use vantage6_types::{OrganizationId, RunId, RunStatus};

use super::registry::Registry;

static ENDED: LogThrottle = LogThrottle::new();
static REFUSED: LogThrottle = LogThrottle::new();

/// Reports such a run as failed to start, if it belongs to this organization and this node has nothing of it.
pub async fn end(registry: &Registry, run: RunId, organization: OrganizationId, problem: &HubError) {
    let context = &registry.context;
    let is_ours = organization == context.me.organization;
    if !is_ours || registry.contains(run) || registry.is_under_way(run) || !context.leadership.is_leader() {
        return;
    }
    let log = format!(
        "[sextant] This run was not started: {problem}. See what the task gives for its databases and how many it asks for, and make it \
         again with less."
    );
    let report = Report::now(RunStatus::StartFailed, log);
    let report = Report { started_at: Some(report.finished_at), ..report };
    match context.hub.finish_run(run, report).await {
        Ok(()) => {
            if let Some(times) = ENDED.happened() {
                warn!(%run, times, "Reported as {}: {problem}", RunStatus::StartFailed);
            }
        }
        Err(error) if error.is_over() => {}
        Err(error) => {
            if let Some(times) = REFUSED.happened() {
                warn!(%run, times, "The run can't be read, and that can't be reported: {error}; tried again with the next look");
            }
        }
    }
}
