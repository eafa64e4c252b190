//! Tests encrypted collaborations: inputs leave encrypted, and results arrive decrypted.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use vantage6::encoding::Payload;
use vantage6::encryption::{PrivateKey, encrypt};

use super::fake_server::{Seen, server};
use super::*;

/// The keys of two organizations, generated once because that takes a while.
pub(super) fn key(number: usize) -> Arc<PrivateKey> {
    static KEYS: OnceLock<[Arc<PrivateKey>; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [(); 2].map(|()| Arc::new(PrivateKey::generate().unwrap())))[number].clone()
}

/// Returns bytes that don't repeat.
pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number * number / 7 % 251) as u8).collect()
}

/// A server with organizations 1 and 2, which have keys, and organization 3, which has none.
pub(super) async fn organizations() -> (SocketAddr, Seen) {
    server(|request, _| async move {
        match (request.method().as_str(), request.uri().path()) {
            ("GET", "/api/organization/1") => organization(1, Some(key(0))),
            ("GET", "/api/organization/2") => organization(2, Some(key(1))),
            ("GET", "/api/organization/3") => organization(3, None),
            ("POST", "/api/task") => answer(201, r#"{"id": 9}"#),
            _ => answer(404, r#"{"msg": "no such thing"}"#),
        }
    })
    .await
}

/// Answers for task 1, which is a subtask of the caller, and for its runs; other paths get the `otherwise` text.
pub(super) fn own_subtask(path: &str, otherwise: impl FnOnce() -> String) -> Response<Full<Bytes>> {
    answer(
        200,
        match path {
            "/api/task/1" => r#"{"id": 1, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}"#.to_owned(),
            path if path.starts_with("/api/run/") => r#"{"task": {"id": 1}}"#.to_owned(),
            _ => otherwise(),
        },
    )
}

pub(super) fn organization(id: u64, key: Option<Arc<PrivateKey>>) -> Response<Full<Bytes>> {
    let key = key.map(|key| key.public().to_server());
    answer(200, json!({ "id": id, "name": "x", "public_key": key }).to_string())
}

pub(super) async fn message(bytes: Vec<u8>, number: usize) -> String {
    let pieces: Vec<Bytes> =
        encrypt(Payload::from(bytes), key(number).public()).unwrap().into_stream().try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

async fn read(message: &Value, number: usize) -> Vec<u8> {
    let text = message.as_str().unwrap();
    Cryptor::Encrypted(key(number)).decode_text(text).await.unwrap().to_vec()
}

#[tokio::test]
async fn each_organization_gets_its_input_so_that_only_it_can_read_it() {
    // The first two stay in memory; the last one is written to a file.
    for (length, path) in [(0, "/task"), (1000, "/api//task/"), (3_000_000, "/%74ask")] {
        let (to, seen) = organizations().await;
        let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
        let inputs = [bytes(length), bytes(length + 1)];
        let task = json!({
            "name": "partial \"average\"",
            "image": "i",
            "organizations": [
                { "id": 2, "input": STANDARD.encode(&inputs[0]) },
                { "input": STANDARD.encode(&inputs[1]), "id": 1 },
                { "id": 2, "input": null },
            ],
            "databases": [{ "label": "default", "input": "not one" }],
        });
        let got = proxy.ask("POST", path, task.to_string()).await;
        assert_eq!((got.status.as_u16(), got.text()), (201, r#"{"id": 9}"#));
        let request = seen.last();
        assert_eq!(request.headers()[header::CONTENT_LENGTH], request.body().len().to_string());
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(read(&sent["organizations"][0]["input"], 1).await, inputs[0]);
        assert_eq!(read(&sent["organizations"][1]["input"], 0).await, inputs[1]);
        for (origin, value) in [("name", &task["name"]), ("databases", &task["databases"])] {
            assert_eq!(&sent[origin], value);
        }
        proxy.ask("POST", "/task", task.to_string()).await;
        assert_eq!(seen.count(), 4, "two keys, once, and two tasks");
        assert_eq!(seen.requests.lock()[0].headers()[header::AUTHORIZATION], bearer(ALGORITHM));
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_encrypted_does_not_leave() {
    let (to, seen) = organizations().await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    for (task, status, says) in [
        ("", 400, "can't be read"),
        ("[]", 400, "no JSON object"),
        ("{}", 400, "Organizations missing"),
        (r#"{"organizations": []}"#, 400, "Organizations missing"),
        (r#"{"organizations": [{"id": 1, "input": "YWJj"}]"#, 400, "in the middle"),
        (r#"{"organizations": [{"id": 1, "input": "YWJj!"}]}"#, 400, "not base64"),
        (r#"{"organizations": [{"id": 1, "input": "YWJ"}]}"#, 400, "not base64"),
        (r#"{"organizations": [{"id": 1, "inpu\u0074": "YWJj"}]}"#, 400, "one `input` that is a text"),
        (r#"{"organizations": [{"id": 1, "input": {"a": "b"}}]}"#, 400, "one `input` that is a text"),
        (r#"{"organizations": [{"id": 1, "input": 0}]}"#, 400, "inputs of nobody"),
        (r#"{"organizations": [{"input": "YWJj"}]}"#, 400, "needs an `id`"),
        (r#"{"organizations": [{"id": "1", "input": "YWJj"}]}"#, 400, "can't be read"),
        (r#"{"image": "i", "organizations": [{"id": 3, "input": "YWJj"}]}"#, 400, "organization 3 has no public key"),
        (r#"{"image": "i", "organizations": [{"id": 4, "input": "YWJj"}]}"#, 400, "organization 4 (404"),
    ] {
        let got = proxy.ask("POST", "/task", task).await;
        assert_eq!(got.status, status, "{task}");
        assert!(got.json()["msg"].as_str().unwrap().contains(says), "{task}: {}", got.text());
    }
    // Invalid UTF-8 is refused, too, wherever it is.
    let got = proxy.ask("POST", "/task", &b"{\"name\": \"\xff\", \"organizations\": [{\"id\": 1}]}"[..]).await;
    assert_eq!(got.status, 400);
    assert!(got.json()["msg"].as_str().unwrap().contains("can't be read"), "{}", got.text());
    assert!(seen.requests.lock().iter().all(|request| request.method() != "POST"));
}

#[tokio::test]
async fn results_are_given_decrypted() {
    let (small, large) = (bytes(100), bytes(2_000_000));
    let damaged = message(bytes(50), 0).await.replace('$', "$!");
    let (foreign, plain) = (message(bytes(10), 1).await, STANDARD.encode("never encrypted"));
    let results = [
        (json!(message(small.clone(), 0).await), json!(STANDARD.encode(&small))),
        (json!(message(large.clone(), 0).await), json!(STANDARD.encode(&large))),
        (json!(null), json!(null)),
        (json!(""), json!("")),
        (json!(plain), json!(plain)),
        (json!(damaged), json!(damaged)),
        (json!(foreign), json!(foreign)),
        (json!("x".repeat(1_000_000)), json!("x".repeat(1_000_000))),
    ];
    let page = |side: fn(&(Value, Value)) -> &Value, link: &str| {
        let data: Vec<_> =
            results.iter().map(|result| json!({ "id": 1, "result": side(result), "task": { "id": 1 } })).collect();
        json!({ "data": data, "links": { "next": link } })
    };
    let (there, here) = (page(|(there, _)| there, "/api/result?page=2"), page(|(_, here)| here, "/result?page=2"));
    let texts = (there.to_string(), there["data"][0].to_string());
    let (to, _) = server(move |request, _| {
        let page = request.uri().path() == "/api/result";
        let answer = own_subtask(request.uri().path(), || if page { texts.0.clone() } else { texts.1.clone() });
        async move { answer }
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    let got = proxy.get("/result?task_id=1").await;
    assert!(got.json() == here);
    assert_eq!(proxy.get("/result/1").await.json(), here["data"][0]);
}

/// An answer whose beginning has been sent must not look complete after an error.
#[tokio::test]
async fn a_long_result_that_is_damaged_ends_the_answer() {
    let mut text = message(bytes(1_000_000), 0).await;
    text.replace_range(text.len() - 10..text.len() - 9, "!");
    let text = json!({ "id": 1, "result": text }).to_string();
    let (to, _) = server(move |request, _| {
        let answer = own_subtask(request.uri().path(), || text.clone());
        async move { answer }
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    let answer = proxy.begin("/result/1").await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_answer_that_ends_in_a_result_looks_cut_off() {
    let (short, long) = (message(bytes(100), 0).await, message(bytes(1_000_000), 0).await);
    let (to, _) = server(move |request, _| {
        let result = if request.uri().path() == "/api/result/1" { &short } else { &long };
        let text = format!(r#"{{"id": 1, "result": "{}"#, &result[..result.len() - 10]);
        let answer = own_subtask(request.uri().path(), || text);
        async move { answer }
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    // A held result passes unchanged.
    let got = proxy.begin("/result/1").await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(got.starts_with(br#"{"id": 1, "result": ""#) && got.iter().filter(|byte| **byte == b'$').count() == 2);
    // The string of a result that is decrypted while it streams is never closed.
    let answer = proxy.begin("/result/2").await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
}
