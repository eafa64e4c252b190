//! What comes of a run that the cluster took away, or has no room for: it is launched again, now or later, as long as it may.

use std::time::Duration;

use jiff::Timestamp;
use sextant_core::runtime::LaunchError;
use sextant_core::situation::Failure;
use sextant_core::waits;
use tokio::time::sleep;
use tracing::warn;
use vantage6_types::RunStatus;

use super::{Drive, Waiting};

impl Drive {
    /// The cluster has taken the run away: has the runtime make its things anew, unless the run has ended at the server meanwhile.
    pub(super) async fn relaunch(&mut self, failure: &Failure) {
        let Failure { message, detail, reason, .. } = failure;
        let before = failure.disruption.unwrap_or_default();
        if !self.may_launch() {
            // That may take hours, in which a machine that was lost may come back.
            self.pass_gate().await;
            return;
        }
        if !self.is_still_open().await || self.server.status == RunStatus::Killed {
            return;
        }
        warn!(run = %self.run.id, task = %self.run.task.id, "{message} ({detail}) It is launched again.");
        // Where the cluster takes it away again and again, ever more slowly.
        let pause =
            Duration::from_secs(2u64.saturating_pow(before.attempt.saturating_sub(1)).saturating_sub(1).min(60));
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.signal.changed() => return,
            _ = self.situation.changed() => return,
        }
        if !self.knows_first_task().await {
            return;
        }
        // What was decided before the pause may not be true any more, nor this process the one that acts.
        if self.situation.has_changed().unwrap_or(true) || !self.context.hold.is_good() {
            return;
        }
        // Of the new launch nothing has been seen made.
        self.launched_whole = false;
        self.server.late = false;
        let Some(whole) = self.whole_assignment().await else { return };
        let launched = self.context.runtime.relaunch(&whole.assignment, before).await;
        drop(whole);
        match launched {
            Ok(()) => {
                self.launched_whole = true;
                self.databases.launched();
                self.waiting = Waiting::default();
                self.context.metrics.relaunched(reason);
                self.context.runtime.note(
                    self.run.id,
                    reason,
                    format!("{message} So it was launched again. ({detail})"),
                );
            }
            Err(LaunchError::Later(why)) => self.later(&why).await,
            Err(LaunchError::Full(failure)) => self.full(&failure).await,
            Err(LaunchError::Failed(failure)) => {
                self.report_failure(&failure).await;
            }
        }
    }

    /// The runtime has no room for the run; one that has waited for too long is reported.
    pub(super) async fn full(&mut self, failure: &Failure) {
        let now = Timestamp::now();
        let since = self.waiting.for_room(now);
        if waits::over(Some(since), self.context.limits.pending, now).is_err() {
            self.report_failure(failure).await;
        } else {
            self.later(&failure.detail).await;
        }
    }
}
