//! A kubeconfig's exec plugin: a program that prints credentials (client.authentication.k8s.io). A node has no user at a terminal, so the
//! plugin runs non-interactively, and its standard error is kept for the error message.

use std::io::ErrorKind;
use std::process::{Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use printable::excerpt_of;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a plugin may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many of the plugin's last lines an error message quotes, and how many characters of them.
const LINES: usize = 3;
const WORDS: usize = 400;

/// The credentials from a plugin.
#[derive(Debug)]
pub struct Given {
    pub token: Option<SecretString>,
    /// A certificate and its key, as PEM.
    pub certificate: Option<(String, SecretString)>,
    /// When the credentials expire.
    pub ends: Option<Timestamp>,
}

/// The plugin's standard output.
#[derive(Deserialize)]
struct Printed {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<SecretString>,
    client_certificate_data: Option<String>,
    client_key_data: Option<SecretString>,
    expiration_timestamp: Option<String>,
}

/// Runs the plugin.
///
/// # Errors
/// A text that names the plugin and quotes its standard error, but never its standard output, which may contain a secret.
pub async fn run(exec: &ExecConfig) -> Result<Given, String> {
    run_within(exec, PATIENCE).await
}

async fn run_within(exec: &ExecConfig, patience: Duration) -> Result<Given, String> {
    let name = exec.command.as_deref().filter(|name| !name.is_empty()).ok_or("its exec plugin has no `command`")?;
    let mut command = command(exec, name)?;
    let output = match timeout(patience, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(not_started(exec, name, &error)),
        Err(_) => {
            return Err(format!(
                "the exec plugin `{name}` did not end within {} s. It must work without user input",
                patience.as_secs()
            ));
        }
    };
    if !output.status.success() {
        return Err(failed(name, &output));
    }
    read(name, &output.stdout)
}

fn command(exec: &ExecConfig, name: &str) -> Result<Command, String> {
    let always = exec.interactive_mode == Some(ExecInteractiveMode::Always);
    let mut spec = json!({ "interactive": always });
    if exec.provide_cluster_info {
        spec["cluster"] =
            serde_json::to_value(&exec.cluster).map_err(|_| "its cluster can't be passed to the plugin")?;
    }
    let info = json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec });
    let mut command = Command::new(name);
    command.args(exec.args.iter().flatten());
    for variable in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    command.stdin(if always { Stdio::inherit() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

fn not_started(exec: &ExecConfig, name: &str, error: &std::io::Error) -> String {
    let hint = exec.install_hint.as_deref().map(str::trim).filter(|hint| !hint.is_empty());
    let hint = hint.map(|hint| format!(" The kubeconfig says: {}", excerpt_of(hint, WORDS))).unwrap_or_default();
    match error.kind() {
        ErrorKind::NotFound => format!(
            "the exec plugin `{name}`, which its user logs in with, is not there ({error}). Install it, or give its whole path as \
             `command`.{hint}"
        ),
        _ => format!("the exec plugin `{name}`, which its user logs in with, can't be started: {error}.{hint}"),
    }
}

fn failed(name: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut last: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).rev().take(LINES).collect();
    last.reverse();
    let said = if last.is_empty() { "it printed nothing".to_owned() } else { excerpt_of(&last.join(" / "), WORDS) };
    format!("the exec plugin `{name}` failed ({}): {said}", output.status)
}

fn read(name: &str, printed: &[u8]) -> Result<Given, String> {
    let wrong = |what: &str| format!("what the exec plugin `{name}` printed {what}");
    // Some plugins print YAML, which includes JSON.
    let printed: Printed = serde_saphyr::from_slice(printed).map_err(|_| wrong("is no ExecCredential"))?;
    let status = printed.status.ok_or_else(|| wrong("has no `status`"))?;
    let certificate = match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(wrong("has a certificate without its key, or a key alone")),
    };
    let token = status.token;
    if token.is_none() && certificate.is_none() {
        return Err(wrong("has neither a token nor a certificate"));
    }
    let ends = status.expiration_timestamp.map(|ends| ends.parse()).transpose();
    Ok(Given { token, certificate, ends: ends.map_err(|_| wrong("has no valid `expirationTimestamp`"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ExecConfig {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "installHint": "Get it from the help desk.", "env": [{"name": "WORD", "value": "a-word"}]});
        serde_json::from_value(exec).unwrap()
    }

    #[tokio::test]
    async fn what_a_plugin_gives_is_taken() {
        use secrecy::ExposeSecret as _;
        let exec =
            shell(r#"echo "{\"status\": {\"token\": \"$WORD\", \"expirationTimestamp\": \"2030-01-02T03:04:05Z\"}}""#);
        let given = run(&exec).await.unwrap();
        assert_eq!(given.token.unwrap().expose_secret(), "a-word");
        assert_eq!(given.ends.unwrap().to_string(), "2030-01-02T03:04:05Z");
        let yaml = run(&shell("printf 'status:\\n  clientCertificateData: C\\n  clientKeyData: K\\n'")).await.unwrap();
        assert_eq!(yaml.certificate.unwrap().0, "C");
        // It runs non-interactively.
        let exec = shell(
            r#"read -r x; echo "$KUBERNETES_EXEC_INFO" | grep -q '"interactive":false' && echo '{"status": {"token": "t"}}'"#,
        );
        assert!(run(&exec).await.is_ok());
    }

    /// The check of a configuration judges the folders of this path.
    #[tokio::test]
    async fn a_plugin_is_looked_for_in_the_path_that_it_gets() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a-plugin-of-a-test");
        std::fs::write(&program, "#!/bin/sh\necho '{\"status\": {\"token\": \"t\"}}'\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "a-plugin-of-a-test",
            "env": [{"name": "PATH", "value": folder.path()}]});
        let given = run(&serde_json::from_value(exec).unwrap()).await;
        assert!(given.is_ok(), "{given:?}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_plugin_is_said_in_its_own_words() {
        let missing = ExecConfig { command: Some("no-such-plugin".into()), ..shell("") };
        let missing = run(&missing).await.unwrap_err();
        assert!(missing.contains("`no-such-plugin`") && missing.contains("Get it from the help desk."), "{missing}");
        for (script, expected) in [
            (
                "echo one >&2; echo two >&2; echo 'please log in' >&2; exit 3",
                "failed (exit status: 3): one / two / please log in",
            ),
            ("exit 1", "it printed nothing"),
            ("echo hello, this is secret", "is no ExecCredential"),
            ("echo '{}'", "has no `status`"),
            ("echo '{\"status\": {}}'", "neither a token nor a certificate"),
            ("echo '{\"status\": {\"clientKeyData\": \"secret\"}}'", "without its key, or a key alone"),
            (
                "echo '{\"status\": {\"token\": \"secret\", \"expirationTimestamp\": \"soon\"}}'",
                "no valid `expirationTimestamp`",
            ),
        ] {
            let said = run(&shell(script)).await.unwrap_err();
            assert!(said.contains(expected) && !said.contains("secret") && !said.contains("EXEC_INFO"), "{said}");
        }
        let long = run_within(&shell("exec sleep 5"), Duration::from_millis(50)).await.unwrap_err();
        assert!(long.contains("did not end within"), "{long}");
    }
}
