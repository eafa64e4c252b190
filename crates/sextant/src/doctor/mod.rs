//! `sextant doctor`: goes through all that a node needs, one line each, as far as it can be seen from here. It changes nothing
//! but what the node itself would make at its start, and disturbs no node that runs.

mod server;

use std::fmt;

use crate::config::{Config, RuntimeConfig};
use crate::core::names::Identity;
use crate::runtime::kubernetes::examine;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Not.
    Wrong,
    /// It was not, or could not be, tried.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub subject: &'static str,
    /// How it is.
    pub state: State,
    /// In words; where it is wrong, with what to do.
    pub text: String,
}

impl Line {
    /// It is as it should be.
    pub fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, state: State::Ok, text: text.into() }
    }

    /// It is not.
    pub fn wrong(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, state: State::Wrong, text: text.into() }
    }

    /// It is not known.
    pub fn unknown(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, state: State::Unknown, text: text.into() }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.state {
            State::Ok => "ok",
            State::Wrong => "WRONG",
            State::Unknown => "?",
        };
        write!(f, "{word:<6} {:<14} {}", self.subject, self.text)
    }
}

/// Goes through all of it; `isolation`: also has a pod try what algorithms can reach. Each line is told when it is known.
/// Gives whether nothing is wrong.
pub async fn run(config: &Config, isolation: bool, tell: &mut (dyn FnMut(&Line) + Send)) -> bool {
    let mut well = true;
    let mut tell = |line: Line| {
        well &= line.state != State::Wrong;
        tell(&line);
    };
    tell(Line::ok("configuration", "can be used; `sextant check` says what it means"));
    for warning in &config.warnings {
        tell(Line::unknown("configuration", warning.to_string()));
    }
    let node = server::examine(config, &mut tell).await;
    match &config.runtime {
        RuntimeConfig::Local(_) => tell(Line::unknown(
            "isolation",
            "with `local:`, algorithms are processes of this machine, with all that its user may reach: for invented data only",
        )),
        RuntimeConfig::Kubernetes(settings) => {
            // Without the server's answer the node's number is not known, which only people read.
            let identity = Identity::of(config, node.unwrap_or(vantage6::NodeId(0)));
            examine::run(config, settings, &identity, isolation, &mut tell).await;
        }
    }
    well
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_something_is_and_why() {
        for (line, expected) in [
            (Line::ok("server", "answers"), "ok     server         answers"),
            (Line::wrong("data port", "is not free"), "WRONG  data port      is not free"),
            (Line::unknown("isolation", "not tried"), "?      isolation      not tried"),
        ] {
            assert_eq!(line.to_string(), expected);
        }
    }
}
