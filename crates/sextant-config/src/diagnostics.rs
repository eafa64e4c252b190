//! Diagnostics of a configuration: errors and warnings with their positions, collected while reading and reported together.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::model::Config;
use super::redact;

/// A position in a file, counted from 1 as in editors. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Something odd in a configuration that does not prevent its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The configuration file.
    pub file: Arc<Path>,
    /// Where in the file; `None` if the warning is about the file as a whole.
    pub position: Option<Position>,
    /// What is odd, and what to do.
    pub message: String,
}

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: Arc<Path>,
    /// Where in the file; `None` if something is missing from the file as a whole.
    pub position: Option<Position>,
    /// What was found, what is expected, and what to do.
    pub message: String,
}

/// All errors of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The errors; never empty.
    pub problems: Vec<Problem>,
    /// The warnings.
    pub warnings: Vec<Warning>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_at(f, &self.file, self.position, &self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_at(f, &self.file, self.position, &self.message)
    }
}

fn write_at(f: &mut fmt::Formatter<'_>, file: &Path, position: Option<Position>, message: &str) -> fmt::Result {
    write!(f, "{}", file.display())?;
    if let Some(Position { line, column }) = position {
        write!(f, ":{line}:{column}")?;
    }
    write!(f, ": {message}")
}

/// Collects the diagnostics of the readers of a configuration's parts.
pub(super) struct Diagnostics {
    file: Arc<Path>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
}

impl Diagnostics {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.into(), problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// Reports an error.
    pub(super) fn error(&self, at: impl Into<Option<Position>>, message: impl Into<String>) {
        let problem =
            Problem { file: self.file.clone(), position: at.into(), message: redact::sentence(&message.into()) };
        self.problems.borrow_mut().push(problem);
    }

    /// The error that was reported first.
    pub(super) fn first_error(&self) -> Option<String> {
        self.problems.borrow().first().map(ToString::to_string)
    }

    /// Whether an error has been reported in a line.
    pub(super) fn has_error_in(&self, line: usize) -> bool {
        self.problems.borrow().iter().any(|problem| problem.position.is_some_and(|at| at.line == line))
    }

    /// Reports a warning.
    pub(super) fn warn(&self, at: impl Into<Option<Position>>, message: impl Into<String>) {
        let warning =
            Warning { file: self.file.clone(), position: at.into(), message: redact::sentence(&message.into()) };
        self.warnings.borrow_mut().push(warning);
    }

    /// Returns the configuration with its warnings if there was no error, else all diagnostics as an error, in the order of the file.
    pub(super) fn finish(self, config: Option<Config>) -> Result<Config, ConfigError> {
        match config {
            Some(config) if self.problems.borrow().is_empty() => {
                let mut warnings = self.warnings.into_inner();
                warnings.sort_by_key(|warning| warning.position);
                Ok(Config { warnings, ..config })
            }
            _ => Err(self.into_error()),
        }
    }

    /// Returns all diagnostics as an error.
    pub(super) fn into_error(self) -> ConfigError {
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|warning| warning.position);
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            let message =
                "the configuration could not be read, for a reason that got lost. Please report this.".to_owned();
            problems.push(Problem { file: self.file, position: None, message });
        }
        problems.sort_by_key(|problem| problem.position);
        ConfigError { problems, warnings }
    }
}
