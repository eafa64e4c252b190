//! The configuration as people write it: what is accepted and what it means, and what each mistake is answered with.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod cluster_access;
mod cluster_services;
mod examples;
mod kubernetes;
mod local;
mod mistakes;
mod overlaps;
mod regular;
mod report;
mod robust;
mod safety;
mod secrets;
mod trust;

use std::path::Path;

use sextant_config::{Config, ConfigError, KubernetesConfig};

/// The least that a configuration needs, on two lines: what a test adds begins in line 3.
const LEAST: &str = "server_url: https://vantage6.example.org\napi_key: 4f1c-key\n";

/// Reads a text as the file `node.yaml`, without any environment variables.
fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("node.yaml"), &|_| None)
}

/// Reads what is needed and something more, which must be fine.
fn with(more: &str) -> Config {
    parse(&format!("{LEAST}{more}")).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, for the settings of the Kubernetes runtime.
fn kubernetes_with(more: &str) -> KubernetesConfig {
    with(more).kubernetes().expect("the Kubernetes runtime").clone()
}

/// What is said about mistakes, without the file's name.
fn mistakes(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("this is a mistake");
    let without_file = |line: String| line.trim_start_matches("node.yaml:").trim().to_owned();
    error.problems.iter().map(|problem| without_file(problem.to_string())).collect()
}

/// The warnings about what is needed and something more, without the file's name and the one about policies.
fn warnings(more: &str) -> Vec<String> {
    let config = with(more);
    let all =
        config.warnings.iter().map(|warning| warning.to_string().trim_start_matches("node.yaml:").trim().to_owned());
    all.filter(|warning| !warning.starts_with("no policies on allowed algorithms")).collect()
}
