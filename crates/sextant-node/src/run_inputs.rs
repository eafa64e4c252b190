//! The input and the token of each run, fetched from the server when the run's pod asks for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use sextant_core::hub::{Hub, HubError, HubErrorKind, InputBytes, InputError};
use sextant_core::run_identity::RunIdentity;
use sextant_core::runtime::{InputSource, InputSourceError, InputStream};
use sextant_core::timeouts::format_duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;
use vantage6_types::{RunId, TaskId};

/// How many bytes of tokens are kept for all runs together. Others decide how long a token is: servers write the database parameters of
/// its task into it.
pub const TOKENS: usize = 8 * 1024 * 1024;
/// No token is longer: none that is gets this far.
const LONGEST_TOKEN: u32 = 32 * 1024;

/// The inputs of all runs that this node tracks.
pub struct RunInputs {
    hub: Arc<dyn Hub>,
    runs: Arc<Mutex<HashMap<RunId, Known>>>,
    tokens: Arc<Semaphore>,
}

struct Known {
    input: RunInput,
    /// For the token that is kept.
    room: Option<OwnedSemaphorePermit>,
    denied: Denied,
}

/// For how long the server has answered, and not given what a run needs.
#[derive(Debug, Default)]
struct Denied {
    so_far: Duration,
    /// When it last did so, if it has not been unavailable since.
    last: Option<Instant>,
}

impl Denied {
    /// The server has answered again, and not given it.
    fn again(&mut self, now: Instant) -> Duration {
        self.so_far += self.last.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        self.so_far
    }
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
    /// For how long the server may answer without giving the input or the token. For as long as it is unavailable there is no limit.
    pub patience: Duration,
}

impl RunInputs {
    /// Nothing yet.
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub, runs: Arc::default(), tokens: Arc::new(Semaphore::new(TOKENS)) }
    }

    /// A run is tracked from now on.
    pub fn add(&self, run: RunId, input: RunInput) {
        self.runs.lock().insert(run, Known { input, room: None, denied: Denied::default() });
    }

    /// Fetches a run's token while its pod is being made, so that the pod does not wait for the server. What does not work
    /// now is done, or refused, when the pod asks; so is a token for which there is no room.
    pub async fn fetch_token(&self, run: RunId) {
        let Ok(mut room) = self.tokens.clone().try_acquire_many_owned(LONGEST_TOKEN) else { return };
        let Ok(input) = self.of(run) else { return };
        if let Ok(token) = self.token_of(run, &input).await
            && let Some(room) = room.split(token.expose_secret().len())
        {
            let mut runs = self.runs.lock();
            if let Some(known) = runs.get_mut(&run).filter(|known| known.input.identity == input.identity) {
                known.input.token = Some(token);
                known.room = Some(room);
            }
        }
    }

    /// How many bytes of tokens are kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        TOKENS - self.tokens.available_permits()
    }

    /// A run is over.
    pub fn remove(&self, run: RunId) {
        self.runs.lock().remove(&run);
    }

    fn of(&self, run: RunId) -> Result<RunInput, InputSourceError> {
        let runs = self.runs.lock();
        runs.get(&run)
            .map(|known| known.input.clone())
            .ok_or_else(|| InputSourceError::Later("the server has not been asked for this run yet".into()))
    }

    async fn input_of(&self, run: RunId, input: &RunInput) -> Result<InputBytes, Missing> {
        let bytes = self.hub.input(run).await?;
        self.check_identity(run, input).await?;
        Ok(bytes)
    }

    async fn token_of(&self, run: RunId, input: &RunInput) -> Result<SecretString, Missing> {
        let token = self.hub.container_token(input.task, &input.image).await?;
        self.check_identity(run, input).await?;
        Ok(token)
    }

    /// What follows from an error of the server, for a pod that has asked.
    async fn explain(&self, run: RunId, missing: Missing) -> InputSourceError {
        let Missing::Server(error) = missing else {
            return InputSourceError::Later("the server uses the run's number for another run".into());
        };
        // What the server says to this very request is no sign of its being unavailable, if it answers others.
        let answers = error.kind == HubErrorKind::Failing && self.hub.run(run).await.is_ok();
        of_server(&self.runs, run, error, answers)
    }

    /// What the server has given may belong to a later run of the number: it does not say. It belongs to this one if the number is still
    /// this one's afterwards.
    async fn check_identity(&self, run: RunId, input: &RunInput) -> Result<(), Missing> {
        let now = self.hub.run(run).await?;
        if RunIdentity::from(&now) == input.identity {
            return Ok(());
        }
        Err(Missing::Reused)
    }
}

