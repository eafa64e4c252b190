//! Our own two containers in an algorithm's pod, and the probe that takes one's place. `receive` and `return` know one run, its key and the node's address, and keep
//! asking the node until it answers: a node that is restarted, or away for a day, costs a run nothing but time.

mod client;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod probe;
pub mod receive;
mod settings;
pub mod upload;

use std::process::ExitCode;

/// Where Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why a role could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The environment lacks something: this is not a pod made by Sextant.
    #[error(
        "the environment variable {name} {problem}. The node starts `sextant receive` and `sextant return` in the \
         pods that it creates."
    )]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The node said no for good; its text is for the researcher.
    #[error("{0}")]
    Refused(String),
    /// A file could not be written or read.
    #[error("{what}: {source}")]
    File {
        /// What was tried.
        what: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// Turns a role's end into an exit code, and leaves the reason where Kubernetes shows it.
pub fn conclude(result: Result<(), PodError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    tracing::error!("{error}");
    write_termination_message(&error.to_string());
    ExitCode::FAILURE
}

/// Writes the message that Kubernetes shows as the reason for a container's end. Outside of a pod the file does not exist.
fn write_termination_message(message: &str) {
    let _ = std::fs::OpenOptions::new()
        .write(true)
        .open(TERMINATION_LOG)
        .and_then(|mut file| std::io::Write::write_all(&mut file, message.as_bytes()));
}
