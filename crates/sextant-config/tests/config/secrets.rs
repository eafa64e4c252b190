//! Keys and passwords: where they come from, and that nothing prints them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use sextant_config::{Config, check};
use vantage6::encryption::PrivateKey;

use crate::{LEAST, with};

fn key(text: &str, env: Option<&str>) -> (String, Vec<String>) {
    let env = |name: &str| env.filter(|_| name == "SEXTANT_API_KEY").map(str::to_owned);
    let text = format!("server_url: https://a.org\nlocal: {{algorithms: {{a: b}}}}\n{text}");
    let config = Config::parse(&text, Path::new("node.yaml"), &env).unwrap();
    (config.api_key.expose_secret().to_owned(), config.warnings.iter().map(ToString::to_string).collect())
}

/// A new folder for a test's files.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_environment_has_the_last_word_on_the_key() {
    assert_eq!(key("api_key: inline", None), ("inline".to_owned(), vec![]));
    // As it is written, not as the number that YAML sees.
    assert_eq!(key("api_key: 0123", None).0, "0123");
    assert_eq!(key("", Some("from-env\n")), ("from-env".to_owned(), vec![]));
    assert_eq!(key("api_key: inline", Some(" ")), ("inline".to_owned(), vec![]));
    assert_eq!(
        key("api_key: inline\napi_key_file: /nowhere", Some("from-env")),
        (
            "from-env".to_owned(),
            vec![
                "node.yaml:3:1: `api_key`: not used, since the environment variable SEXTANT_API_KEY is set. Keep one of them.".to_owned(),
                "node.yaml:4:1: `api_key_file`: not used, since the environment variable SEXTANT_API_KEY is set. Keep one of them.".to_owned(),
            ]
        )
    );
}

#[test]
fn a_file_of_its_own_is_looked_for_beside_the_configuration() {
    let folder = folder("key-file");
    write(&folder.join("key"), "from-file\n", 0o600);
    let config = folder.join("node.yaml");
    write(&config, "server_url: https://a.org\napi_key_file: key\n", 0o644);
    let loaded = Config::load(&config).unwrap();
    assert_eq!(loaded.api_key.expose_secret(), "from-file");

    write(&config, "server_url: https://a.org\napi_key_file: nothing\n", 0o644);
    let said = Config::load(&config).unwrap_err().to_string();
    let (file, missing) = (config.display(), folder.join("nothing"));
    assert_eq!(
        said,
        format!(
            "{file}:2:15: `api_key_file`: found `nothing`, expected the path of a file with the node's key. Reading {} failed: No such \
             file or directory (os error 2).",
            missing.display()
        )
    );
}

#[test]
fn a_key_that_others_may_read_is_told() {
    let config = folder("modes").join("node.yaml");
    for (mode, odd) in [(0o600, false), (0o640, false), (0o644, true)] {
        write(&config, LEAST, mode);
        let warnings = Config::load(&config).unwrap().warnings;
        let said = warnings
            .iter()
            .any(|warning| warning.message.starts_with("`api_key`: other people on this machine may read this file"));
        assert_eq!(said, odd, "{mode:o}");
    }
}

#[test]
fn a_private_key_is_read_and_its_faults_are_told() {
    let folder = folder("private-key");
    let (config, key) = (folder.join("node.yaml"), folder.join("private_key.pem"));
    write(&config, &format!("{LEAST}encryption: {{enabled: true, private_key: private_key.pem}}\n"), 0o600);
    let said = |end: &str| {
        let said = Config::load(&config).unwrap_err().to_string();
        let begin = "`encryption.private_key`: found `private_key.pem`, expected the path of the organization's private key, a PEM file.";
        assert!(said.contains(begin) && said.ends_with(end), "{said}");
    };
    said("No such file or directory (os error 2).");
    write(&key, "no key", 0o600);
    said("can't be used: it is not a PEM file.");

    let pem = PrivateKey::generate().unwrap().to_pem().unwrap();
    for (mode, odd) in [(0o600, false), (0o440, false), (0o644, true)] {
        let _ = fs::remove_file(&key);
        write(&key, pem.expose_secret(), mode);
        let loaded = Config::load(&config).unwrap();
        assert!(loaded.encryption.cryptor().unwrap().is_encrypted());
        let told = loaded
            .warnings
            .iter()
            .any(|warning| warning.message.contains("may read") && warning.message.contains("chmod 600"));
        assert_eq!(told, odd, "{mode:o}");
        assert!(check(&config).to_string().contains(&format!("on, with the private key {}", key.display())));
    }
    // What is not used is not looked at.
    fs::remove_file(&key).unwrap();
    write(&config, &format!("{LEAST}encryption: {{enabled: false, private_key: private_key.pem}}\n"), 0o600);
    assert!(!Config::load(&config).unwrap().encryption.cryptor().unwrap().is_encrypted());
}

#[test]
fn nothing_prints_a_secret() {
    let text = "server_url: https://a.org\napi_key: hunter2-key\n\
        algorithm_env: {A: hunter2-env}\n\
        databases: [{label: a, uri: 'postgresql://u:hunter2-uri@db/x', type: sql, env: {password: hunter2-db}}]\n\
        docker_registries: [{registry: a.org, username: u, password: hunter2-registry}]\n";
    let path = folder("printing").join("node.yaml");
    write(&path, text, 0o600);
    let config = Config::load(&path).unwrap();
    let debug = format!("{config:?} {config:#?}");
    assert!(debug.contains("api_key: [secret]") && debug.contains("\"password\": [secret]"), "{debug}");
    let report = check(&path).to_string();
    write(&path, &format!("{text}api_key: hunter2-again\nport: x\n"), 0o600);
    let mistakes = check(&path).to_string();
    for printed in [debug, report, mistakes] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    let local = with("local: {algorithms: {a: {command: run, env: {A: hunter2}}}}");
    assert!(!format!("{local:?}").contains("hunter2"));
}

