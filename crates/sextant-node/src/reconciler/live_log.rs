//! Decides when to send a run's live log: from when the server knows that the run is active until another action is due.

use sextant_core::next_action::Action;
use sextant_core::run_state::RunState;

use super::RunReconciler;
use crate::live_log::{AtServer, Follower};

impl RunReconciler {
    /// Starts or stops following the log. Returns at once: only reports to the server wait for the follower.
    pub(super) fn mind_live_log(&mut self, run_state: &RunState, action: &Action) {
        let runs = matches!(run_state, RunState::Running { .. }) && matches!(action, Action::Wait { .. });
        let follows = self.live_log.as_ref().is_some_and(|follower| !follower.is_stopped());
        if runs && !follows && self.context.share_algorithm_logs {
            let mask = self.databases.mask(&self.context.masks);
            let at_server = std::mem::replace(&mut self.log_at_server, AtServer::Unknown);
            self.live_log = Some(Follower::start(&self.context, &self.run, mask, at_server));
        } else if let Some(follower) = self.live_log.as_mut().filter(|_| !runs) {
            follower.stop();
        }
    }

    /// Waits until no live log event can reach the server, which would append it to the report's log.
    pub(super) async fn end_live_log(&mut self) {
        if let Some(follower) = self.live_log.take() {
            follower.end().await;
        }
    }
}
