//! The full assignment for a launch, including the task's database parameters, which may have to be fetched from the server.

use sextant_core::assignment::Assignment;
use tokio::sync::OwnedSemaphorePermit;

use super::{Interrupted, RunReconciler};

/// An assignment that can be launched.
pub(super) struct FullAssignment {
    pub assignment: Assignment,
    _permit: Option<OwnedSemaphorePermit>,
}

impl RunReconciler {
    /// The assignment with the task's database parameters.
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
            // The request may have taken a while.
            Ok(Some(_)) if !self.context.leadership.is_leader() => {}
            Ok(Some((databases, permit))) => {
                assignment.databases = databases;
                return Ok(FullAssignment { assignment, _permit: Some(permit) });
            }
            // The run's id may belong to another run by now, which the server confirms.
            Ok(None) => {
                let _ = self.confirm_open().await;
            }
            Err(error) => self.on_rejected(&error).await,
        }
        Err(Interrupted)
    }
}