/// Secrets at a place where something else is expected: what is said goes into logs.
#[test]
fn a_secret_at_the_wrong_place_is_not_shown() {
    const SECRET: &str = "Hunter2pw";
    let key = "8f14e45f-ceea-467f-a0e6-d1f2b3c4d5e6";
    let folder = folder("wrong-places");
    let path = folder.join("node.yaml");
    for more in [
        "databases: 'postgres://u:PW@h/x'",
        "databases: ['postgres://u:PW@h/x']",
        "databases: {'postgres://u:PW@h': x}",
        "databases: [{label: 'postgres://u:PW@h/x', type: sql, uri: x}]",
        "databases: [{label: w, type: 'postgres://u:PW@h/x', uri: x}]",
        "databases: [{label: w, type: 'Server=a;Password=PW', uri: x}]",
        "databases: [{label: w, type: csv, uri: 'C:\\x;pwd=PW'}]",
        "databases: [{label: w, type: csv, uri: 'relative;pwd=PW'}]",
        "databases: [{label: w, type: sql, uri: '/etc/x;password=PW'}]",
        "databases: [{label: w, type: sql, uri: 'file:/proc?password=PW'}]",
        "databases: [{label: w, type: sql, uri: 'postgres://h/x', env: PW}]",
        "databases: [{label: w, type: sql, uri: 'postgres://h/x', env: ['password=PW']}]",
        "databases: [{label: w, type: sql, uri: 'postgres://h/x', env: {'pass word=PW': x}}]",
        "algorithm_env: A=PW",
        "algorithm_env: [A=PW]",
        "algorithm_env: {'A=PW': x}",
        "algorithm_env: {'A=PW': x, 'A=PW': y}",
        "docker_registries: PW",
        "docker_registries: ['u:PW@r.example.org']",
        "docker_registries: [{registry: 'https://u:PW@r.example.org', username: a, password: b}]",
        "docker_registries: [{registry: r.example.org, username: a, password: !PW x}]",
        "docker_registries: [{registry: r.example.org, username: a, password: *PW}]",
        "encryption: PW",
        "encryption: {enabled: true, private_key: \"-----BEGIN RSA PRIVATE KEY-----\\nPW\"}",
        "ca_certificates: '-----BEGIN PRIVATE KEY----- PW'",
        "api_path: 'https://u:PW@x'",
        "health: {listen: 'u:PW@h'}",
        "policies: {allowed_algorithms: ['u:PW@r.example.org/a(']}",
        "kubernetes: PW",
        "port: PW",
        "encryption: {enabled: PW}",
        "encryption: {enabled: true, private_key: key, organization_id: PW}",
        "share_config: PW",
        "logging: {level: PW}",
        "policies: {allow_basics_algorithm: PW}",
        "kubernetes: {deadline: PW}",
        "kubernetes: {max_concurrent_runs: PW}",
        "kubernetes: {retry_disrupted: PW}",
        "kubernetes: {pod_security: PW}",
        "kubernetes: {output_limit: PW}",
        "kubernetes: {algorithm_pull_policy: PW}",
        "kubernetes: {resources: {limits: {cpu: PW}}}",
        "kubernetes: {proxy: {listen: PW}}",
        "kubernetes: {data_port: {listen: PW}}",
        "databases: [{label: w, uri: /w.csv, type: PW}]",
        "local: {output_limit: PW}",
        "kubernetes: {kubeconfig: 'apiVersion v1 token: PW'}",
        "kubernetes: {image: 'u:PW@r.example.org/x'}",
        "kubernetes: {proxy: {address: 'http://u:PW@x'}}",
        "kubernetes: {tmp: 'nfs://u:PW@h'}",
        "kubernetes: {isolation: {closed: ['u:PW@h']}}",
        "kubernetes: {databases: {w: {egress: ['postgres://u:PW@h']}}}",
        "kubernetes: {databases: {w: {egress: [{cidr: 'u:PW@h', port: 1}]}}}",
        "local: {algorithms: {a: 'cmd --password PW \"'}}",
        "local: {algorithms: {a: 'cmd --password PW'}}",
        "local: {algorithms: {a: {command: x, env: {'P=PW': x}}}}",
    ] {
        let more = more.replace("PW", SECRET);
        write(&path, &format!("{LEAST}{more}\n"), 0o600);
        let said = check(&path).to_string();
        assert!(!said.contains(SECRET), "{more}\n{said}");
    }
    for url in ["ftp://u:PW@a.org", "u:PW@a.org", "https://u:PW", "https://a.org/?key=PW", "https://u:PW@a.org"] {
        write(&path, &format!("server_url: '{}'\napi_key: k\n", url.replace("PW", SECRET)), 0o600);
        let said = check(&path).to_string();
        assert!(said.contains("`server_url`: found") && !said.contains(SECRET), "{url} {said}");
    }
    for file in [key, "Hunter2Key", "hunter2/Key+x", "eyJhbGciOi.eyJzdWIiOi.abc"] {
        write(&path, &format!("server_url: https://a.org\napi_key_file: {file}\n"), 0o600);
        let said = check(&path).to_string();
        assert!(said.contains("`api_key_file`: found something else (not shown)") && !said.contains(file), "{said}");
    }
    write(&path, "server_url: https://a.org\napi_key_file: /run/nothing/key\n", 0o600);
    assert!(check(&path).to_string().contains("Reading /run/nothing/key failed"));
}
