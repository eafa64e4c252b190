//! What a launch needs besides what is kept of a run: what its task says of databases, which may be at the server.

use sextant_core::assignment::Assignment;
use tokio::sync::OwnedSemaphorePermit;

use super::{Interrupted, RunReconciler};

/// An assignment that can be launched.
pub(super) struct FullAssignment {
    pub assignment: Assignment,
    _permit: Option<OwnedSemaphorePermit>,
}

impl RunReconciler {
    /// The assignment with what its task says of databases.
    pub(super) async fn full_assignment(&mut self) -> Result<FullAssignment, Interrupted> {
        let mut assignment = self.assignment.clone();
        if let Some(databases) = self.databases.kept() {
            assignment.databases = databases.to_vec();
            return Ok(FullAssignment { assignment, _permit: None });
        }
        let fetched = tokio::select! {
            fetched = self.context.databases.fetch(&self.run, self.context.hub.run(self.run.id)) => fetched,
            _ = self.signal.changed() => return Err(Interrupted),
        };
        match fetched {
            // That may have taken a while.
            Ok(Some(_)) if !self.context.leadership.is_leader() => {}
            Ok(Some((databases, permit))) => {
                assignment.databases = databases;
                return Ok(FullAssignment { assignment, _permit: Some(permit) });
            }
            // The server decides about a run whose id belongs to another run by now.
            Ok(None) => {
                let _ = self.confirm_open().await;
            }
            Err(error) => self.on_rejected(&error).await,
        }
        Err(Interrupted)
    }
}
