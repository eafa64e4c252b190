//! Answers pods: passes inputs to `receive`, and the output of `return` to the reconciler that collects it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use log_throttle::LogThrottle;
use secrecy::SecretString;
use sextant_core::runtime::Upload;
use sextant_core::runtime::{InputSource, InputSourceError, Output};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};
use vantage6_types::RunId;

use super::run_index::RunIndex;
use super::secrets::key_of;
use crate::data_port::keys::KeyOf;
use crate::data_port::protocol::Command;
use crate::data_port::server::{Answer, Input, PodApi};

/// How long an answer to `next` is delayed at most. It is below the idle timeouts of network devices between pod and node.
const HOLD: Duration = Duration::from_secs(50);

/// The [`PodApi`] of the Kubernetes runtime.
pub struct PodApiService {
    run_index: Arc<RunIndex>,
    /// The source of inputs and tokens.
    input_source: Arc<dyn InputSource>,
}

impl PodApiService {
    /// Creates the service for these runs.
    pub fn new(run_index: Arc<RunIndex>, input_source: Arc<dyn InputSource>) -> Self {
        Self { run_index, input_source }
    }

    fn answer<T>(run: RunId, what: &str, result: Result<T, InputSourceError>) -> Result<T, Answer> {
        // Pods retry often, so the log is throttled.
        static REFUSED: LogThrottle = LogThrottle::new();
        static LATER: LogThrottle = LogThrottle::new();
        result.map_err(|error| match error {
            InputSourceError::Refused(text) => {
                if let Some(times) = REFUSED.happened() {
                    info!(%run, times, "The pod gets no {what}: {text}");
                }
                Answer::Refused(text)
            }
            InputSourceError::Later(text) => {
                if let Some(times) = LATER.happened() {
                    warn!(%run, times, "The pod waits for its {what}: {text}");
                }
                Answer::Later
            }
        })
    }

    /// Refuses inputs and tokens for a reported run, because those under its ID belong to a later run.
    fn refuse_reported(&self, run: RunId) -> Result<(), Answer> {
        if self.reported(run) { Err(Answer::Later) } else { Ok(()) }
    }

    /// Whether the server already has the run's report, possibly from an earlier process of this node.
    fn reported(&self, run: RunId) -> bool {
        self.run_index.job_of(run).is_some_and(|job| job.reported)
    }
}

#[async_trait::async_trait]
impl PodApi for PodApiService {
    fn key_of(&self, run: RunId, job: &str) -> Option<KeyOf> {
        self.run_index.job_of(run).filter(|current| current.name == job).map(|current| key_of(&current))
    }

    async fn input(&self, run: RunId) -> Result<Input, Answer> {
        self.refuse_reported(run)?;
        let mut pieces = Self::answer(run, "input", self.input_source.input(run).await)?;
        // An input that is wrong from the beginning is refused with a reason. One that turns out wrong later breaks the
        // connection, and the next request is refused with the reason.
        if let Some(refusal) = self.run_index.refusal(run) {
            return Err(Answer::Refused(refusal));
        }
        let first = match pieces.next().await {
            Some(first) => Some(Self::answer(run, "input", first)?),
            None => None,
        };
        let run_index = self.run_index.clone();
        let rest = pieces.map_err(move |error| {
            if let InputSourceError::Refused(text) = &error {
                run_index.refuse(run, text.clone());
            }
            io::Error::other(error)
        });
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
    }

    async fn token(&self, run: RunId) -> Result<SecretString, Answer> {
        self.refuse_reported(run)?;
        let token = Self::answer(run, "token", self.input_source.token(run).await)?;
        self.run_index.supplied(run);
        Ok(token)
    }

    async fn next(&self, run: RunId) -> Command {
        let mut commands = self.run_index.commands(run);
        if self.reported(run) {
            return Command::Exit;
        }
        let command = match timeout(HOLD, commands.wait_for(|command| *command != Command::Wait)).await {
            Ok(Ok(command)) => *command,
            Ok(Err(_)) | Err(_) => Command::Wait,
        };
        drop(commands);
        self.run_index.forget(run);
        command
    }

    async fn deliver(&self, run: RunId, upload: Upload) -> Result<(), Answer> {
        if self.reported(run) {
            return Ok(());
        }
        let (taken, answer) = oneshot::channel();
        self.run_index.deliver(run, Output { upload, taken }).map_err(|_| Answer::Later)?;
        // If the sender is dropped without confirmation, the server does not have the output.
        answer.await.map_err(|_| Answer::Later)
    }
}
