//! Reports that do not get through: they are made again, and keep nobody waiting meanwhile. A large result that the server never takes is
//! given up.

use sextant_core::next_action::Stop;
use tracing::error;

use super::Drive;

/// So often the server fails at a large result before it is given up: for some minutes.
const FAILED_RESULTS: u32 = 8;
/// What is smaller any server can store: something else is wrong then, which may be repaired.
const LARGE: u64 = 1024 * 1024;

impl Drive {
    /// The server does not take the report now. Others need not wait for that, once the algorithm does not run any more.
    pub(super) async fn report_again(&mut self) {
        if self.server.verdict.as_ref().is_none_or(|verdict| verdict.stop != Stop::Due) {
            self.place = None;
        }
        self.later("the report is to be made again").await;
    }

    /// The server fails at a report with a large result. Where it does so again and again, and does small things, it never takes it.
    pub(super) async fn failing_with(&mut self, size: Option<u64>) {
        let Some(size) = size.filter(|size| *size >= LARGE) else { return self.report_again().await };
        self.failed_results += 1;
        if self.failed_results < FAILED_RESULTS || !self.server_does_small_things().await {
            self.report_again().await;
            return;
        }
        let why = format!(
            "The server failed each of {} times with an error of its own (HTTP 500 or above), and answers small requests: most likely the result \
             is larger than it can store. Have the algorithm return less, or ask the server's administrator how large a result may be.",
            self.failed_results
        );
        error!(run = %self.run.id, size, "the result is given up: {why}");
        self.report_less(&why, Some(size)).await;
    }

    /// Whether the server takes a change of this run that is as small as can be: one that it has already.
    async fn server_does_small_things(&self) -> bool {
        let (hub, status) = (&self.context.hub, &self.server.status);
        self.context.leadership.is_leader() && hub.set_status(self.run.id, status, None).await.is_ok()
    }
}
