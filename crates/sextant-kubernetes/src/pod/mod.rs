//! Sextant's containers in an algorithm's pod, `receive` and `return`, and the probe, which runs in place of an algorithm. `receive` and
//! `return` know one run, its key and the node's address, and retry until the node answers. A node that restarts, or is unavailable for a
//! day, only delays a run.

mod client;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod probe;
pub mod receive;
mod settings;
pub mod upload;

use std::process::ExitCode;

/// The file from which Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why a container could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// An environment variable is missing or malformed, so Sextant did not create this pod.
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
    /// The node refused permanently; the text is for the researcher.
    #[error("{0}")]
    Refused(String),
    /// A file could not be written or read.
    #[error("{what}: {source}")]
    File {
        /// The operation that failed.
        what: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// Converts a container's result into an exit code, and writes an error to where Kubernetes shows it.
pub fn conclude(result: Result<(), PodError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    tracing::error!("{error}");
    write_termination_message(&error.to_string());
    ExitCode::FAILURE
}

/// Writes the message that Kubernetes shows as the reason for a container's end. Outside a pod the file does not exist.
fn write_termination_message(message: &str) {
    let _ = std::fs::OpenOptions::new()
        .write(true)
        .open(TERMINATION_LOG)
        .and_then(|mut file| std::io::Write::write_all(&mut file, message.as_bytes()));
}
