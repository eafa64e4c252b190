//! The output of `sextant doctor`: a line for each subject that it checks.

use std::fmt;

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The subject is in order.
    Ok,
    /// The subject has a problem.
    Wrong,
    /// The subject was not, or could not be, checked.
    Unknown,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was checked.
    pub subject: &'static str,
    /// The outcome.
    pub state: State,
    /// A text which, for a problem, says what to do.
    pub text: String,
}

impl Line {
    /// A check that found no problem.
    pub fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, state: State::Ok, text: text.into() }
    }

    /// A check that found a problem.
    pub fn wrong(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, state: State::Wrong, text: text.into() }
    }

    /// A check without a result.
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
