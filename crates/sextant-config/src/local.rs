//! The settings of the local runtime, all under the key `local:`.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use sextant_core::image_reference::ImageReference;

use super::OUTPUT;
use super::databases::{variable_of_this_machine, warn_of_the_nodes_own};
use super::kubernetes::bytes;
use super::model::HiddenValues;
use super::reader::{Field, Section};

/// How algorithms run as processes on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalConfig {
    /// The algorithms that can run, by the image that a task names.
    pub algorithms: BTreeMap<String, LocalAlgorithm>,
    /// The largest number of runs at the same time; `None`: no limit.
    pub max_concurrent_runs: Option<NonZeroUsize>,
    /// The longest time that an algorithm may run. Default 7 days.
    pub deadline: Duration,
    /// How long a job's shared folder is kept after its last use. Default 30 days; never less than the longest time of a run.
    pub keep_shared: Duration,
    /// The largest size of an output in bytes.
    pub output_limit: u64,
}

/// The program that runs in place of an image on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalAlgorithm {
    /// The program and its arguments; never empty. No shell interprets them.
    pub command: Vec<String>,
    /// The Python package with the algorithm's functions: an image's `PKG_NAME`.
    pub package: Option<String>,
    /// Environment variables for the process, not encoded, on top of those that every algorithm gets.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for LocalAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAlgorithm")
            .field("command", &self.command)
            .field("package", &self.package)
            .field("env", &HiddenValues(&self.env))
            .finish()
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            algorithms: BTreeMap::new(),
            max_concurrent_runs: None,
            deadline: 7 * DAY,
            keep_shared: 30 * DAY,
            output_limit: OUTPUT,
        }
    }
}

/// Reads the section. Invalid settings are reported and have their defaults in the result.
pub(super) fn read(section: &Section<'_>, labels: &[&str]) -> LocalConfig {
    let default = LocalConfig::default();
    let algorithms = section.get("algorithms").map_or(default.algorithms, |field| {
        field.map_of("a mapping of images to commands", |image, field| {
            if let Err(why) = ImageReference::parse(image) {
                field.warn(format!("no image can have this name, so no task can ask for it: {why}."));
            }
            algorithm(field, labels)
        })
    });
    let max_concurrent_runs = section.get("max_concurrent_runs").and_then(|field| field.count());
    let deadline = section.get("deadline").and_then(|field| field.duration(false)).unwrap_or(default.deadline);
    let keep_shared = section.get("keep_shared").and_then(|field| field.duration(true)).unwrap_or(default.keep_shared);
    let output_limit =
        section.get("output_limit").and_then(|field| bytes(&field, "Take it out for what servers can store."));
    let output_limit = output_limit.unwrap_or(default.output_limit);
    section.finish_own();
    LocalConfig { algorithms, max_concurrent_runs, deadline, keep_shared, output_limit }
}

/// Reads an algorithm: a command alone, or a mapping with more settings.
fn algorithm(field: &Field<'_>, labels: &[&str]) -> Option<LocalAlgorithm> {
    if !matches!(field.node.value, super::yaml::Value::Map(_)) {
        return Some(LocalAlgorithm { command: command(field)?, package: None, env: BTreeMap::new() });
    }
    let section = field.section("")?;
    let command = section.require("command", COMMAND).and_then(|field| command(&field));
    let package = section.get("package").map(|field| package(&field));
    let env = section.get("env").map_or_else(BTreeMap::new, |field| {
        field.map_of("names of environment variables with their values", |key, field| {
            warn_of_the_nodes_own(key, field, labels);
            variable_of_this_machine(key, field)
        })
    });
    section.finish_own();
    let package = package.map_or(Some(None), |package| package.map(Some));
    Some(LocalAlgorithm { command: command?, package: package?, env })
}

const COMMAND: &str = "a command, like `python -m my_algorithm`, or a list of the program and its arguments";

fn command(field: &Field<'_>) -> Option<Vec<String>> {
    let words = if let super::yaml::Value::List(_) = field.node.value {
        let items = field.list(COMMAND)?;
        let words: Option<Vec<String>> =
            items.iter().map(|item| item.text("a program or an argument").map(str::to_owned)).collect();
        words?
    } else {
        let Some(words) = shlex::split(field.text(COMMAND)?) else {
            field.wrong(COMMAND, "A quotation mark is not closed.");
            return None;
        };
        words
    };
    if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        field.wrong(COMMAND, "");
        return None;
    }
    Some(words)
}

fn package(field: &Field<'_>) -> Option<String> {
    // Python imports the package by name at run time, so names with hyphens do exist.
    let expected = "the name of a Python package";
    let fits = |part: &str| super::names::is_identifier(&part.replace('-', "_"));
    let package = field.word(expected)?;
    if !package.split('.').all(fits) {
        field.wrong(expected, "");
        return None;
    }
    Some(package.to_owned())
}
