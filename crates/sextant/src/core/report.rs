//! What the server is told at a run's end: the status and the log, put together from what the algorithm and
//! the runtime say.

use vantage6::RunStatus;

use super::situation::{Exit, Failure};

/// The sentence of a regular node whose owner does not share logs (vantage6 4.x, `share_algorithm_logs: false`).
pub const LOGS_NOT_SHARED: &str = "Node does not allow sharing algorithm logs";

/// The algorithm's log, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlgorithmLog {
    /// It never ran.
    None,
    /// This is its end.
    Text(String),
    /// It could not be read.
    Unreadable,
    /// The node's owner does not share it.
    NotShared,
}

/// Status and log of a run whose algorithm ended by itself, having written `length` bytes, or having left
/// something that could not be read (`problem`).
pub fn of_exit(exit: &Exit, length: u64, problem: Option<&str>, log: AlgorithmLog) -> (RunStatus, String) {
    let (status, note) = match (exit.code, problem, length) {
        (0, Some(problem), _) => (RunStatus::Failed, Some(problem.to_owned())),
        (0, None, 0) => {
            (RunStatus::Failed, Some("The algorithm ended with exit code 0, but wrote no output.".to_owned()))
        }
        (0, None, _) => (RunStatus::Completed, None),
        _ => (RunStatus::Crashed, exit.note.clone()),
    };
    (status, compose(log, note.as_deref()))
}

/// Status and log of a run that has no output.
pub fn of_failure(failure: &Failure, log: AlgorithmLog) -> (RunStatus, String) {
    (failure.status.clone(), compose(log, Some(&failure.message)))
}

/// The algorithm's log, and below it what Sextant has to say, marked as such.
fn compose(log: AlgorithmLog, note: Option<&str>) -> String {
    let mut text = match log {
        AlgorithmLog::None => String::new(),
        AlgorithmLog::Text(text) => text,
        AlgorithmLog::Unreadable => "[sextant] The algorithm's log could not be read.".to_owned(),
        AlgorithmLog::NotShared => LOGS_NOT_SHARED.to_owned(),
    };
    if let Some(note) = note {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("[sextant] ");
        text.push_str(note);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_every_kind() {
        let exit = |code, note: Option<&str>| Exit { code, note: note.map(Into::into) };
        let text = |text: &str| AlgorithmLog::Text(text.into());
        use RunStatus::{Completed, Crashed, Failed};
        for (exit, length, problem, log, status, expected) in [
            (exit(0, None), 5, None, text("hello\n"), Completed, "hello\n"),
            (
                exit(0, None),
                0,
                None,
                text("hello"),
                Failed,
                "hello\n[sextant] The algorithm ended with exit code 0, but wrote no output.",
            ),
            (exit(0, None), 0, Some("It is gone."), AlgorithmLog::None, Failed, "[sextant] It is gone."),
            (exit(3, Some("Code 3.")), 0, None, text("oh\n"), Crashed, "oh\n[sextant] Code 3."),
            (
                exit(3, Some("Code 3.")),
                7,
                None,
                AlgorithmLog::NotShared,
                Crashed,
                "Node does not allow sharing algorithm logs\n[sextant] Code 3.",
            ),
            (
                exit(0, None),
                5,
                None,
                AlgorithmLog::Unreadable,
                Completed,
                "[sextant] The algorithm's log could not be read.",
            ),
        ] {
            assert_eq!(of_exit(&exit, length, problem, log), (status, expected.to_owned()));
        }
    }

    #[test]
    fn a_failure_is_explained_below_the_log() {
        let failure = Failure {
            status: RunStatus::Killed,
            message: "Killed.".into(),
            detail: "not for the researcher".into(),
            started: true,
        };
        assert_eq!(
            of_failure(&failure, AlgorithmLog::Text("working".into())),
            (RunStatus::Killed, "working\n[sextant] Killed.".to_owned())
        );
    }
}
