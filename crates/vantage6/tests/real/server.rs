//! A real vantage6 server, started by `testbed/server/v6server.py`, and a researcher who uses it.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]
#![allow(clippy::print_stderr, reason = "the test runner shows it")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use vantage6::{Client, OpenRuns, Run, RunId, ServerUrl, TaskId};

/// What `v6server.py up` prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Provision {
    pub url: String,
    pub port: u16,
    pub api_path: String,
    pub organizations: Vec<Organization>,
    pub collaboration_id: u64,
    pub collaboration_name: String,
    pub nodes: Vec<Node>,
    pub users: Vec<User>,
}

#[derive(Debug, Deserialize)]
pub struct Organization {
    pub id: u64,
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub id: u64,
    pub name: String,
    pub api_key: String,
}

#[derive(Debug, Deserialize)]
pub struct User {
    pub username: String,
    pub password: String,
}

/// A running server; it ends when this is dropped, and in any case with this process, since its stdin is a pipe from
/// here.
pub struct Server {
    process: Child,
    pub directory: PathBuf,
    pub provision: Provision,
}

impl Server {
    /// Starts one. `None`, and a loud line, where there is no Python to run it.
    pub fn start(directory: &Path, arguments: &[&str]) -> Option<Self> {
        if Command::new("python3").arg("--version").output().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI has to run the tests against the real server, but there is no python3"
            );
            eprintln!(
                "\n!!! SKIPPED: there is no python3, so nothing is tested against the real vantage6 server !!!\n"
            );
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/server/v6server.py");
        let mut process = Command::new("python3")
            .arg(script)
            .args(["up", "--dir"])
            .arg(directory)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "the server did not start; what it says is above (see also {}/server.log)",
            directory.display()
        );
        Some(Self { process, directory: directory.to_owned(), provision: serde_json::from_str(&line).unwrap() })
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }

    pub fn url(&self) -> ServerUrl {
        let at = &self.provision;
        ServerUrl::new(&at.url, Some(at.port), &at.api_path).unwrap()
    }

    /// A client as the node of this organization has it.
    pub fn node(&self, number: usize) -> Client {
        self.client(&self.provision.nodes[number].api_key)
    }

    pub fn client(&self, api_key: &str) -> Client {
        Client::builder(self.url(), SecretString::from(api_key.to_owned())).build().unwrap()
    }

    /// The user of this organization.
    pub async fn researcher(&self, number: usize) -> Researcher {
        let User { username, password } = &self.provision.users[number];
        let http = reqwest::Client::new();
        let api = self.url();
        let body = json!({"username": username, "password": password});
        let answer: Value =
            http.post(api.resource("token/user")).json(&body).send().await.unwrap().json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Researcher { http, api, token, collaboration: self.provision.collaboration_id }
    }
}

/// The server that the tests of this binary share. Each test uses organizations of its own.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-server");
            let _ = std::fs::remove_dir_all(&directory);
            Server::start(&directory, &["--organizations", "4"])
        })
        .as_ref()
}

/// Who the tests act as. Making one takes seconds (passwords and keys are hashed), so they are shared where that does
/// no harm.
pub mod organization {
    /// Has no tasks of its own.
    pub const IDLE: usize = 0;
    /// Its tests look at one task each.
    pub const BUSY: usize = 1;
    /// One test counts its runs.
    pub const LISTS: usize = 2;
    /// One test says that its node is online.
    pub const LIVE: usize = 3;
}

/// Somebody with all rights, who uses the REST API as the official client does.
pub struct Researcher {
    http: reqwest::Client,
    api: ServerUrl,
    token: String,
    collaboration: u64,
}

impl Researcher {
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.api.resource(path)).bearer_auth(&self.token).send().await.unwrap();
        assert!(answer.status().is_success(), "GET {path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.http.post(self.api.resource(path)).bearer_auth(&self.token).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "POST {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Creates a task for these organizations.
    pub async fn task(&self, organizations: &[u64], image: &str, input: &[u8], databases: Value) -> TaskId {
        let organizations: Vec<Value> =
            organizations.iter().map(|id| json!({"id": id, "input": STANDARD.encode(input)})).collect();
        let task = json!({
            "name": "a test", "image": image, "collaboration_id": self.collaboration,
            "organizations": organizations, "databases": databases,
        });
        TaskId(self.post("task", task).await["id"].as_u64().unwrap())
    }

    /// The result of a run, decoded.
    pub async fn result(&self, run: RunId) -> Vec<u8> {
        let answer = self.get(&format!("result/{run}")).await;
        STANDARD.decode(answer["result"].as_str().unwrap()).unwrap()
    }
}

/// All open runs of a node; each has to be readable.
pub async fn open_runs(node: &Client, which: OpenRuns) -> Vec<Run> {
    use futures_util::TryStreamExt as _;
    node.open_runs(which).try_collect().await.unwrap()
}
