//! The input and the token of each run, fetched from the server when the run's pod asks for them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use secrecy::SecretString;
use sextant_core::hub::{Hub, HubError, HubErrorKind, InputError};
use sextant_core::run_identity::RunIdentity;
use sextant_core::runtime::{InputSource, InputSourceError, InputStream};
use vantage6_types::{RunId, TaskId};

/// The inputs of all runs that this node tracks.
pub struct RunInputs {
    hub: Arc<dyn Hub>,
    runs: Mutex<HashMap<RunId, RunInput>>,
}

/// What is known of a run's inputs.
#[derive(Debug, Clone)]
pub struct RunInput {
    pub task: TaskId,
    /// The task's image: the token is bound to it.
    pub image: String,
    /// Distinguishes it from other runs with its id.
    pub identity: RunIdentity,
    /// The decoded input, where it was small enough to come along with the run.
    pub input: Option<Bytes>,
    /// The token, where it was fetched before it was asked for.
    pub token: Option<SecretString>,
}

impl RunInputs {
    /// Nothing yet.
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub, runs: Mutex::default() }
    }

    /// A run is tracked from now on.
    pub fn add(&self, run: RunId, input: RunInput) {
        self.runs.lock().insert(run, input);
    }

    /// Fetches a run's token while its pod is being made, so that the pod does not wait for the server. What does not work
    /// now is done, or refused, when the pod asks.
    pub async fn fetch_token(&self, run: RunId) {
        let Ok(input) = self.of(run) else { return };
        if let Ok(token) = self.token_of(run, &input).await {
            let mut runs = self.runs.lock();
            if let Some(input) = runs.get_mut(&run).filter(|now| now.identity == input.identity) {
                input.token = Some(token);
            }
        }
    }

    /// A run is over.
    pub fn remove(&self, run: RunId) {
        self.runs.lock().remove(&run);
    }

    fn of(&self, run: RunId) -> Result<RunInput, InputSourceError> {
        let runs = self.runs.lock();
        runs.get(&run)
            .cloned()
            .ok_or_else(|| InputSourceError::Later("the server has not been asked for this run yet".into()))
    }

    async fn token_of(&self, run: RunId, input: &RunInput) -> Result<SecretString, InputSourceError> {
        let token = self.hub.container_token(input.task, &input.image).await.map_err(of_server)?;
        self.check_identity(run, input).await?;
        Ok(token)
    }

    /// What the server has given may belong to a later run of the number: it does not say. It belongs to this one if the number is still
    /// this one's afterwards.
    async fn check_identity(&self, run: RunId, input: &RunInput) -> Result<(), InputSourceError> {
        let now = self.hub.run(run).await.map_err(of_server)?;
        if RunIdentity::from(&now) == input.identity {
            return Ok(());
        }
        Err(InputSourceError::Later("the server reuses the run's id for another run".into()))
    }
}

#[async_trait::async_trait]
impl InputSource for RunInputs {
    async fn input(&self, run: RunId) -> Result<InputStream, InputSourceError> {
        let known = self.of(run)?;
        if let Some(input) = known.input {
            return Ok(futures::stream::iter([Ok(input)]).boxed());
        }
        let bytes = self.hub.input(run).await.map_err(of_server)?;
        self.check_identity(run, &known).await?;
        Ok(bytes.map(|piece| piece.map_err(of_input)).boxed())
    }

    async fn token(&self, run: RunId) -> Result<SecretString, InputSourceError> {
        let input = self.of(run)?;
        if let Some(token) = input.token {
            return Ok(token);
        }
        self.token_of(run, &input).await
    }
}

/// Why an input could not be had.
fn of_input(error: InputError) -> InputSourceError {
    match error {
        InputError::Transfer(error) => of_server(error),
        InputError::Unreadable(why) => InputSourceError::Refused(format!("The task's input can't be read: {why}.")),
    }
}

/// Only what the server itself refuses is final. That a run was deleted, its reconciler finds out.
fn of_server(error: HubError) -> InputSourceError {
    match error.kind {
        HubErrorKind::Refused(status @ (400 | 403 | 404)) => InputSourceError::Refused(format!(
            "The server refused what the algorithm needs to start (HTTP {status}); the task may have ended meanwhile."
        )),
        _ => InputSourceError::Later(error.text),
    }
}
