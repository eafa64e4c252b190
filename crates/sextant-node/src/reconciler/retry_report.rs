//! Reports that do not get through: they are made again, and keep nobody waiting meanwhile. A large result that the server never takes is
//! given up.

use sextant_core::next_action::Stop;
use tracing::error;

use super::{Obstacle, RunReconciler};

/// So often the server fails at a large result before it is given up: for some minutes.
const FAILED_RESULTS: u32 = 8;
/// What is smaller any server can store: something else is wrong then, which may be repaired.
const LARGE: u64 = 1024 * 1024;

impl RunReconciler {
    /// The server does not take the report now. Others need not wait for that, once the algorithm does not run any more.
    pub(super) async fn retry_report(&mut self) {
        if self.server.verdict.as_ref().is_none_or(|verdict| verdict.stop != Stop::Due) {
            self.slot = None;
        }
        self.back_off(Obstacle::Report, "the report did not get through").await;
    }

    /// The server fails at a report with a large result. Where it does so again and again, and does small things, it never takes it.
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

    /// Whether the server takes a change of this run that is as small as can be: one that it has already.
    async fn server_accepts_small_changes(&self) -> bool {
        let (hub, status) = (&self.context.hub, &self.server.status);
        self.context.leadership.is_leader() && hub.set_status(self.run.id, status, None).await.is_ok()
    }
}
