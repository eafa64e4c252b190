//! Limits the memory for the database parameters of all tasks together. Task creators decide how large parameters are, and thousands of
//! runs may wait for days. Parameters beyond the limit are fetched from the server when the run is launched.

use std::collections::BTreeSet;
use std::sync::Arc;

use sextant_core::hub::{HubError, RequestedDatabase, Run};
use sextant_core::mask::Mask;
use sextant_core::masks::Masks;
use sextant_core::run_identity::RunIdentity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of bytes kept for all runs together.
pub const KEPT: usize = 16 * 1024 * 1024;
/// The number of runs that fetch parameters for their launch concurrently.
const FETCHED: usize = 4;
/// Parameters up to this size are kept until the run ends. Larger ones are rarely needed again.
const SMALL: usize = 8 * 1024;

/// The memory for the database parameters of all tasks.
#[derive(Clone)]
pub struct ParameterBudget {
    kept: Arc<Semaphore>,
    fetched: Arc<Semaphore>,
}

impl Default for ParameterBudget {
    fn default() -> Self {
        Self { kept: Arc::new(Semaphore::new(KEPT)), fetched: Arc::new(Semaphore::new(FETCHED)) }
    }
}

/// The database parameters of one task.
pub struct Databases {
    /// The node's databases that the run gets. Always kept, because the run's log is masked with them. The node's configuration limits
    /// their number.
    labels: BTreeSet<String>,
    requests: Requests,
}

/// Where the parameters are.
enum Requests {
    /// Kept in memory, counted by the permit.
    InMemory { databases: Vec<RequestedDatabase>, _permit: OwnedSemaphorePermit },
    /// Fetched from the server when needed.
    AtServer,
}

/// Fetched parameters, with the permit to hold them.
type Fetched = (Vec<RequestedDatabase>, OwnedSemaphorePermit);

impl ParameterBudget {
    /// The number of bytes in use.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        KEPT - self.kept.available_permits()
    }

    /// Takes the task's databases out of a run, and keeps them if the budget allows. `masks` knows the node's own databases.
    pub fn keep(&self, run: &mut Run, masks: &Masks) -> Databases {
        let databases = std::mem::take(&mut run.task.databases);
        let labels = masks.known(databases.iter().map(|database| &*database.label));
        let permit = u32::try_from(weight(&databases)).ok();
        let requests = match permit.and_then(|weight| self.kept.clone().try_acquire_many_owned(weight).ok()) {
            Some(permit) => Requests::InMemory { databases, _permit: permit },
            None => Requests::AtServer,
        };
        Databases { labels, requests }
    }

    /// Fetches the task's databases from the server. `None` if the run's id belongs to another run by now.
    ///
    /// # Errors
    /// If the server does not return the run.
    pub async fn fetch(
        &self,
        run: &Run,
        ask: impl Future<Output = Result<Run, HubError>>,
    ) -> Result<Option<Fetched>, HubError> {
        // The semaphore is never closed.
        let Ok(permit) = self.fetched.clone().acquire_owned().await else { return Ok(None) };
        let found = ask.await?;
        let same = RunIdentity::from(&found) == RunIdentity::from(run);
        Ok(same.then_some((found.task.databases, permit)))
    }
}

impl Databases {
    /// The parameters in memory; `None` if they must be fetched from the server.
    pub fn kept(&self) -> Option<&[RequestedDatabase]> {
        match &self.requests {
            Requests::InMemory { databases, .. } => Some(databases),
            Requests::AtServer => None,
        }
    }

    /// The mask that hides the secrets that the run got.
    pub fn mask(&self, masks: &Masks) -> Arc<Mask> {
        masks.for_databases(self.labels.iter().map(String::as_str))
    }

    /// Drops large parameters after the launch. They are fetched again if the run is relaunched.
    pub fn launched(&mut self) {
        if self.kept().is_some_and(|databases| weight(databases) > SMALL) {
            self.requests = Requests::AtServer;
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
