//! `sextant supervise`: starts an algorithm, waits for it, and writes down how it ended. It outlives the node, so
//! that nothing is lost when that is restarted.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::processes;

/// Runs a command to its end.
pub fn run(folder: &Path, command: &[String]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    if let Err(error) = processes::write(folder, std::process::id()) {
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
    // Renamed into place: whoever sees it sees all of it.
    let new = folder.join("exit.new");
    match fs::write(&new, told).and_then(|()| fs::rename(&new, folder.join("exit"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sextant supervise: how the algorithm ended can't be written to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
