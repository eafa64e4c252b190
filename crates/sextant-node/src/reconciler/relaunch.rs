//! Launches runs again that the cluster disrupted or has no capacity for, now or later, while that is allowed.

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
    /// Launches a disrupted run again, unless it has ended at the server meanwhile.
    pub(super) async fn relaunch(&mut self, failure: &Failure) -> Result<(), Interrupted> {
        let Failure { message, detail, reason, .. } = failure;
        let before = failure.disruption.unwrap_or_default();
        if !self.is_gate_open() {
            // That may take hours, and a lost machine may return meanwhile.
            return self.pass_gate().await;
        }
        self.confirm_open().await?;
        if self.server.status == RunStatus::Killed {
            return Err(Interrupted);
        }
        warn!(run = %self.run.id, task = %self.run.task.id, "Run will be launched again: {message} ({detail})");
        // Back off exponentially if the cluster disrupts the run repeatedly.
        let pause =
            Duration::from_secs(2u64.saturating_pow(before.attempt.saturating_sub(1)).saturating_sub(1).min(60));
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.signal.changed() => return Err(Interrupted),
            _ = self.run_state.changed() => return Err(Interrupted),
        }
        // An earlier process admitted the run, and its decision about the image is not known here.
        if !self.admitted {
            Box::pin(self.admit(HELD)).await?;
            self.wait_for_slot().await?;
        }
        self.learn_first_task().await?;
        // The decision may be outdated after the pause, and this process may no longer be the leader.
        if self.run_state.has_changed().unwrap_or(true) || !self.context.leadership.is_leader() {
            return Err(Interrupted);
        }
        // No object of the new launch has been seen yet.
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

    /// Waits for capacity in the runtime. Reports a run that has waited too long.
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
