//! Tests that a proxy without encryption in its configuration sends nothing in an encrypted collaboration.

use serde_json::json;

use super::encrypted::key;
use super::fake_server::{Seen, server};
use super::*;
use crate::token_cache::TokenCache;

const PLAIN: &str = r#"{"id": 1, "name": "x", "encrypted": false}"#;

/// A proxy without encryption that knows nothing about the collaboration, and a server that gives this answer about it.
async fn with_collaboration(status: u16, said: &str) -> (Served, Seen) {
    let said = said.to_owned();
    let (to, seen) = server(move |request, _| {
        let (status, said) = match (request.method().as_str(), request.uri().path()) {
            ("GET", "/api/collaboration/1") => (status, said.clone()),
            ("POST", _) => (201, r#"{"id": 9}"#.to_owned()),
            _ => (200, "{}".to_owned()),
        };
        async move { answer(status, said) }
    })
    .await;
    (proxy_of(to, Cryptor::Plain, |settings| settings.unencrypted = TokenCache::default()).await, seen)
}

fn count(seen: &Seen, method: &str) -> usize {
    seen.requests.lock().iter().filter(|request| request.method() == method).count()
}

/// Every kind of request that carries an input: small tasks, tasks that are streamed, and blobs.
fn bodies() -> [(&'static str, String); 3] {
    let long = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YWJj".repeat(200_000) }] }).to_string();
    [("/task", TASK.to_owned()), ("/task", long), ("/blobstream", "x".repeat(100))]
}

#[tokio::test]
async fn nothing_leaves_unencrypted_where_the_server_says_that_all_is_encrypted() {
    for said in [
        r#"{"id": 1, "name": "x", "encrypted": true}"#,
        r#"{"encrypted": true, "id": 1, "tasks": "/api/task?collaboration_id=1"}"#,
        r#"{"id": 1, "encrypted": 1}"#,
    ] {
        for (path, body) in bodies() {
            let (proxy, seen) = with_collaboration(200, said).await;
            for _ in 0..2 {
                let got = proxy.ask("POST", path, body.clone()).await;
                assert_eq!((got.status.as_u16(), count(&seen, "POST")), (403, 0), "{path} {said}: {}", got.text());
                assert!(got.text().contains("The collaboration is encrypted, but"), "{}", got.text());
            }
        }
    }
}

#[tokio::test]
async fn what_the_server_does_not_say_is_not_taken_for_unencrypted() {
    for (status, said) in [
        (200, "{}"),
        (200, r#"{"id": 1}"#),
        (200, r#"{"id": 1, "encrypted": null}"#),
        (200, r#"{"id": 1, "encrypted": "no"}"#),
        (200, r#"{"id": 2, "encrypted": false}"#),
        (200, r#"{"id": 1, "encrypted": false, "encrypted": true}"#),
        (200, r#"[{"id": 1, "encrypted": false}]"#),
        (200, "no JSON"),
        (403, PLAIN),
        (404, PLAIN),
        (429, PLAIN),
        (500, PLAIN),
    ] {
        for (path, body) in bodies() {
            let (proxy, seen) = with_collaboration(status, said).await;
            let got = proxy.ask("POST", path, body).await;
            assert_eq!((got.status.as_u16(), count(&seen, "POST")), (503, 0), "{status} {said}: {}", got.text());
            assert!(got.text().contains("can't tell whether the collaboration is encrypted"), "{}", got.text());
        }
    }
    let (proxy, seen) = with_collaboration(401, r#"{"msg": "no such token"}"#).await;
    let got = proxy.ask("POST", "/task", TASK).await;
    assert_eq!((got.status.as_u16(), count(&seen, "POST")), (401, 0), "the server's own word about the token");
}

#[tokio::test]
async fn a_token_without_a_collaboration_sends_nothing_unencrypted() {
    let (proxy, seen) = with_collaboration(200, PLAIN).await;
    for claims in [
        r#"{"client_type": "container", "iat": 1700000000, "sub": {"task_id": 7, "organization_id": 2, "image": "i"}}"#,
        r#"{"client_type": "container", "iat": 1700000000, "sub": {"task_id": 7, "organization_id": 2, "image": "i", "collaboration_id": "1"}}"#,
        r#"{"client_type": "container", "iat": 1700000000, "sub": {"task_id": 7, "organization_id": 2, "image": "i", "collaboration_id": -1}}"#,
    ] {
        proxy.shared.owners.trust(&HeaderMap::from_iter([(header::AUTHORIZATION, bearer(claims))]));
        let request =
            Request::post("/task").header(header::AUTHORIZATION, bearer(claims)).body(Full::from(TASK)).unwrap();
        let got = proxy.send(request).await;
        assert_eq!((got.status.as_u16(), count(&seen, "POST")), (503, 0), "{claims}: {}", got.text());
    }
}

/// An algorithm may have many rounds: the server is asked once a minute for each token.
#[tokio::test]
async fn a_collaboration_that_is_not_encrypted_is_asked_about_once() {
    let (proxy, seen) = with_collaboration(200, PLAIN).await;
    for (path, body) in bodies() {
        assert_eq!(proxy.ask("POST", path, body).await.status, 201, "{path}");
    }
    assert_eq!((count(&seen, "GET"), count(&seen, "POST")), (1, 3));
    let other = ALGORITHM.replace("\"jti\":\"x\"", "\"jti\":\"y\"");
    proxy.shared.owners.trust(&HeaderMap::from_iter([(header::AUTHORIZATION, bearer(&other))]));
    let request = Request::post("/task").header(header::AUTHORIZATION, bearer(&other)).body(Full::from(TASK)).unwrap();
    assert_eq!(proxy.send(request).await.status, 201);
    assert_eq!(count(&seen, "GET"), 2, "an invented token gets nothing of what was said to another");
}

/// If the proxy encrypts, the server itself refuses encrypted inputs in an unencrypted collaboration.
#[tokio::test]
async fn what_is_encrypted_needs_no_word_of_the_server() {
    let (to, seen) = super::encrypted::organizations().await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    let task = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YQ==" }] }).to_string();
    assert_eq!(proxy.ask("POST", "/task", task).await.status, 201);
    assert!(seen.requests.lock().iter().all(|request| !request.uri().path().contains("collaboration")));
}
