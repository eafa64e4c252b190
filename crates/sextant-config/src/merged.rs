//! Finds what YAML's merge keys (`<<`) would have brought in if another value did not replace it. Replacing a single value is the purpose
//! of merge keys. Losing a whole mapping because one of its entries is overridden is not what its writer means.

use std::collections::BTreeSet;

use super::diagnostics::{Diagnostics, Position};
use super::names;
use super::restrictions::{POLICIES, PROTECTING, bounds};
use super::yaml::{Entry, Node, Value};

/// Reports lost values: an error for a restriction, else a warning.
pub(super) fn judge(root: &Node, findings: &Diagnostics) {
    Walk { findings, told: BTreeSet::new() }.below(root, &mut Vec::new());
}

struct Walk<'a> {
    findings: &'a Diagnostics,
    /// What has been reported already, since aliases repeat nodes.
    told: BTreeSet<(Position, Position)>,
}

impl Walk<'_> {
    fn below<'n>(&mut self, node: &'n Node, path: &mut Vec<&'n str>) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    path.push(&entry.key);
                    self.entry(entry, path);
                    self.below(&entry.value, path);
                    path.pop();
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.below(item, path)),
            Value::Scalar { .. } => {}
        }
    }

    fn entry(&mut self, entry: &Entry, path: &[&str]) {
        for (at, other) in &entry.overridden {
            let mut lost = Vec::new();
            compare(&entry.value, other, path.to_vec(), &mut lost);
            for lost in lost {
                let is_policy = is_of_policies(&lost.path);
                // Settings outside `policies` that are not in force have been reported by `misplaced`.
                if is_policy && self.findings.has_error_in(lost.at.line) && lost.at.line != entry.at.line {
                    continue;
                }
                if !self.told.insert((lost.at, entry.at)) {
                    continue;
                }
                let path: Vec<String> = lost.path.iter().map(|key| names::shown_key(key)).collect();
                let message = format!(
                    "`{}`: does not count as line {} has it: what is in line {} takes the place of all of line {}, since `<<` brings in only \
                     what is not there. Write it in line {} too, or take it out in line {}.",
                    path.join("."),
                    lost.at.line,
                    entry.at.line,
                    at.line,
                    entry.at.line,
                    lost.at.line
                );
                // An explicit setting about sharing is taken at its word.
                let is_written = !is_policy
                    && lost.path.last().is_some_and(|key| SAFE_WHEN_OFF.contains(key))
                    && !entry.value.is_null();
                if lost.path.iter().any(|key| is_restriction(key)) && !is_written {
                    self.findings.error(entry.at, message);
                } else {
                    self.findings.warn(entry.at, message);
                }
            }
        }
    }
}

fn is_restriction(key: &str) -> bool {
    PROTECTING.contains(&key) || POLICIES.contains(&key) || bounds(key)
}

/// A value of the replaced node that the replacing node lacks.
struct Lost<'n> {
    path: Vec<&'n str>,
    at: Position,
}

fn compare<'n>(own: &'n Node, other: &'n Node, path: Vec<&'n str>, lost: &mut Vec<Lost<'n>>) {
    let falls_away = match (&own.value, &other.value) {
        (_, Value::Scalar { .. }) if !other.asks() && !says_no(other, &path) => false,
        (Value::Map(entries), Value::Map(others)) => {
            for theirs in others {
                let path = [path.as_slice(), &[theirs.key.as_str()]].concat();
                match entries.iter().find(|entry| entry.key == theirs.key) {
                    Some(entry) => compare(&entry.value, &theirs.value, path, lost),
                    None if asks_for_nothing(&theirs.value, &path) => {}
                    None => lost.push(Lost { path, at: theirs.at }),
                }
            }
            false
        }
        // Null, or a value of another type, replaces a mapping.
        (_, Value::Map(others)) => {
            for theirs in others {
                let path = [path.as_slice(), &[theirs.key.as_str()]].concat();
                if !asks_for_nothing(&theirs.value, &path) {
                    lost.push(Lost { path, at: theirs.at });
                }
            }
            false
        }
        (_, Value::List(_)) if own.is_null() => other.asks(),
        // An empty list allows everything. A single user may also be written without a list.
        (Value::List(_), _) if is_of_policies(&path) => other.asks() && !own.asks(),
        (Value::Scalar { text, .. }, Value::Scalar { text: theirs, .. }) if text != theirs => {
            own.is_null() || is_weaker(own, other, &path)
        }
        (Value::Map(_), Value::List(others)) => !others.is_empty(),
        _ => false,
    };
    if falls_away {
        lost.push(Lost { at: other.at, path });
    }
}

/// Whether losing a value changes nothing.
fn asks_for_nothing(node: &Node, path: &[&str]) -> bool {
    match path {
        _ if node.is_null() => true,
        // Without it, one of the two lists alone lets nothing in.
        [.., "allow_either_whitelist_or_store"] => true,
        [.., "allow_basics_algorithm"] => node.asks(),
        _ => is_of_policies(path) && !node.asks(),
    }
}

fn is_of_policies(path: &[&str]) -> bool {
    path.iter().any(|key| POLICIES.contains(key))
}

/// Settings whose safe value is off.
const SAFE_WHEN_OFF: [&str; 5] = [
    "allow_basics_algorithm",
    "allow_either_whitelist_or_store",
    "allow_unisolated",
    "share_algorithm_logs",
    "share_config",
];

fn says_no(node: &Node, path: &[&str]) -> bool {
    path.last().is_some_and(|key| SAFE_WHEN_OFF.contains(key)) && !node.asks()
}

/// Whether a value protects less than the one it replaces.
fn is_weaker(own: &Node, other: &Node, path: &[&str]) -> bool {
    match path {
        [.., key] if SAFE_WHEN_OFF.contains(key) => own.asks() && !other.asks(),
        [.., "require_algorithm_pull"] | [.., "encryption", "enabled"] => !own.asks() && other.asks(),
        [.., "pod_security"] => other.secret() == Some("restricted"),
        _ => false,
    }
}
