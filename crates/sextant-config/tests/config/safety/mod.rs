//! Settings that silently mean less safety than their writer thinks: each is a mistake or a warning, and what is sound is neither.

mod egress;
mod empty;
mod expressions;
mod merged;
mod paths;
mod pods;
mod policies;
mod settings;
mod slips;

use Verdict::{Refused, Silent, Warned};

use crate::{LEAST, parse};

/// What is said of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// A mistake with this in it, and the node doesn't start.
    Refused(&'static str),
    /// A warning with this in it.
    Warned(&'static str),
    /// Nothing that has to do with the subject.
    Silent,
}

/// Reads what is needed and something more. `subject` is what mistakes and warnings that count have in them.
pub fn judge(more: &str, subject: &str, expected: Verdict) {
    let (said, refused) = match parse(&format!("{LEAST}{more}")) {
        Ok(config) => (config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), false),
        Err(error) => (error.problems.iter().map(ToString::to_string).collect(), true),
    };
    let said: Vec<String> = said.into_iter().filter(|text| text.contains(subject)).collect();
    let has = |words: &str| said.iter().any(|text| text.contains(words));
    let fits = match expected {
        Refused(words) => refused && has(words),
        Warned(words) => !refused && has(words),
        Silent => !refused && said.is_empty(),
    };
    assert!(fits, "{more}\nexpected {expected:?}, refused: {refused}, said: {said:#?}");
}
