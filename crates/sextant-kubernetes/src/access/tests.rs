//! Credentials that are renewed while they are in use, against an API server with TLS.

mod stand_in;

use std::io::Write;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use self::stand_in::{ApiServer, pair};
use super::super::cluster;
use super::*;

const QUICK: Pace = Pace { look: Duration::from_millis(20), again: Duration::from_millis(200) };
/// Longer than any test lasts: only what is refused is read again.
const BLIND: Pace = Pace { look: Duration::from_secs(600), again: Duration::ZERO };

fn of(paths: &[&Path]) -> Source {
    Source::Kubeconfigs { paths: paths.iter().map(|path| path.to_path_buf()).collect(), context: None }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    (folder, path)
}

async fn version(client: &Client) -> Result<String, u16> {
    client
        .apiserver_version()
        .await
        .map(|info| info.git_version)
        .map_err(|error| cluster::status_code(&error).unwrap_or(0))
}

/// The log of what happens meanwhile.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let log = self.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || log.clone())
            .finish()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_in_the_kubeconfig_is_used() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    for pace in [QUICK, BLIND] {
        server.accept("first");
        server.kubeconfig(&path, &json!({"token": "first"}));
        let client = Access::at(pace, of(&[&path])).await.unwrap().client();
        assert_eq!(version(&client).await, Ok("v1.34.0".into()));
        server.accept("second");
        assert_eq!(version(&client).await, Err(401));
        server.kubeconfig(&path, &json!({"token": "second"}));
        sleep(QUICK.look).await;
        assert_eq!(version(&client).await, Ok("v1.34.0".into()));
    }
}

#[tokio::test]
async fn a_watch_goes_on_with_the_new_token() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    server.accept("first");
    server.kubeconfig(&path, &json!({"token": "first"}));
    let client = Access::at(QUICK, of(&[&path])).await.unwrap().client();
    let events = watcher(Api::<Pod>::namespaced(client, "runs"), Config::default()).default_backoff();
    let mut events = Box::pin(events);
    let mut until = async |pod: &str| {
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(found)) if found.metadata.name.as_deref() == Some(pod) => return,
                Err(_) if pod == "an error" => return,
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(10), until("pod-first")).await.unwrap();
    server.accept("second");
    timeout(Duration::from_secs(10), until("an error")).await.unwrap();
    server.kubeconfig(&path, &json!({"token": "second"}));
    timeout(Duration::from_secs(20), until("pod-second")).await.unwrap();
}

#[tokio::test]
async fn refused_credentials_are_told_once_and_read_seldom() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    let count = path.with_file_name("count");
    let script = format!("echo >> {}; echo '{{\"status\": {{\"token\": \"first\"}}}}'", count.display());
    server.accept("first");
    server.kubeconfig(&path, &json!({"exec": {"command": "sh", "args": ["-c", script]}}));
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.subscriber());
    let client = Access::at(QUICK, of(&[&path])).await.unwrap().client();
    assert!(version(&client).await.is_ok());
    server.accept("second");
    for _ in 0..50 {
        assert_eq!(version(&client).await, Err(401));
        sleep(Duration::from_millis(5)).await;
    }
    server.kubeconfig(&path, &json!({"token": "second"}));
    sleep(QUICK.look).await;
    for _ in 0..5 {
        assert!(version(&client).await.is_ok());
    }
    drop(guard);
    let (text, runs) = (log.text(), std::fs::read_to_string(&count).unwrap().lines().count());
    assert!((2..8).contains(&runs), "the plugin ran {runs} times");
    assert_eq!(text.matches("does not accept the credentials of the kubeconfig").count(), 1, "{text}");
    assert_eq!(text.matches("Renew them there").count(), 1, "{text}");
    assert_eq!(text.matches("again.").count(), 1, "{text}");
}

#[tokio::test]
async fn a_client_certificate_a_ca_and_a_server_that_are_renewed_are_used() {
    let (_folder, path) = folder();
    let ((first, _), (second, _)) = (pair("first"), pair("second"));
    let server = ApiServer::open("127.0.0.1", &[&first, &second]).await;
    let user =
        |pair: &stand_in::Pair| json!({"client-certificate-data": pair.certificate, "client-key-data": pair.key});
    server.accept_certificate(&first);
    server.kubeconfig(&path, &user(&first));
    let client = Access::at(QUICK, of(&[&path])).await.unwrap().client();
    assert!(version(&client).await.is_ok());
    server.accept_certificate(&second);
    assert_eq!(version(&client).await, Err(401));
    server.kubeconfig(&path, &user(&second));
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());

    let another = ApiServer::open("127.0.0.1", &[]).await;
    another.accept("t");
    another.kubeconfig(&path, &json!({"token": "t"}));
    drop(server);
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());
    assert!(another.requests() > 0);
}

#[tokio::test]
async fn a_token_in_a_file_of_its_own_may_end_in_a_line_end_and_change() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    let token = path.with_file_name("token");
    std::fs::write(&token, " first\r\n\n").unwrap();
    server.accept("first");
    // Relative to the kubeconfig.
    server.kubeconfig(&path, &json!({"tokenFile": "token"}));
    let client = Access::at(QUICK, of(&[&path])).await.unwrap().client();
    assert!(version(&client).await.is_ok());
    std::fs::write(&token, "second\n").unwrap();
    server.accept("second");
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());
    // What can't be used, half written for example, changes nothing.
    std::fs::write(&token, "").unwrap();
    std::fs::write(&path, "{\"users\": [").unwrap();
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());
}

