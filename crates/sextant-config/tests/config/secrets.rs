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
    said("can't be used: it is no PEM file.");

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
