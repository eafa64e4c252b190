//! Retries reports that did not get through, without blocking other runs. A large result that the server never accepts is given up.

use sextant_core::next_action::Stop;
use tracing::error;

use super::{Obstacle, RunReconciler};

/// How often the server may fail to accept a large result before it is given up: some minutes with the pauses.
const FAILED_RESULTS: u32 = 8;
/// Any server can store less than this. Then something else is wrong, which may be repaired.
const LARGE: u64 = 1024 * 1024;

impl RunReconciler {
    /// Retries a report that the server does not accept now. Once the algorithm no longer runs, other runs need not wait for that.
    pub(super) async fn retry_report(&mut self) {
        if self.server.verdict.as_ref().is_none_or(|verdict| verdict.stop != Stop::Due) {
            self.slot = None;
        }
        self.back_off(Obstacle::Report, "the report did not get through").await;
    }

    /// Handles a server error for a report with a large result. If the server fails repeatedly but accepts small changes, it will never
    /// accept the result.
    pub(super) async fn on_server_failure(&mut self, size: Option<u64>) {
        let Some(size) = size.filter(|size| *size >= LARGE) else { return self.retry_report().await };
        self.failed_result_reports += 1;
        if self.failed_result_reports < FAILED_RESULTS || !self.server_accepts_small_changes().await {
            self.retry_report().await;
            return;
        }
        let why = format!(
            "The server failed each of {} times with an error of its own (HTTP 500 or above), and answers small requests: most likely the result \
             is larger than it can store. Have the algorithm return less, or ask the server's administrator how large a result may be.",
            self.failed_result_reports
        );
        error!(run = %self.run.id, size, "The node gives up the result: {why}");
        self.report_reduced(&why, Some(size)).await;
    }

    /// Whether the server accepts the smallest possible change of this run: setting the status that it already has.
    async fn server_accepts_small_changes(&self) -> bool {
        let (hub, status) = (&self.context.hub, &self.server.status);
        self.context.leadership.is_leader() && hub.set_status(self.run.id, status, None).await.is_ok()
    }
}
