//! Restrictions that have no effect: outside `policies`, under an unknown name, or dropped by YAML's merge keys. A node must never do
//! more than its owner allowed, so each is an error.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::{Diagnostics, Position};
use super::names;
use super::restrictions::{Level, POLICIES as NAMES, PROTECTING, Promise, is_a_policy, plain, promise};
use super::yaml::{Entry, Node, Value};

const POLICIES: &str = "policies";
/// Settings that are read strictly: unknown keys in them are an error anyway.
const STRICT: [&str; 3] = [POLICIES, "kubernetes", "local"];
/// Settings whose keys are arbitrary names.
const NAMES_OF_OTHERS: [&str; 2] = ["algorithm_env", "node_extra_env"];

/// Which names to search for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// All names that promise a restriction.
    Alike,
    /// Only the names of policies, and typos of them: Docker has words of its own, such as `restart_policy`.
    Themselves,
}

/// Reports all restrictions in a file that are not in force.
pub(super) fn refuse(root: &Node, findings: &Diagnostics) {
    let Value::Map(entries) = &root.value else { return };
    let walk = Walk { in_force: InForce::of(entries), findings };
    for entry in entries.iter().filter(|entry| !STRICT.contains(&entry.key.as_str())) {
        match entry.key.as_str() {
            key if NAMES_OF_OTHERS.contains(&key) => {}
            "databases" => walk.databases(&entry.value),
            "docker_services" => walk.below(&entry.value, &entry.key, Search::Themselves),
            _ => walk.entry(entry, "", Level::Outermost, Search::Alike),
        }
    }
}

/// The parts of a file that contribute to the policies in force, through anchors and merge keys.
#[derive(Default)]
struct InForce {
    /// Positions of keys.
    places: BTreeSet<Position>,
    /// Positions of values, with the policies that they belong to.
    values: BTreeMap<Position, BTreeSet<String>>,
    /// Policies that ask for something.
    asked: BTreeSet<String>,
    /// Keys that another key replaced, with that key's line: whole `policies` mappings and parts of them.
    replaced: BTreeMap<Position, usize>,
}

impl InForce {
    fn of(file: &[Entry]) -> Self {
        let mut found = Self::default();
        for entry in file.iter().filter(|entry| PROTECTING.contains(&entry.key.as_str())) {
            found.places.extend([entry.at, entry.value.at]);
            // An explicit value replaces these.
            found.places.extend(entry.replaced());
        }
        let Some(policies) = file.iter().find(|entry| entry.key == POLICIES) else { return found };
        found.take(policies);
        let parts = match &policies.value.value {
            Value::Map(parts) => parts.as_slice(),
            _ => &[],
        };
        for part in parts {
            found.take(part);
            if part.value.asks() {
                found.asked.insert(part.key.clone());
                // The explicit restriction of the same name replaces these.
                found.places.extend(part.replaced());
            }
        }
        found
    }

    fn take(&mut self, entry: &Entry) {
        self.places.insert(entry.at);
        self.values.entry(entry.value.at).or_default().insert(plain(&entry.key));
        self.replaced.extend(entry.replaced().map(|at| (at, entry.at.line)));
    }

    fn has(&self, entry: &Entry) -> bool {
        // A key named after another policy than the one that uses its value asks for something else.
        let fits = |of: &BTreeSet<String>| {
            !is_a_policy(&entry.key) || of.iter().any(|name| strsim::osa_distance(name, &plain(&entry.key)) <= 2)
        };
        self.places.contains(&entry.at) || self.values.get(&entry.value.at).is_some_and(fits)
    }
}

struct Walk<'a> {
    in_force: InForce,
    findings: &'a Diagnostics,
}

impl Walk<'_> {
    /// Searches databases. Only their `env` has arbitrary names.
    fn databases(&self, node: &Node) {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        for (index, item) in items.iter().enumerate() {
            let Value::Map(entries) = &item.value else { continue };
            for entry in entries.iter().filter(|entry| entry.key != "env") {
                self.entry(entry, &format!("databases[{index}]."), Level::Database, Search::Alike);
            }
        }
    }

    fn below(&self, node: &Node, path: &str, search: Search) {
        match &node.value {
            Value::Map(entries) => {
                let entry = |entry| self.entry(entry, &format!("{path}."), Level::Deeper, search);
                entries.iter().for_each(entry);
            }
            Value::List(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| self.below(item, &format!("{path}[{index}]"), search));
            }
            Value::Scalar { .. } => {}
        }
    }

    fn entry(&self, entry: &Entry, parent: &str, level: Level, search: Search) {
        let path = format!("{parent}{}", names::shown_key(&entry.key));
        let promise = match search {
            Search::Alike => promise(&entry.key, level),
            Search::Themselves => is_a_policy(&entry.key).then_some(Promise::Policy),
        };
        let Some(promise) = promise else {
            return self.below(&entry.value, &path, search);
        };
        if self.in_force.has(entry) {
            return;
        }
        if promise != Promise::Policy {
            return self.findings.error(entry.at, format!("`{path}`: {}", advice(&entry.key, promise)));
        }
        match (self.in_force.replaced.get(&entry.at), &entry.value.value) {
            // A whole `policies` mapping that another one replaced, possibly with the same parts.
            (Some(line), Value::Map(parts)) => {
                let lost = parts.iter().filter(|part| part.value.asks() && !self.in_force.asked.contains(&part.key));
                for part in lost {
                    self.is_replaced(part.at, &format!("{path}.{}", names::shown(&part.key)), *line);
                }
            }
            (Some(line), _) => self.is_replaced(entry.at, &path, *line),
            (None, _) if parent.is_empty() && names::nearest(&entry.key, [POLICIES].into_iter()).is_some() => {
                let message = format!("`{path}`: there is no such setting. Did you mean `{POLICIES}`?");
                self.findings.error(entry.at, message);
            }
            (None, _) => self.findings.error(
                entry.at,
                format!(
                    "`{path}`: looks like a restriction, and is not in force: those in force are under `policies`, at the beginning of a \
                     line, and are {}. Move it there, or take it out.",
                    names::listed(&NAMES[1..], "and")
                ),
            ),
        }
    }

    fn is_replaced(&self, at: Position, path: &str, line: usize) {
        let message = format!(
            "`{path}`: is not in force: what is in line {line} takes its place, since `<<` brings in only what is not there. Write it there \
             too, or take it out here."
        );
        self.findings.error(at, message);
    }
}

/// The advice about a name that promises something and has no effect.
fn advice(key: &str, promise: Promise) -> String {
    let known: &[&str] = match promise {
        Promise::NoSharing => &PROTECTING[1..],
        Promise::Encryption => &PROTECTING[..1],
        Promise::Bounds(name) => {
            return format!(
                "has no effect at the beginning of a line. Write `{name}` below `kubernetes` (or `local`), or take it out."
            );
        }
        Promise::Policy => &[],
    };
    match names::nearest(key, known.iter().copied()) {
        Some(near) if near != key => {
            format!("there is no such setting. Did you mean `{near}`, at the beginning of a line?")
        }
        _ => format!(
            "looks like a setting that protects data, and has no effect here. Those that do are {}, at the beginning of a line: move it there, \
             or take it out.",
            names::listed(known, "and")
        ),
    }
}
