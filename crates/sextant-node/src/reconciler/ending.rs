//! How a run ends: its output is uploaded to the server, it is stopped, or its failure is reported.

use std::time::Duration;

use log_throttle::LogThrottle;
use sextant_core::next_action::{Stop, Verdict};
use sextant_core::run_state::{Exit, Failure};
use sextant_metrics::Stage;
use tokio::time::sleep;
use tracing::warn;
use vantage6_types::RunStatus;

use super::{Obstacle, RunReconciler};
use crate::report::{self, HeldLog, Reported};

/// After this time the node warns that an output has not arrived.
const OUTPUT_LATE_AFTER: Duration = Duration::from_secs(120);

impl RunReconciler {
    /// Uploads the output to the server, unless the state changes first.
    pub(super) async fn collect(&mut self, exit: &Exit) {
        self.learn_start().await;
        let context = self.context.clone();
        // Read the log before requesting the output: the connection that carries the output must wait for nothing but the server.
        let mask = self.databases.mask(&context.masks);
        let live_log = self.live_log.take();
        let (log, ()) = tokio::join!(report::log(&context, &self.run, &mask, true), async {
            if let Some(follower) = live_log {
                follower.end().await;
            }
        });
        let output = tokio::select! {
            output = context.runtime.collect(self.run.id) => output,
            _ = self.run_state.changed() => return,
            _ = self.signal.changed() => return,
            () = sleep(OUTPUT_LATE_AFTER) => {
                self.server.late = true;
                warn!(
                    run = %self.run.id,
                    "The algorithm has finished, but its pod has not uploaded the output. Check that the pod can \
                     reach this node's data port. The node keeps waiting."
                );
                return;
            }
        };
        match output {
            // The new leader collects the output again.
            Ok(_) if !context.leadership.is_leader() => {}
            Ok(output) => {
                let size = output.upload.length;
                self.tracked.enter(Stage::Delivering);
                let reported = report::with_output(&context, &self.run, &mask, exit, output, log).await;
                self.on_reported(reported, Some(size)).await;
            }
            Err(error) => self.back_off(Obstacle::Output, &format!("the output could not be collected: {error}")).await,
        }
    }

    /// Stops the run now and reports it afterwards. An algorithm that was killed or exceeded its deadline must not keep running because
    /// the server, or memory for its log, is unavailable.
    pub(super) async fn stop(&mut self, failure: Failure) {
        if !self.context.leadership.is_leader() {
            return;
        }
        let failure = self.with_reason(failure);
        let stop = match self.context.runtime.stop(self.run.id, &failure).await {
            Ok(()) => Stop::Done,
            Err(error) => {
                static UNSTOPPED: LogThrottle = LogThrottle::new();
                if let Some(times) = UNSTOPPED.happened() {
                    warn!(run = %self.run.id, times, "Could not stop the run: {error}; the node retries");
                }
                Stop::Due
            }
        };
        self.server.verdict = Some(Verdict { failure: failure.clone(), stop });
        if self.log.is_none() {
            let mask = self.databases.mask(&self.context.masks);
            self.log = Some(report::log_of_stopped(&self.context, &self.run, &mask, failure.started).await);
        }
        self.report_failure(&failure).await;
    }

    /// Replaces the failure of a run that did not start with the reason why its objects could not be created, which says more than a
    /// timeout.
    fn with_reason(&self, failure: Failure) -> Failure {
        match &self.refused {
            Some(refused) if failure.status == RunStatus::StartFailed && !failure.started => {
                if failure.detail.contains(&refused.detail) {
                    return failure;
                }
                Failure { detail: format!("{}; {}", refused.detail, failure.detail), ..refused.clone() }
            }
            _ => failure,
        }
    }

    /// Reports an end without output. A report that the server does not accept now is retried.
    pub(super) async fn report_failure(&mut self, failure: &Failure) {
        self.learn_start().await;
        let failure = &self.with_reason(failure.clone());
        self.tracked.enter(Stage::Reporting);
        self.server.verdict.get_or_insert_with(|| Verdict { failure: failure.clone(), stop: Stop::Done });
        if self.logged_failure.as_ref() != Some(failure) {
            report::tell(&self.run, failure);
            self.logged_failure = Some(failure.clone());
        }
        self.end_live_log().await;
        let mask = self.databases.mask(&self.context.masks);
        let reported = report::without_output(&self.context, &self.run, &mask, failure, self.log.as_ref()).await;
        self.on_reported(reported, None).await;
    }

    /// Processes the outcome of a report. `size` is the size of the output, if there was one.
    async fn on_reported(&mut self, reported: Reported, size: Option<u64>) {
        match reported {
            Reported::Yes(status) => {
                self.server.finished = true;
                self.server.status = status;
            }
            Reported::Already => {
                if self.confirm_open().await.is_ok() {
                    self.back_off(Obstacle::Server, "the server says both that the run has ended and that it is open")
                        .await;
                }
            }
            Reported::Later => self.retry_report().await,
            Reported::Failing => self.on_server_failure(size).await,
            Reported::Never(why) => self.report_reduced(&why, size).await,
        }
    }

    /// Closes a run whose report is refused for good with a smaller report: first without the output, then without the log.
    pub(super) async fn report_reduced(&mut self, why: &str, size: Option<u64>) {
        let refused =
            |message| Failure::new(RunStatus::Failed, message, "the report was refused").because("ReportRefused");
        let failure = match (size, &self.log) {
            (Some(size), _) => {
                refused(format!("The result ({size} bytes) could not be delivered. {why}")).started(true)
            }
            (None, Some(log)) if log.is_left_out() => {
                return self.back_off(Obstacle::Report, "the server refuses every report of this run").await;
            }
            (None, _) => {
                self.log = Some(HeldLog::left_out());
                match &self.server.verdict {
                    Some(verdict) => verdict.failure.clone(),
                    None => refused(why.to_owned()),
                }
            }
        };
        self.server.verdict = Some(Verdict { failure, stop: Stop::Done });
        // Other runs must not wait until the server accepts the report.
        self.slot = None;
    }
}
