//! The protocol between pod and node: paths, answers, headers. Both sides use these definitions.

use vantage6_types::RunId;

/// The node's command to `return`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Request the next command again.
    Wait,
    /// Upload the output.
    Upload,
    /// Exit: the server has all that it needs.
    Exit,
}

impl Command {
    /// The text in the answer's body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Upload => "send",
            Self::Exit => "go",
        }
    }

    /// Parses the text; `None` if it is not a command.
    pub fn read(word: &[u8]) -> Option<Self> {
        [Self::Wait, Self::Upload, Self::Exit].into_iter().find(|command| command.as_str().as_bytes() == word)
    }
}

/// A resource that a pod requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `GET`: the input.
    Input,
    /// `GET`: the token.
    Token,
    /// `GET`: the next [`Command`].
    Next,
    /// `PUT`: the output.
    Output,
}

impl Item {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Input, "input"), (Self::Token, "token"), (Self::Next, "next"), (Self::Output, "output")];
}

/// The header in which `return` reports that there is no output to send, and why.
pub const PROBLEM: &str = "x-sextant-problem";

/// The header in which a pod names its Job. A run that is relaunched has more than one Job, and on a lost machine the older Job's pod may
/// still run. A request without this header is refused.
pub const JOB: &str = "x-sextant-job";

/// The path of an item of a run.
pub fn path(run: RunId, item: Item) -> String {
    let word = Item::ALL.iter().find(|(known, _)| *known == item).map_or("", |(_, word)| word);
    format!("/runs/{run}/{word}")
}

/// Parses a path; `None` if it is not a path of the data port.
pub fn read_path(path: &str) -> Option<(RunId, Item)> {
    let (run, word) = path.strip_prefix("/runs/")?.split_once('/')?;
    let item = Item::ALL.iter().find(|(_, known)| *known == word)?.0;
    // Only plain digits, without signs or leading zeros, so that a run has one path.
    let id: u64 = run.parse().ok()?;
    (id.to_string() == run).then_some((RunId(id), item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (item, _) in Item::ALL {
            assert_eq!(read_path(&path(RunId(7), item)), Some((RunId(7), item)));
        }
        for command in [Command::Wait, Command::Upload, Command::Exit] {
            assert_eq!(Command::read(command.as_str().as_bytes()), Some(command));
        }
    }

    #[test]
    fn other_paths_are_none() {
        for path in
            ["", "/", "/runs/7", "/runs/7/", "/runs/+7/input", "/runs/07/input", "/runs/7/input/x", "/runs//input"]
        {
            assert_eq!(read_path(path), None, "{path}");
        }
        assert_eq!(Command::read(b"stay"), None);
    }

    proptest! {
        #[test]
        fn any_path_can_be_read(path in ".*") {
            let _ = read_path(&path);
        }
    }
}
