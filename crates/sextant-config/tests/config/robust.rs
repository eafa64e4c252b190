//! Whatever a file holds: an answer, and no panic.

use std::path::Path;

use proptest::prelude::*;
use sextant_config::Config;

fn read(text: &str) -> Result<Config, sextant_config::ConfigError> {
    Config::parse(text, Path::new("node.yaml"), &|_| None)
}

/// Every error has something to say, and places that exist.
fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = read(text) {
        prop_assert!(!error.problems.is_empty());
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        for position in error.problems.iter().filter_map(|problem| problem.position) {
            prop_assert!((1..=lines + 1).contains(&position.line), "{position:?} of {lines} lines");
            prop_assert!(position.column >= 1);
        }
    }
    Ok(())
}

/// A value as YAML: of any type, and nested.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("''".to_owned()),
        Just("*a".to_owned()),
        Just("&a x".to_owned()),
        Just("!!str 1".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[a-zA-Z0-9:/._-]{1,12}",
        "\\PC{0,8}".prop_map(|text| format!("{text:?}")),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key(), inner), 0..4).prop_map(|entries| {
                let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "label",
        "uri",
        "type",
        "env",
        "enabled",
        "level",
        "allowed_algorithms",
        "allowed_users",
        "namespace",
        "databases",
        "path",
        "persistentVolumeClaim",
        "claimName",
        "resources",
        "limits",
        "memory",
        "data_port",
        "proxy",
        "health",
        "listen",
        "address",
        "tolerations",
        "deadline",
        "algorithms",
        "command",
        "labels",
        "a",
        "x y",
        "<<",
        "tmp",
        "hostPath",
    ])
    .prop_map(str::to_owned)
}

fn setting() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "server_url",
        "port",
        "api_path",
        "api_key",
        "api_key_file",
        "task_dir",
        "databases",
        "encryption",
        "policies",
        "algorithm_env",
        "share_config",
        "logging",
        "docker_registries",
        "kubernetes",
        "local",
        "whitelist",
        "prometheus",
        "debug",
        "node_extra_env",
        "node_extra_mounts",
        "ca_certificates",
        "other",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_text_of_yamls_characters(text in "[a-c0-9:,&*!|>'\"%@`#{}\\[\\]<?~.\\- \n\t]{0,60}") {
        check(&text)?;
    }

    #[test]
    fn any_values_for_the_settings(settings in prop::collection::vec((setting(), value()), 0..6)) {
        let lines: Vec<String> = settings.into_iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        check(&lines.concat())?;
        check(&format!("server_url: https://a.org\napi_key: k\n{}", lines.concat()))?;
    }
}

#[test]
fn files_that_want_to_be_large_are_refused() {
    let laughs: String =
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))).collect();
    let deep = format!("a: {}", "[".repeat(100_000));
    let nested = (0..200).fold(String::new(), |text, depth| format!("{text}{}a:\n", " ".repeat(depth)));
    for text in [format!("a0: &a0 x\n{laughs}"), deep, nested, "#".repeat(2_000_000)] {
        assert_eq!(read(&text).unwrap_err().problems.len(), 1);
    }
}
