//! The data port against callers without a key, or with a wrong one. They get nothing, and callers with a key are served
//! at the same time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod caller;
mod hostile;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use secrecy::{ExposeSecret as _, SecretString};
use sextant_core::runtime::Upload;
use sextant_kubernetes::data_port::bounds::Limits;
use sextant_kubernetes::data_port::keys::{KeyOf, NodeSecret};
use sextant_kubernetes::data_port::protocol::Command;
use sextant_kubernetes::data_port::server::{Answer, Input, PodApi, serve};
use sextant_kubernetes::data_port::tls;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use vantage6::RunId;

use caller::Caller;

/// A port as a node has it, with times that suit a test.
struct Port {
    secret: NodeSecret,
    caller: Caller,
    _server: JoinSet<()>,
}

impl Port {
    /// Opens one within the usual bounds, but impatient.
    async fn open() -> Self {
        Self::within(Limits { patience: Duration::from_millis(300), ..Limits::within(1024) }).await
    }

    async fn within(limits: Limits) -> Self {
        let secret = NodeSecret::from_bytes(&[7; 32]).unwrap();
        let (tls, pin) = tls::server(&secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = Caller { address: listener.local_addr().unwrap(), pin };
        let mut server = JoinSet::new();
        let served = NodeSecret::from_bytes(&[7; 32]).unwrap();
        server.spawn(serve(listener, tls, Arc::new(served), Arc::new(Everything), limits));
        Self { secret, caller, _server: server }
    }

    fn key(&self, run: u64) -> SecretString {
        self.secret.run_key(RunId(run), &KeyOf::Job("uid-2".into()))
    }
}

/// A [`PodApi`] that answers everything.
struct Everything;

#[async_trait::async_trait]
impl PodApi for Everything {
    fn key_of(&self, run: RunId, job: &str) -> Option<KeyOf> {
        match job {
            "job-2" => Some(KeyOf::Job("uid-2".into())),
            // Of the version before, and still under way.
            "old-job" if run == RunId(8) => Some(KeyOf::Run),
            _ => None,
        }
    }

    async fn input(&self, run: RunId) -> Result<Input, Answer> {
        Ok(futures::stream::iter([Ok(Bytes::from(format!("the input of {run}")))]).boxed())
    }

    async fn token(&self, _: RunId) -> Result<SecretString, Answer> {
        Ok("a token".into())
    }

    async fn next(&self, _: RunId) -> Command {
        tokio::time::sleep(Duration::from_millis(700)).await;
        Command::Wait
    }

    async fn deliver(&self, _: RunId, mut upload: Upload) -> Result<(), Answer> {
        let mut length = 0;
        while let Some(piece) = upload.bytes.next().await {
            length += piece.map_err(|_| Answer::Later)?.len() as u64;
        }
        if length == upload.length { Ok(()) } else { Err(Answer::Later) }
    }
}

#[tokio::test]
async fn a_runs_key_opens_that_run() {
    let port = Port::open().await;
    let key = port.key(7);
    let answer = port.caller.ask("GET /runs/7/input", Some(&key), b"").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("the input of 7"), "{answer}");
    // Held longer than an unauthenticated connection may stay.
    let answer = port.caller.ask("GET /runs/7/next", Some(&key), b"").await.unwrap();
    assert!(answer.ends_with("wait"), "{answer}");
    let answer = port.caller.ask("PUT /runs/7/output", Some(&key), b"12345").await.unwrap();
    assert!(answer.ends_with("go"), "{answer}");
}

#[tokio::test]
async fn a_pod_of_an_earlier_launch_is_not_served() {
    let port = Port::open().await;
    let key = port.key(7);
    for (job, expected) in [
        ("x-sextant-job: job-1", "HTTP/1.1 401"),
        ("x-sextant-job: job-2", "HTTP/1.1 200"),
        ("x-sextant-job:", "HTTP/1.1 401"),
        ("x-sextant-job: job-2\r\nx-sextant-job: job-1", "HTTP/1.1 401"),
        ("x-sextant-job: job-2, job-2", "HTTP/1.1 401"),
        // One that does not say which it is.
        ("x-other: job-2", "HTTP/1.1 401"),
    ] {
        for request in ["GET /runs/7/input", "GET /runs/7/token", "GET /runs/7/next", "PUT /runs/7/output"] {
            let line = format!("{request} HTTP/1.1\r\nHost: node\r\n{job}");
            let key = key.expose_secret();
            let head = format!("{line}\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n");
            let answer = port.caller.send(head.as_bytes()).await.unwrap();
            assert!(answer.starts_with(expected), "{request} of {job}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_key_opens_the_run_of_its_job_alone() {
    let port = Port::open().await;
    let (run, uid) = (KeyOf::Run, |uid: &str| KeyOf::Job(uid.to_owned()));
    for (number, job, of, expected) in [
        (7, "job-2", uid("uid-2"), "200"),
        // Of an earlier launch, or of one that had the run's number before, though the Jobs have one name.
        (7, "job-2", uid("uid-1"), "401"),
        (7, "job-2", run.clone(), "401"),
        (7, "job-1", uid("uid-2"), "401"),
        (8, "old-job", run.clone(), "200"),
        (8, "old-job", uid("uid-2"), "401"),
        (9, "old-job", run, "401"),
    ] {
        let key = port.secret.run_key(RunId(number), &of);
        let head = format!(
            "GET /runs/{number}/token HTTP/1.1\r\nHost: node\r\nx-sextant-job: {job}\r\nAuthorization: Bearer {}\r\n\r\n",
            key.expose_secret()
        );
        let answer = port.caller.send(head.as_bytes()).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{number} {job} {of:?}: {answer}");
        assert_eq!(answer.contains("a token"), expected == "200");
    }
}
