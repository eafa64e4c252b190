//! Runs that the cluster disrupted or has no capacity for: they are launched again, now or later, while that is allowed.

use std::time::Duration;

use jiff::Timestamp;
use sextant_core::run_state::Failure;
use sextant_core::runtime::LaunchError;
use sextant_core::timeouts;
use tokio::time::sleep;
use tracing::warn;
use vantage6_types::RunStatus;

use super::{HELD, Interrupted, Obstacle, PendingDiagnosis, RunReconciler};

impl RunReconciler {
    /// The cluster has disrupted the run: launches it again, unless the run has ended at the server meanwhile.
    pub(super) async fn relaunch(&mut self, failure: &Failure) -> Result<(), Interrupted> {
        let Failure { message, detail, reason, .. } = failure;
        let before = failure.disruption.unwrap_or_default();
        if !self.is_gate_open() {
            // That may take hours, in which a machine that was lost may come back.
            return self.pass_gate().await;
        }
        self.confirm_open().await?;
        if self.server.status == RunStatus::Killed {
            return Err(Interrupted);
        }
        warn!(run = %self.run.id, task = %self.run.task.id, "Run will be launched again: {message} ({detail})");
        // Where the cluster takes it away again and again, ever more slowly.
        let pause =
            Duration::from_secs(2u64.saturating_pow(before.attempt.saturating_sub(1)).saturating_sub(1).min(60));
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.signal.changed() => return Err(Interrupted),
            _ = self.run_state.changed() => return Err(Interrupted),
        }
        // An earlier process has let it in: what it decided on, this one does not know.
        if !self.admitted {
            Box::pin(self.admit(HELD)).await?;
            self.wait_for_slot().await?;
        }
        self.learn_first_task().await?;
        // What was decided before the pause may not be true any more, nor this process the one that acts.
        if self.run_state.has_changed().unwrap_or(true) || !self.context.leadership.is_leader() {
            return Err(Interrupted);
        }
        // Of the new launch nothing has been seen made.
        self.launched_fully = false;
        self.server.late = false;
        let full = self.full_assignment().await?;
        let launched = self.context.runtime.relaunch(&full.assignment, before).await;
        drop(full);
        match launched {
            Ok(()) => {
                self.launched_fully = true;
                self.databases.launched();
                self.pending = PendingDiagnosis::default();
                self.context.metrics.relaunched(reason);
                self.context.runtime.record_event(
                    self.run.id,
                    reason,
                    format!("{message} So it was launched again. ({detail})"),
                );
            }
            Err(LaunchError::Later(why)) => self.back_off(Obstacle::Launch, &why).await,
            Err(LaunchError::Full(failure)) => self.wait_for_capacity(&failure).await,
            Err(LaunchError::Failed(failure)) => {
                self.report_failure(&failure).await;
            }
        }
        Ok(())
    }

    /// The runtime has no room for the run; one that has waited for too long is reported.
    pub(super) async fn wait_for_capacity(&mut self, failure: &Failure) {
        let now = Timestamp::now();
        let since = self.pending.waiting_for_capacity_since(now);
        if timeouts::deadline_passed(Some(since), self.context.limits.pending, now).is_err() {
            self.report_failure(failure).await;
        } else {
            self.back_off(Obstacle::Launch, &failure.detail).await;
        }
    }
}
