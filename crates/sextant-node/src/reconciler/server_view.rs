//! What the server says of a run, asked again where its list says nothing, or where the node is about to act on it.

use log_throttle::LogThrottle;
use sextant_core::hub::HubError;
use sextant_core::run_identity::RunIdentity;
use tracing::{info, warn};
use vantage6_types::RunStatus;

use super::{Interrupted, Obstacle, RunReconciler, ServerViewAge};

impl RunReconciler {
    /// Asks the server about a run that its list lacks, or that others have the number of: `asked` is how often that was wanted.
    pub(super) async fn refresh_if_requested(&mut self, asked: u32) {
        match self.refresh().await {
            Ok(()) => {
                self.refreshes = asked;
                self.denied = 0;
            }
            // It is asked again at once, after the pause that follows.
            Err(error) if error.is_passing() => {}
            Err(error) => {
                // The answer would be the same: the server is asked again after the next poll of all runs.
                self.refreshes = asked;
                // A run that the node may not see any more is not this node's. Twice, because a server says 401 in passing, too.
                self.denied += u32::from(error.is_denied());
                if self.denied > 1 {
                    info!(run = %self.run.id, "Run is not in the server's list, and this node may not read it: {error}");
                    self.server.finished = true;
                    self.view = ServerViewAge::Fresh;
                }
            }
        }
    }

    /// Asks the server how the run stands there: somebody else may have ended it.
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

    /// The server refused a change of the run.
    pub(super) async fn on_rejected(&mut self, error: &HubError) {
        if error.is_over() {
            info!(run = %self.run.id, "Run has ended at the server: {error}");
            // How, it says when it is asked; if it doesn't now, it has ended all the same.
            let _ = self.refresh().await;
            self.view = ServerViewAge::Fresh;
            self.server.finished = true;
        } else {
            self.back_off(Obstacle::Server, &error.to_string()).await;
        }
    }

    /// The runtime has a run of this number that has its report, but the server calls it open. Mostly the server's list was
    /// read just before the report; else it is a namesake, of a server that uses numbers again, and is launched as well.
    pub(super) async fn handle_reused_id(&mut self) {
        if self.confirm_open().await.is_ok() {
            let _ = self.launch().await;
        }
    }

    /// Asks the server whether the run is open, so that what follows may be begun. Without an answer, it is asked again after a pause.
    pub(super) async fn confirm_open(&mut self) -> Result<(), Interrupted> {
        if self.refresh().await.is_err() {
            self.back_off(Obstacle::Server, "the server does not say whether the run is still open").await;
            return Err(Interrupted);
        }
        if self.server.finished { Err(Interrupted) } else { Ok(()) }
    }
}
