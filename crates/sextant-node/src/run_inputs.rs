//! Each run's input and token, fetched from the server when the run's pod requests them.

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

/// The memory for the tokens of all runs, in bytes. Task creators influence the length of a token, because servers write the task's
/// database parameters into it.
pub const TOKENS: usize = 8 * 1024 * 1024;
/// The longest accepted token: the client refuses longer ones.
const LONGEST_TOKEN: u32 = 32 * 1024;

/// The inputs of all runs that this node tracks.
pub struct RunInputs {
    hub: Arc<dyn Hub>,
    runs: Arc<Mutex<HashMap<RunId, Known>>>,
    tokens: Arc<Semaphore>,
}

struct Known {
    input: RunInput,
    /// The memory permit for the stored token.
    room: Option<OwnedSemaphorePermit>,
    denied: Denied,
}

/// How long the server has answered without giving what a run needs.
#[derive(Debug, Default)]
struct Denied {
    so_far: Duration,
    /// When it last did so, unless it has been unavailable since.
    last: Option<Instant>,
}

impl Denied {
    /// Records another such answer.
    fn again(&mut self, now: Instant) -> Duration {
        self.so_far += self.last.replace(now).map_or(Duration::ZERO, |last| now.duration_since(last));
        self.so_far
    }
}

/// The data of a run that its input and token depend on.
#[derive(Debug, Clone)]
pub struct RunInput {
    pub task: TaskId,
    /// The task's image, which the token is bound to.
    pub image: String,
    /// Distinguishes the run from others with the same id.
    pub identity: RunIdentity,
    /// The decoded input, if it was small enough to be listed with the run.
    pub input: Option<Bytes>,
    /// The token, if it was fetched in advance.
    pub token: Option<SecretString>,
    /// How long the server may answer without giving the input or the token. There is no limit for the time while it is unavailable.
    pub patience: Duration,
}

impl RunInputs {
    /// Creates an empty set.
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub, runs: Arc::default(), tokens: Arc::new(Semaphore::new(TOKENS)) }
    }

    /// Adds a run that is tracked from now on.
    pub fn add(&self, run: RunId, input: RunInput) {
        self.runs.lock().insert(run, Known { input, room: None, denied: Denied::default() });
    }

    /// Fetches a run's token while its pod is being created, so that the pod need not wait for the server. If this fails, or there is no
    /// memory for the token, the token is fetched when the pod requests it.
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

    /// The number of bytes in use for tokens.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        TOKENS - self.tokens.available_permits()
    }

    /// Removes a run that is over.
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

    /// Turns a server's error into the answer for the pod.
    async fn explain(&self, run: RunId, missing: Missing) -> InputSourceError {
        let Missing::Server(error) = missing else {
            return InputSourceError::Later("the server uses the run's number for another run".into());
        };
        // If the server answers other requests, its error for this one does not mean that it is unavailable.
        let answers = error.kind == HubErrorKind::Failing && self.hub.run(run).await.is_ok();
        of_server(&self.runs, run, error, answers)
    }

    /// Checks that the server's answer belongs to this run, since the answer itself does not tell whether the id was reused. It does if
    /// the id still belongs to this run afterwards.
    async fn check_identity(&self, run: RunId, input: &RunInput) -> Result<(), Missing> {
        let now = self.hub.run(run).await?;
        if RunIdentity::from(&now) == input.identity {
            return Ok(());
        }
        Err(Missing::Reused)
    }
}

/// Why an input or a token is missing.
enum Missing {
    Server(HubError),
    /// The server reuses the run's id for another run.
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
        // The pod has everything that it needs. A relaunch starts with a new time limit.
        if let Some(known) = self.runs.lock().get_mut(&run) {
            known.denied = Denied::default();
        }
        Ok(token)
    }
}

/// Turns an error of an input's transfer into the answer for the pod.
fn of_input(runs: &Mutex<HashMap<RunId, Known>>, run: RunId, error: InputError) -> InputSourceError {
    match error {
        InputError::Transfer(error) => of_server(runs, run, error, false),
        InputError::Unreadable(why) => InputSourceError::Refused(format!("The task's input can't be read: {why}.")),
    }
}

/// Classifies a server's error. Final are a refusal by the server itself, and repeated useless answers for too long. The run's reconciler
/// finds out whether the run was deleted or has ended.
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
