//! The server's view of a run, refreshed if its list lacks the run or before the node acts on it.

use log_throttle::LogThrottle;
use sextant_core::hub::HubError;
use sextant_core::run_identity::RunIdentity;
use tracing::{info, warn};
use vantage6_types::RunStatus;

use super::{Interrupted, Obstacle, RunReconciler, ServerViewAge};

impl RunReconciler {
    /// Refreshes a run that the server's list lacks, or whose id another run may have. `asked` is the number of refreshes requested so far.
    pub(super) async fn refresh_if_requested(&mut self, asked: u32) {
        match self.refresh().await {
            Ok(()) => {
                self.refreshes = asked;
                self.denied = 0;
            }
            // The refresh is retried right after the pause that follows.
            Err(error) if error.is_passing() => {}
            Err(error) => {
                // An immediate retry would get the same answer. The next poll of all runs requests another refresh.
                self.refreshes = asked;
                // A run that the node may no longer see is not this node's. Only after two denials, because a server may also respond 401
                // temporarily.
                self.denied += u32::from(error.is_denied());
                if self.denied > 1 {
                    info!(run = %self.run.id, "Run is not in the server's list, and this node may not read it: {error}");
                    self.server.finished = true;
                    self.view = ServerViewAge::Fresh;
                }
            }
        }
    }

    /// Reads the run's state from the server. Another client may have ended it.
    async fn refresh(&mut self) -> Result<(), HubError> {
        self.view = ServerViewAge::Stale;
        match self.context.hub.run(self.run.id).await {
            Ok(run) if RunIdentity::from(&run) != self.assignment.identity => {
                info!(run = %self.run.id, "Run was deleted at the server, which reuses its id for another run");
                self.server.finished = true;
            }
            Ok(run) => {
                self.server.finished = run.finished_at.is_some();
                self.server.status = run.status;
                if self.server.finished && self.server.status == RunStatus::Killed {
                    self.context.status_publisher.status(&self.run, &RunStatus::Killed).await;
                }
            }
            Err(error) if error.is_deleted_run() => self.server.finished = true,
            Err(error) => {
                static UNREAD: LogThrottle = LogThrottle::new();
                if let Some(times) = UNREAD.happened() {
                    warn!(run = %self.run.id, times, "Could not read the run at the server: {error}");
                }
                return Err(error);
            }
        }
        self.view = ServerViewAge::Fresh;
        Ok(())
    }

    /// Handles an error of the server for a change of the run.
    pub(super) async fn on_rejected(&mut self, error: &HubError) {
        if error.is_over() {
            info!(run = %self.run.id, "Run has ended at the server: {error}");
            // The refresh tells how the run ended. Even if it fails, the run has ended.
            let _ = self.refresh().await;
            self.view = ServerViewAge::Fresh;
            self.server.finished = true;
        } else {
            self.back_off(Obstacle::Server, &error.to_string()).await;
        }
    }

    /// Handles a run that the runtime has reported but the server calls open. Usually the server's list was read just before the report.
    /// Otherwise the server has reused the id for another run, which is launched as well.
    pub(super) async fn handle_reused_id(&mut self) {
        if self.confirm_open().await.is_ok() {
            let _ = self.launch().await;
        }
    }

    /// Confirms with the server that the run is open, so that the next action may begin. Pauses if the server does not answer.
    pub(super) async fn confirm_open(&mut self) -> Result<(), Interrupted> {
        if self.refresh().await.is_err() {
            self.back_off(Obstacle::Server, "the server does not say whether the run is still open").await;
            return Err(Interrupted);
        }
        if self.server.finished { Err(Interrupted) } else { Ok(()) }
    }
}
