//! Runs the program as people do: its output must not control the terminal, and a closed pipe must end it quietly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Runs `sextant` with the reader of its output gone already.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command.args(arguments).stdout(writer).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

fn configuration(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("node.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let local = "server_url: http://127.0.0.1\nport: 1\napi_key: k\nlocal: {algorithms: {a: run}}\n";
    let file = configuration(&folder, local);
    let file = file.to_str().unwrap();
    let key = folder.path().join("private_key.pem");
    for arguments in [&["check", file][..], &["doctor", file], &["runs", file], &["keys", "new", key.to_str().unwrap()]]
    {
        let output = unread(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn what_a_file_holds_steers_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let odd = "server_url: http://127.0.0.1\napi_key: k\n\"od\\e[2Jd\\u202e\": 1\nlocal: {algorithms: {\"a\\e]0;x\\a\": run}}\ndatabases: [{label: \"a\\eb\", uri: x, type: csv}]\n";
    let file = configuration(&folder, odd);
    let output = Command::new(env!("CARGO_BIN_EXE_sextant")).arg("check").arg(file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(r"\u{1b}"), "{said:?}");
    assert!(!said.chars().any(|character| character != '\n' && printable::is_deceptive(character)), "{said:?}");
}

/// For one release: scripts and documents have the old name.
#[test]
fn the_old_name_of_network_policies_works_and_says_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = configuration(
        &folder,
        "server_url: http://127.0.0.1\napi_key: k\nkubernetes: {data_port: {address: 192.0.2.1}, proxy: {address: 192.0.2.2}}\n",
    );
    let run = |command| Command::new(env!("CARGO_BIN_EXE_sextant")).arg(command).arg(&file).output().unwrap();
    let (new, old) = (run("network-policies"), run("walls"));
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        new.status.success() && new.stdout.starts_with(b"# Created by `sextant network-policies`"),
        "{}",
        said(&new)
    );
    assert_eq!((&old.stdout, old.status), (&new.stdout, new.status), "{}", said(&old));
    assert!(said(&old).contains("network-policies") && !said(&new).contains("network-policies"), "{}", said(&old));
}

/// The node and a proxy of its own, which ends here since there is none with `local`.
#[test]
fn what_is_odd_about_a_configuration_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for level in ["INFO", "ERROR", "CRITICAL"] {
        let local = format!(
            "server_url: http://127.0.0.1\nport: 1\napi_key: k\nlocal: {{}}\nodd_setting: 1\nlogging: {{level: {level}}}\n"
        );
        let file = configuration(&folder, &local);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        let output = command.arg("proxy").arg(&file).env_remove("SEXTANT_LOG").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.matches("odd_setting").count(), 1, "{level}: {said}");
    }
}
