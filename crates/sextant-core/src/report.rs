//! The report at a run's end: the status, and the log, composed of the algorithm's log and the node's explanation.

use printable::excerpt_of;
use vantage6_types::RunStatus;

use super::log_text::{self, NODE};
use super::mask::Mask;
use super::run_state::{Exit, Failure};

/// The text of vantage6's own node if its owner does not share logs (vantage6 4.x, `share_algorithm_logs: false`).
pub const LOGS_NOT_SHARED: &str = "Node does not allow sharing algorithm logs";

/// The maximum number of characters of the node's explanation. Texts of others in it are already shortened.
const NOTE: usize = 2000;

/// The algorithm's log, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlgorithmLog {
    /// The algorithm never ran.
    None,
    /// The end of the log, without secrets.
    Text(String),
    /// The log could not be read.
    Unreadable,
    /// The node's owner does not share the log.
    NotShared,
    /// The server rejects the report with the log, or there is no memory to keep the log until the server accepts the report.
    LeftOut,
}

impl AlgorithmLog {
    /// The size of its text in bytes, if it has one.
    pub fn length(&self) -> Option<u32> {
        match self {
            Self::Text(text) => Some(u32::try_from(text.len()).unwrap_or(u32::MAX)),
            Self::None | Self::Unreadable | Self::NotShared | Self::LeftOut => None,
        }
    }
}

/// What is known about an output before its first byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputFacts<'a> {
    /// How many bytes the algorithm wrote.
    pub length: u64,
    /// Why it is not available, if it is not.
    pub problem: Option<&'a str>,
    /// The maximum size in bytes.
    pub limit: Option<u64>,
}

impl OutputFacts<'_> {
    /// Whether it exceeds its maximum size.
    pub fn too_large(&self) -> bool {
        self.limit.is_some_and(|limit| self.length > limit)
    }
}

/// The failure of a run whose algorithm ended by itself; `None` if the run is completed.
pub fn shortcoming(exit: &Exit, output: OutputFacts<'_>) -> Option<Failure> {
    let failure = |status, message: String, reason| {
        Some(Failure::new(status, message.clone(), message).because(reason).started(true))
    };
    let too_large = output
        .limit
        .filter(|_| output.too_large())
        .map(|limit| format!("The algorithm's output has {} bytes; this node sends at most {limit}.", output.length));
    match (exit.code, output.problem, too_large) {
        (0, Some(problem), _) => failure(RunStatus::Failed, problem.to_owned(), "OutputUnreadable"),
        (0, None, Some(message)) => failure(RunStatus::Failed, message, "OutputTooLarge"),
        (0, None, None) if output.length == 0 => {
            let message = "The algorithm ended with exit code 0, but wrote no output.";
            failure(RunStatus::Failed, message.to_owned(), "OutputMissing")
        }
        (0, None, None) => None,
        (_, _, too_large) => {
            let said: Vec<String> = exit.note.clone().into_iter().chain(too_large).collect();
            failure(RunStatus::Crashed, said.join(" "), exit.reason)
        }
    }
}

/// The status and log of an ended run; without a failure, it is completed. The failure's message is masked too, whatever its
/// source.
pub fn of_end(failure: Option<&Failure>, log: AlgorithmLog, mask: &Mask) -> (RunStatus, String) {
    let status = failure.map_or(RunStatus::Completed, |failure| failure.status.clone());
    (status, compose(log, failure.map(|failure| mask.text(&failure.message)).as_deref()))
}

/// Composes the algorithm's log and, below it, the node's marked explanation.
fn compose(log: AlgorithmLog, note: Option<&str>) -> String {
    let mut text = match log {
        AlgorithmLog::None => String::new(),
        AlgorithmLog::Text(text) => text,
        AlgorithmLog::Unreadable => format!("{NODE}The algorithm's log could not be read."),
        AlgorithmLog::NotShared => LOGS_NOT_SHARED.to_owned(),
        AlgorithmLog::LeftOut => {
            "[sextant] The algorithm's log is left out: the server does not accept the report with it.".to_owned()
        }
    };
    if let Some(note) = note {
        log_text::add(&mut text, &excerpt_of(note, NOTE));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_every_kind() {
        let exit = |code, note: Option<&str>| Exit { code, note: note.map(Into::into), reason: "AlgorithmFailed" };
        let output = |length, problem| OutputFacts { length, problem, limit: Some(1000) };
        let text = |text: &str| AlgorithmLog::Text(text.into());
        use RunStatus::{Completed, Crashed, Failed};
        let mask = Mask::new([]).unwrap();
        for (exit, output, log, status, reason, expected) in [
            (exit(0, None), output(5, None), text("hello\n"), Completed, "", "hello\n"),
            (
                exit(0, None),
                output(0, None),
                text("hello"),
                Failed,
                "OutputMissing",
                "hello\n[sextant] The algorithm ended with exit code 0, but wrote no output.",
            ),
            (
                exit(0, None),
                output(0, Some("It is gone.")),
                AlgorithmLog::None,
                Failed,
                "OutputUnreadable",
                "[sextant] It is gone.",
            ),
            (exit(0, None), output(1000, None), text("big\n"), Completed, "", "big\n"),
            (
                exit(0, None),
                output(1001, None),
                text("big\n"),
                Failed,
                "OutputTooLarge",
                "big\n[sextant] The algorithm's output has 1001 bytes; this node sends at most 1000.",
            ),
            (
                exit(3, Some("Code 3.")),
                output(0, None),
                text("oh\n"),
                Crashed,
                "AlgorithmFailed",
                "oh\n[sextant] Code 3.",
            ),
            (
                exit(3, Some("Code 3.")),
                output(1001, None),
                text("oh\n"),
                Crashed,
                "AlgorithmFailed",
                "oh\n[sextant] Code 3. The algorithm's output has 1001 bytes; this node sends at most 1000.",
            ),
            (
                exit(3, Some("Code 3.")),
                output(7, None),
                AlgorithmLog::NotShared,
                Crashed,
                "AlgorithmFailed",
                "Node does not allow sharing algorithm logs\n[sextant] Code 3.",
            ),
            (
                exit(0, None),
                output(5, None),
                AlgorithmLog::Unreadable,
                Completed,
                "",
                "[sextant] The algorithm's log could not be read.",
            ),
        ] {
            let failure = shortcoming(&exit, output);
            assert_eq!(failure.as_ref().map_or("", |failure| failure.reason), reason);
            assert_eq!(of_end(failure.as_ref(), log, &mask), (status, expected.to_owned()));
        }
    }

    #[test]
    fn what_is_said_of_a_failure_is_one_line_that_steers_no_terminal() {
        let message = format!("It said: a\nb\u{1b}[2J\u{202e}{}", "x".repeat(10_000));
        let failure = Failure::new(RunStatus::StartFailed, message, "");
        let (_, log) = of_end(Some(&failure), AlgorithmLog::None, &Mask::new([]).unwrap());
        assert!(log.starts_with(r"[sextant] It said: a\nb\u{1b}[2J\u{202e}xxx") && log.ends_with("x…"), "{log}");
        assert_eq!(log.chars().count(), NODE.len() + NOTE);
    }

    #[test]
    fn a_failure_is_explained_below_the_log() {
        let failure = Failure::new(RunStatus::Killed, "Killed with hunter-2.", "not for the researcher").started(true);
        let mask = Mask::new(["hunter-2".to_owned()]).unwrap();
        assert_eq!(
            of_end(Some(&failure), AlgorithmLog::Text("working".into()), &mask),
            (RunStatus::Killed, "working\n[sextant] Killed with ***.".to_owned())
        );
    }
}
