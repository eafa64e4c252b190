//! Checks all metrics against the naming conventions and the list in docs/OPERATIONS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// A process that has everything, and has counted something of each kind.
fn all() -> String {
    let metrics = Metrics::default();
    metrics.readiness(|| vec![("server", true), ("isolation", false)]);
    let node = metrics.node(|| true);
    drop(node.heard(Some(Duration::from_secs(1))));
    node.finished("completed");
    node.failed("AlgorithmFailed", "algorithm");
    node.relaunched("Evicted");
    let server = metrics.server();
    let took = Duration::from_millis(1);
    server.ended(Answer { method: "GET", path: "run/17", status: Some(200), took, date: Some(1) });
    server.certificate_ends(1);
    let kubernetes = metrics.kubernetes();
    kubernetes.ended("GET", "/api/v1/namespaces/x/pods", None, Some(200), took);
    kubernetes.isolated();
    let proxy = ProxyMetrics::default();
    metrics.proxy(&proxy, || Connections { open: 0, unauthenticated: 0, evicted: 0 });
    proxy.server_answers(1);
    metrics.encode()
}

/// What is said of a metric.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// All metrics by name.
fn described() -> BTreeMap<String, Described> {
    let mut found = BTreeMap::<String, Described>::new();
    let mut name = String::new();
    for line in all().lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(of), Some(help)) => {
                name = of.to_owned();
                let before = found.insert(name.clone(), Described { help: help.to_owned(), ..Described::default() });
                assert!(before.is_none(), "{name} is there twice");
            }
            (Some("#"), Some("TYPE"), Some(of), Some(kind)) => {
                assert_eq!(of, name);
                found.get_mut(&name).unwrap().kind = kind.to_owned();
            }
            _ => {
                let series = line.split(' ').next().unwrap();
                let (of, labels) = series.split_once('{').unwrap_or((series, ""));
                assert!(of.starts_with(name.as_str()), "{of} has no HELP");
                let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
                let own = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
                found.get_mut(&name).unwrap().labels.extend(own);
            }
        }
    }
    found
}

#[test]
fn every_metric_is_as_the_conventions_want_it() {
    for (name, Described { help, kind, labels }) in described() {
        assert!(help.len() > 10 && help.ends_with('.'), "{name}: {help}");
        assert!(name.starts_with("sextant_") || name.starts_with("process_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let base = name.trim_end_matches("_total");
        for (unit, words) in [
            ("_seconds", &["seconds", "duration", "timestamp", "age", "skew"][..]),
            ("_bytes", &["bytes", "size", "memory"]),
        ] {
            let has = |word: &&str| base.split('_').any(|part| part == *word);
            assert!(base.ends_with(unit) || !words.iter().any(has), "{name} does not end in its unit");
        }
        assert!(!base.contains("millisecond") && !base.contains("_ms"), "{name} is not in base units");
        if kind == "histogram" {
            assert!(base.ends_with("_seconds") || base.ends_with("_bytes"), "{name}");
        }
        for others in ["run", "run_id", "task", "user", "image", "pod", "organization", "path", "id"] {
            assert!(!labels.contains(others), "{name} has a label {others}, of which there is no end");
        }
    }
}

#[test]
fn the_manual_lists_what_there_is() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATIONS.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let listed: BTreeMap<String, (String, BTreeSet<String>)> = manual
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let metric = cells.next()?.trim_end_matches('`');
            let kind = cells.next()?.to_owned();
            let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
            let is_metric = name.starts_with("sextant_") || name.starts_with("process_");
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            is_metric.then(|| (name.to_owned(), (kind, labels.map(|label| label.trim().to_owned()).collect())))
        })
        .collect();
    let there = described().into_iter().map(|(name, Described { kind, labels, .. })| (name, (kind, labels)));
    assert_eq!(listed, there.collect(), "docs/OPERATIONS.md (left) and the metrics (right) differ");
}
