//! The examples and the documentation say what is true.

use std::fs;
use std::path::{Path, PathBuf};

use sextant_config::{Config, RuntimeConfig};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> Config {
    let text = fs::read_to_string(repository().join("examples/config").join(name)).unwrap();
    let key = |variable: &str| (variable == "SEXTANT_API_KEY").then(|| "key".to_owned());
    Config::parse(&text, Path::new(name), &key).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_examples_are_good_and_leave_no_doubt() {
    let kubernetes = example("kubernetes.yaml");
    assert_eq!(kubernetes.kubernetes().unwrap().databases.len(), 1);
    assert!(!kubernetes.policies.allowed_algorithms.is_empty());
    let local = example("local.yaml");
    assert!(matches!(&local.runtime, RuntimeConfig::Local(local) if local.algorithms.len() == 2));
    for config in [kubernetes, local] {
        assert_eq!(config.warnings, []);
    }
}

/// Every example in the documentation is read; a block that is a part of a file follows what every file needs.
#[test]
fn the_documentations_examples_are_good() {
    let text = fs::read_to_string(repository().join("docs/CONFIGURATION.md")).unwrap();
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        let needed = |key: &str, line: &str| {
            if block.contains(&format!("\n{key}")) || block.starts_with(key) {
                String::new()
            } else {
                format!("{line}\n")
            }
        };
        let text = needed("server_url", "server_url: https://a.org")
            + &needed("api_key", "api_key: k")
            + &needed("databases", "databases: [{label: default, uri: /a.csv, type: csv}]")
            + block;
        let env = |name: &str| (name == "SEXTANT_API_KEY" && block.contains("api_key_file")).then(|| "key".to_owned());
        if let Err(error) = Config::parse(&text, Path::new("docs"), &env) {
            panic!("{error}\n{text}");
        }
    }
}

#[test]
fn the_documentation_knows_every_setting() {
    let text = fs::read_to_string(repository().join("docs/CONFIGURATION.md")).unwrap();
    let settings = [
        "server_url",
        "port",
        "api_path",
        "api_key",
        "api_key_file",
        "ca_certificates",
        "task_dir",
        "databases",
        "encryption",
        "policies",
        "allowed_algorithms",
        "allowed_users",
        "allowed_organizations",
        "allow_basics_algorithm",
        "algorithm_env",
        "share_config",
        "share_algorithm_logs",
        "logging",
        "docker_registries",
        "kubernetes",
        "local",
        "namespace",
        "kubeconfig",
        "context",
        "image",
        "image_pull_policy",
        "algorithm_pull_policy",
        "image_pull_secrets",
        "tmp",
        "scratch",
        "gpu",
        "services",
        "runtime_class",
        "target_port",
        "pod_labels",
        "resources",
        "helper_resources",
        "data_port",
        "proxy",
        "health",
        "deadline",
        "keep_finished",
        "keep_shared",
        "pending_timeout",
        "image_pull_timeout",
        "retry_disrupted",
        "output_limit",
        "max_concurrent_runs",
        "node_selector",
        "tolerations",
        "labels",
        "annotations",
        "algorithms",
        "command",
        "package",
        "vpn_subnet",
        "ssh-tunnels",
        "whitelist",
        "docker_services",
        "algorithm_device_requests",
        "images",
        "alpine",
        "node_extra_env",
        "node_extra_mounts",
        "node_extra_hosts",
        "directories",
        "debug",
        "prometheus",
        "run_context_file",
        "mount_mode",
        "allowed_algorithm_stores",
        "require_algorithm_pull",
    ];
    for setting in settings {
        assert!(text.contains(&format!("`{setting}`")), "{setting}");
    }
}

/// Every claim about security names the test that shows it, as `file::test`: there is such a test.
#[test]
fn the_claims_about_security_are_tested() {
    let text = fs::read_to_string(repository().join("docs/SECURITY.md")).unwrap();
    let names: Vec<_> = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(names.len() > 30, "{names:?}");
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&repository().join(folder), &mut files);
    }
    let missing: Vec<_> = names
        .iter()
        .filter(|(file, test)| {
            let has = |text: String| text.contains(&format!("fn {test}(")) || text.contains(&format!("def {test}("));
            // Without `src`, which every crate has.
            let named = |path: &Path| path.iter().filter(|part| *part != "src").collect::<PathBuf>().ends_with(file);
            !files.iter().filter(|path| named(path)).any(|path| has(fs::read_to_string(path).unwrap()))
        })
        .collect();
    assert!(missing.is_empty(), "docs/SECURITY.md names tests that are not there: {missing:?}");
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
            files.push(path);
        }
    }
}
