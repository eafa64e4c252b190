//! What a run's algorithm is to get: its input, from the server when it is asked for, and its token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use secrecy::SecretString;
use sextant_core::hub::{Hub, HubError, HubErrorKind, InputError};
use sextant_core::runtime::{InputStream, Supplier, SupplyError};
use vantage6_types::{RunId, TaskId};

/// The supplies of all runs that this node tracks.
pub struct Supplies {
    hub: Arc<dyn Hub>,
    runs: Mutex<HashMap<RunId, Supply>>,
}

/// What is known of a run's supplies.
#[derive(Debug, Clone)]
pub struct Supply {
    /// Its task.
    pub task: TaskId,
    /// The task's image: the token is bound to it.
    pub image: String,
    /// The decoded input, where it was small enough to come along with the run.
    pub input: Option<Bytes>,
    /// The token, where it was fetched before it was asked for.
    pub token: Option<SecretString>,
}

impl Supplies {
    /// Nothing yet.
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub, runs: Mutex::default() }
    }

    /// A run is tracked from now on.
    pub fn add(&self, run: RunId, supply: Supply) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run, supply);
    }

    /// Fetches a run's token while its pod is being made, so that the pod does not wait for the server. What does not work
    /// now is done, or refused, when the pod asks.
    pub async fn fetch_token(&self, run: RunId) {
        let Ok(supply) = self.of(run) else { return };
        if let Ok(token) = self.hub.container_token(supply.task, &supply.image).await {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(supply) = runs.get_mut(&run) {
                supply.token = Some(token);
            }
        }
    }

    /// A run is over.
    pub fn remove(&self, run: RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    fn of(&self, run: RunId) -> Result<Supply, SupplyError> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(&run)
            .cloned()
            .ok_or_else(|| SupplyError::Later("the server has not been asked for this run yet".into()))
    }
}

#[async_trait::async_trait]
impl Supplier for Supplies {
    async fn input(&self, run: RunId) -> Result<InputStream, SupplyError> {
        if let Some(input) = self.of(run)?.input {
            return Ok(futures::stream::iter([Ok(input)]).boxed());
        }
        let bytes = self.hub.input(run).await.map_err(of_server)?;
        Ok(bytes.map(|piece| piece.map_err(of_input)).boxed())
    }

    async fn token(&self, run: RunId) -> Result<SecretString, SupplyError> {
        let supply = self.of(run)?;
        if let Some(token) = supply.token {
            return Ok(token);
        }
        self.hub.container_token(supply.task, &supply.image).await.map_err(of_server)
    }
}

/// Why an input could not be had.
fn of_input(error: InputError) -> SupplyError {
    match error {
        InputError::Transfer(error) => of_server(error),
        InputError::Unreadable(why) => SupplyError::Refused(format!("The task's input can't be read: {why}.")),
    }
}

/// Only what the server itself refuses is final. That a run was deleted, its reconciler finds out.
fn of_server(error: HubError) -> SupplyError {
    match error.kind {
        HubErrorKind::Refused(status @ (400 | 403 | 404)) => SupplyError::Refused(format!(
            "The server refused what the algorithm needs to start (HTTP {status}); the task may have ended meanwhile."
        )),
        _ => SupplyError::Later(error.text),
    }
}
