//! What tasks say of their databases, as far as it is kept. Others decide how much that is, and thousands of runs may wait for days: so
//! all of it together has a bound. What there is no room for is fetched from the server when the run is launched.

use std::sync::Arc;

use sextant_core::hub::{HubError, RequestedDatabase, Run};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes are kept for all runs together.
pub const KEPT: usize = 16 * 1024 * 1024;
/// So many runs at a time have theirs fetched for their launch.
const FETCHED: usize = 4;
/// Up to so many bytes stay until the run has ended; of what is larger, that is rarely worth it.
const SMALL: usize = 8 * 1024;

/// Room for what tasks say of their databases.
#[derive(Clone)]
pub struct Room {
    kept: Arc<Semaphore>,
    fetched: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self { kept: Arc::new(Semaphore::new(KEPT)), fetched: Arc::new(Semaphore::new(FETCHED)) }
    }
}

/// What one task says of its databases.
pub enum Databases {
    /// Here it is, as long as it has its room.
    Here { databases: Vec<RequestedDatabase>, _room: OwnedSemaphorePermit },
    /// The server has it.
    AtServer,
}

/// What was fetched, and the right to have it at hand.
type Fetched = (Vec<RequestedDatabase>, OwnedSemaphorePermit);

impl Room {
    /// How many bytes are kept.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        KEPT - self.kept.available_permits()
    }

    /// Takes from a run what its task says of databases, and keeps it if there is room.
    pub fn keep(&self, run: &mut Run) -> Databases {
        let databases = std::mem::take(&mut run.task.databases);
        let permit = u32::try_from(weight(&databases)).ok();
        match permit.and_then(|weight| self.kept.clone().try_acquire_many_owned(weight).ok()) {
            Some(room) => Databases::Here { databases, _room: room },
            None => Databases::AtServer,
        }
    }

    /// What a task says, from the server; `None` if the run is another one by now.
    ///
    /// # Errors
    /// If the server doesn't tell.
    pub async fn fetch(
        &self,
        run: &Run,
        ask: impl Future<Output = Result<Run, HubError>>,
    ) -> Result<Option<Fetched>, HubError> {
        // It is never closed; if it were, nothing would be bounded by it.
        let Ok(permit) = self.fetched.clone().acquire_owned().await else { return Ok(None) };
        let found = ask.await?;
        let same = found.assigned_at == run.assigned_at && found.organization == run.organization;
        Ok(same.then_some((found.task.databases, permit)))
    }
}

impl Databases {
    /// As far as it is here.
    pub fn known(&self) -> &[RequestedDatabase] {
        match self {
            Self::Here { databases, .. } => databases,
            Self::AtServer => &[],
        }
    }

    /// The run has been launched: what is large is not kept for the case that it has to be launched again.
    pub fn launched(&mut self) {
        if weight(self.known()) > SMALL {
            *self = Self::AtServer;
        }
    }
}

fn weight(databases: &[RequestedDatabase]) -> usize {
    let text = |database: &RequestedDatabase| {
        let parameters = database.parameters.as_ref().map_or(0, String::len);
        size_of::<RequestedDatabase>() + database.label.len() + parameters
    };
    databases.iter().map(text).sum()
}
