//! `sextant supervise`: starts an algorithm, waits for it, and records how it ends. It outlives the node, so a restart of the
//! node loses nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::folder::{EXIT, write_pid};
use super::private::{Dir, Missing};

/// Runs a command to its end.
#[allow(clippy::print_stderr, reason = "a supervisor has no log; its standard error is the run's")]
pub fn run(folder: &Path, command: &[String]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    let own = match Dir::at(folder, Missing::Leave) {
        Ok(Some(own)) => own,
        Ok(None) => {
            eprintln!("sextant supervise: {} does not exist", folder.display());
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("sextant supervise: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = write_pid(&own, std::process::id()) {
        eprintln!("sextant supervise: {} can't be written to: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let told = match Command::new(program).args(arguments).status() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        },
        Err(error) => format!("failed '{program}' can't be started: {error}"),
    };
    // Uses the handle from before the start: the algorithm may have changed the folder's mode, or replaced the folder.
    own.restore_mode();
    match own.replace(EXIT, &told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sextant supervise: how the algorithm ended can't be written to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