/// Why an input or a token could not be had.
enum Missing {
    Server(HubError),
    /// The server uses the run's number for another run.
    Reused,
}

impl From<HubError> for Missing {
    fn from(error: HubError) -> Self {
        Self::Server(error)
    }
}

#[async_trait::async_trait]
impl InputSource for RunInputs {
    async fn input(&self, run: RunId) -> Result<InputStream, InputSourceError> {
        let known = self.of(run)?;
        if let Some(input) = known.input {
            return Ok(futures::stream::iter([Ok(input)]).boxed());
        }
        let bytes = match self.input_of(run, &known).await {
            Ok(bytes) => bytes,
            Err(missing) => return Err(self.explain(run, missing).await),
        };
        let runs = self.runs.clone();
        Ok(bytes.map(move |piece| piece.map_err(|error| of_input(&runs, run, error))).boxed())
    }

    async fn token(&self, run: RunId) -> Result<SecretString, InputSourceError> {
        let input = self.of(run)?;
        let token = match &input.token {
            Some(token) => token.clone(),
            None => match self.token_of(run, &input).await {
                Ok(token) => token,
                Err(missing) => return Err(self.explain(run, missing).await),
            },
        };
        // It has all that it needs. Should it be launched again, that begins anew.
        if let Some(known) = self.runs.lock().get_mut(&run) {
            known.denied = Denied::default();
        }
        Ok(token)
    }
}

/// Why an input did not arrive.
fn of_input(runs: &Mutex<HashMap<RunId, Known>>, run: RunId, error: InputError) -> InputSourceError {
    match error {
        InputError::Transfer(error) => of_server(runs, run, error, false),
        InputError::Unreadable(why) => InputSourceError::Refused(format!("The task's input can't be read: {why}.")),
    }
}

/// Final is what the server itself refuses, and what it does not give for too long although it answers. That a run was deleted or has
/// ended, its reconciler finds out.
fn of_server(
    runs: &Mutex<HashMap<RunId, Known>>,
    run: RunId,
    error: HubError,
    answers_others: bool,
) -> InputSourceError {
    let words = match error.kind {
        HubErrorKind::Refused(status @ (400 | 403 | 404)) => {
            return InputSourceError::Refused(format!(
                "The server refused what the algorithm needs to start (HTTP {status}); the task may have ended meanwhile."
            ));
        }
        HubErrorKind::RunHasEnded | HubErrorKind::NoSuchRun | HubErrorKind::UnknownNode => {
            return InputSourceError::Later(error.text);
        }
        _ if error.is_passing() && !answers_others => {
            if let Some(known) = runs.lock().get_mut(&run) {
                known.denied.last = None;
            }
            return InputSourceError::Later(error.text);
        }
        HubErrorKind::Refused(status) => format!("it refused it (HTTP {status})"),
        HubErrorKind::Failing => "it failed each time".to_owned(),
        _ => "its answers could not be used".to_owned(),
    };
    let patience = runs.lock().get_mut(&run).and_then(|known| {
        let patience = known.input.patience;
        (known.denied.again(Instant::now()) >= patience).then_some(patience)
    });
    let Some(patience) = patience else { return InputSourceError::Later(error.text) };
    warn!(%run, "the server did not give what the run needs to start, and is not asked any more: {error}");
    InputSourceError::Refused(format!(
        "The server did not give what the algorithm needs to start within {}, although it could be reached: {words}. The node's log \
         says more.",
        format_duration(patience)
    ))
}
