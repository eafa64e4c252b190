//! Configuration files of vantage6 5: the values of its node's chart, or the configuration that the chart generates. No setting is where
//! version 4 has it, so one message helps more than a list of unknown settings.

use super::diagnostics::Diagnostics;
use super::yaml::{Entry, Node, Value};

/// Keys that version 4 does not have, in the chart's `node` or at the top level.
const OF_CHART: [&str; 13] = [
    "apiKey",
    "createSecrets",
    "fileBased",
    "hq",
    "hub",
    "imagePullPolicy",
    "k8sNodeName",
    "keycloak",
    "persistence",
    "proxyPort",
    "serviceBased",
    "taskNamespace",
    "private_docker_registries",
];
/// Keys of the file that a version 5 node reads.
const OF_FILE: [&str; 8] =
    ["hq_url", "hub_url", "hq", "hub", "keycloak", "node_proxy_port", "task_namespace", "private_docker_registries"];
/// Keys of which every version 4 file has one.
const OF_VERSION_4: [&str; 3] = ["server_url", "api_key", "api_key_file"];

/// Refuses the layouts of version 5. Returns whether the file has one.
pub(super) fn refuse(root: &Node, findings: &Diagnostics) -> bool {
    let Value::Map(entries) = &root.value else { return false };
    let Some(sign) = sign(entries) else { return false };
    findings.error(
        sign.at,
        format!(
            "`{}`: found the layout of vantage6 5, expected that of version 4. Sextant works with servers of version 4: write `server_url`, \
             `api_key` and `databases` at the beginning of a line, as that version has them (docs/CONFIGURATION.md). With a hub of version 5, \
             use vantage6's own node.",
            super::names::shown(&sign.key)
        ),
    );
    true
}

/// The key that identifies a file as version 5.
fn sign(file: &[Entry]) -> Option<&Entry> {
    let is_4 = file.iter().any(|entry| OF_VERSION_4.contains(&entry.key.as_str()));
    file.iter().find(|entry| match entry.key.as_str() {
        "node" => parts(entry).is_some_and(|parts| !is_4 || parts.iter().any(is_of_chart)),
        "databases" => parts(entry).is_some_and(|parts| has(parts, &["fileBased", "serviceBased"])),
        "server" => !is_4 && parts(entry).is_some_and(|parts| has(parts, &["url"])),
        key if key.starts_with("keycloak") || key.starts_with("hq_") => true,
        // In a version 4 file, this is a typo, which is reported as one.
        "apiKey" => !is_4,
        key if OF_CHART.contains(&key) || OF_FILE.contains(&key) => true,
        _ => false,
    })
}

fn is_of_chart(entry: &Entry) -> bool {
    match entry.key.as_str() {
        "databases" => parts(entry).is_some_and(|parts| has(parts, &["fileBased", "serviceBased"])),
        "server" => parts(entry).is_some_and(|parts| has(parts, &["url"])),
        key => OF_CHART.contains(&key),
    }
}

fn parts(entry: &Entry) -> Option<&[Entry]> {
    match &entry.value.value {
        Value::Map(parts) => Some(parts),
        _ => None,
    }
}

fn has(entries: &[Entry], keys: &[&str]) -> bool {
    entries.iter().any(|entry| keys.contains(&entry.key.as_str()))
}