#[tokio::test]
async fn a_plugin_s_token_is_renewed_before_it_ends() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    let token = path.with_file_name("token");
    let script = format!(
        "printf '{{\"status\": {{\"token\": \"%s\", \"expirationTimestamp\": \"2001-01-01T00:00:00Z\"}}}}' \"$(cat {})\"",
        token.display()
    );
    std::fs::write(&token, "first").unwrap();
    server.accept("first");
    server.kubeconfig(&path, &json!({"exec": {"command": "sh", "args": ["-c", script], "interactiveMode": "Never"}}));
    let client = Access::at(QUICK, of(&[&path])).await.unwrap().client();
    assert!(version(&client).await.is_ok());
    std::fs::write(&token, "second").unwrap();
    server.accept("second");
    sleep(QUICK.again).await;
    let before = server.requests();
    assert!(version(&client).await.is_ok());
    assert_eq!(server.requests(), before + 1, "no request was lost with the old token");
}

#[tokio::test]
async fn several_kubeconfigs_are_merged_and_each_is_followed() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    let (users, missing) = (path.with_file_name("users"), path.with_file_name("missing"));
    let user = |token: &str| json!({"users": [{"name": "u", "user": {"token": token}}]}).to_string();
    server.kubeconfig(&path, &json!({"token": "unused"}));
    std::fs::write(&users, user("first")).unwrap();
    server.accept("first");
    let client = Access::at(QUICK, of(&[&missing, &users, &path])).await.unwrap().client();
    assert!(version(&client).await.is_ok());
    std::fs::write(&users, user("second")).unwrap();
    server.accept("second");
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());
    // One that was missing comes, and counts first.
    std::fs::write(&missing, user("third")).unwrap();
    server.accept("third");
    sleep(QUICK.look).await;
    assert!(version(&client).await.is_ok());
}

#[tokio::test]
async fn what_can_t_get_better_by_itself_ends_the_start() {
    let ((_folder, path), server) = (folder(), ApiServer::open("127.0.0.1", &[]).await);
    let elsewhere = ApiServer::open("elsewhere.example.org", &[]).await;
    server.accept("good");
    let refused = async |expected: &[&str]| {
        let connected = async {
            let access = Access::open(of(&[&path])).await?;
            cluster::connect(&access).await.map(drop).map_err(|error| error.to_string())
        };
        let connected = timeout(Duration::from_secs(4), connected).await.expect("it is not tried again");
        let said = connected.expect_err("it may not be used");
        for words in expected {
            assert!(said.contains(words), "{said}");
        }
        assert!(!said.contains("a-secret") && !said.contains("EXEC_INFO"), "{said}");
    };
    for (user, expected) in [
        (json!({"token": "a-secret"}), ["does not accept the credentials of the kubeconfig", "kubeconfig"]),
        (json!({"token": "a-secret\nin two lines"}), ["the token in it contains blanks", ""]),
        (json!({"tokenFile": "nowhere"}), ["the token can't be read from", "nowhere"]),
        (
            json!({"auth-provider": {"name": "oidc", "config": {"id-token": "a-secret"}}}),
            ["`auth-provider: oidc`", "kubelogin"],
        ),
        (json!({"auth-provider": {"name": "azure"}}), ["`auth-provider: azure`", "Azure/kubelogin"]),
        (json!({"auth-provider": {"name": "gcp"}}), ["`auth-provider: gcp`", "gke-gcloud-auth-plugin"]),
        (json!({"auth-provider": {"name": "ours"}}), ["`auth-provider: ours`", "exec plugin"]),
        (json!({"exec": {"command": "no-such-plugin", "installHint": "Ask Ada."}}), ["`no-such-plugin`", "Ask Ada."]),
        (
            json!({"exec": {"command": "sh", "args": ["-c", "echo log in first >&2; exit 1"], "provideClusterInfo": true}}),
            ["`sh` failed", "log in first"],
        ),
    ] {
        server.kubeconfig(&path, &user);
        refused(&expected).await;
    }
    std::fs::write(&path, "users:\n- name: {token: a-secret\n").unwrap();
    refused(&["is not YAML"]).await;
    std::fs::write(&path, "users: a-secret\n").unwrap();
    refused(&["not a kubeconfig", "line 1"]).await;
    elsewhere.kubeconfig(&path, &json!({"token": "good"}));
    refused(&["is for another name"]).await;
    let mut other_ca = server;
    other_ca.ca = elsewhere.ca.clone();
    other_ca.kubeconfig(&path, &json!({"token": "good"}));
    refused(&["is signed by no authority"]).await;
}

#[tokio::test]
async fn a_cluster_that_anybody_can_be_is_refused() {
    let (_folder, path) = folder();
    for (cluster, refused) in [
        (json!({"server": "https://k.example.org"}), None),
        (
            json!({"server": "https://k.example.org", "insecure-skip-tls-verify": true}),
            Some("insecure-skip-tls-verify"),
        ),
        (json!({"server": "http://k.example.org"}), Some("not an `https://` address")),
        (json!({"server": "http://127.0.0.1:8001"}), None),
        (json!({"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}), None),
    ] {
        let kubeconfig = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let why = of(&[&path]).read().await.err();
        assert_eq!(why.is_some(), refused.is_some(), "{cluster} {why:?}");
        assert!(why.is_none_or(|why| refused.is_some_and(|refused| why.contains(refused))), "{cluster}");
    }
}
