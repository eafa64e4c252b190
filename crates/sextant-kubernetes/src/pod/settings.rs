//! The settings that `receive` and `return` get through environment variables.

use std::path::PathBuf;

use secrecy::SecretString;
use vantage6_types::RunId;

use super::PodError;
use crate::decisions::job::env;

/// A run, and how its pod reaches the node.
#[derive(Debug)]
pub struct Settings {
    pub run: RunId,
    /// The name of the pod's Job.
    pub job: String,
    /// The data port's `address:port`.
    pub address: String,
    /// The pin of the data port's key.
    pub pin: String,
    /// The run's key.
    pub key: SecretString,
    /// The folder with input and output.
    pub task_dir: PathBuf,
}

impl Settings {
    /// Reads the settings from the environment.
    ///
    /// # Errors
    /// If a setting is missing or malformed.
    pub fn from_env() -> Result<Self, PodError> {
        Ok(Self {
            run: required(env::RUN)?
                .parse()
                .map_err(|_| PodError::Setting { name: env::RUN, problem: "is not a run id".into() })?,
            job: required(env::JOB)?,
            address: required(env::ADDRESS)?,
            pin: required(env::PIN)?,
            key: required(env::KEY)?.into(),
            task_dir: required(env::TASK_DIR)?.into(),
        })
    }
}

/// A required variable.
pub fn required(name: &'static str) -> Result<String, PodError> {
    optional(name).ok_or(PodError::Setting { name, problem: "is not set".into() })
}

/// An optional variable; empty counts as unset.
pub fn optional(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
