//! The database parameters of tasks that are kept in memory. Others decide how large they are, and thousands of runs may wait for days, so
//! all of them together are limited. Parameters beyond the limit are fetched from the server when the run is launched.

use std::collections::BTreeSet;
use std::sync::Arc;

use sextant_core::hub::{HubError, RequestedDatabase, Run};
use sextant_core::mask::Mask;
use sextant_core::masks::Masks;
use sextant_core::run_identity::RunIdentity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes are kept for all runs together.
pub const KEPT: usize = 16 * 1024 * 1024;
/// How many runs fetch theirs concurrently for their launch.
const FETCHED: usize = 4;
/// Parameters up to this size stay until the run has ended; for larger ones that is rarely worth it.
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
    /// Which of the node's databases the run gets: always kept, because its log is masked by them. The node's configuration bounds them.
    labels: BTreeSet<String>,
    requests: Requests,
}

/// Where the parameters are.
enum Requests {
    /// Kept in memory, which is counted.
    InMemory { databases: Vec<RequestedDatabase>, _permit: OwnedSemaphorePermit },
    /// Fetched from the server when it is needed.
    AtServer,
}

/// Fetched parameters, with the permit to hold them.
type Fetched = (Vec<RequestedDatabase>, OwnedSemaphorePermit);

impl ParameterBudget {
    /// How many bytes are kept.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        KEPT - self.kept.available_permits()
    }

    /// Takes from a run what its task says of databases, and keeps it if the budget allows it. `masks` knows the node's own databases.
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

    /// What a task says, from the server; `None` if the run is another one by now.
    ///
    /// # Errors
    /// If the server doesn't say.
    pub async fn fetch(
        &self,
        run: &Run,
        ask: impl Future<Output = Result<Run, HubError>>,
    ) -> Result<Option<Fetched>, HubError> {
        // It is never closed; if it were, nothing would be bounded by it.
        let Ok(permit) = self.fetched.clone().acquire_owned().await else { return Ok(None) };
        let found = ask.await?;
        let same = RunIdentity::from(&found) == RunIdentity::from(run);
        Ok(same.then_some((found.task.databases, permit)))
    }
}

impl Databases {
    /// What is kept; `None` if the server has to be asked.
    pub fn kept(&self) -> Option<&[RequestedDatabase]> {
        match &self.requests {
            Requests::InMemory { databases, .. } => Some(databases),
            Requests::AtServer => None,
        }
    }

    /// Hides the secrets that the run got.
    pub fn mask(&self, masks: &Masks) -> Arc<Mask> {
        masks.for_databases(self.labels.iter().map(String::as_str))
    }

    /// The run has been launched: what is large is not kept for the case that it has to be launched again.
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
