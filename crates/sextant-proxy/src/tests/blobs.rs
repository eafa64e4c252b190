//! Tests the server's blob store: inputs are encrypted for an organization of the collaboration, results are decrypted only for their own
//! caller, and no subtask can read another's data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{TryStreamExt as _, stream};
use serde_json::{Value, json};
use vantage6::encryption::{PublicKey, decrypt_raw, encrypt_raw};

use super::encrypted::{bytes, key};
use super::fake_server::{Seen, server};
use super::*;

const MISSING: &str = "00000000-5f36-4a44-9a45-0d5a7d1b2c3d";
/// A result of subtask 9, whose parent is the caller's task 7.
const OWN: &str = "99999999-5f36-4a44-9a45-0d5a7d1b2c3d";
/// A result of task 10, whose parent is another task.
const FOREIGN: &str = "aaaaaaaa-5f36-4a44-9a45-0d5a7d1b2c3d";
const NEW: &str = "bbbbbbbb-5f36-4a44-9a45-0d5a7d1b2c3d";

fn octets(status: u16, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = answer(status, bytes);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer
}

async fn raw(plain: &[u8], public: &PublicKey) -> Vec<u8> {
    let pieces: Vec<_> = plain.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let message = encrypt_raw(stream::iter(pieces), public, std::future::ready(())).unwrap();
    message.try_collect::<Vec<Bytes>>().await.unwrap().concat()
}

/// A server with a blob store that contains these bytes, organizations with both keys, and the caller's task with a subtask.
async fn with_store(enabled: bool, stored: Vec<u8>) -> (SocketAddr, Seen) {
    server(move |request, _| {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        let organization = |id: u64, number| json!({ "id": id, "public_key": key(number).public().to_server() });
        let task = |id: u64, parent: u64| json!({ "id": id, "parent": { "id": parent }, "init_org": { "id": 2 }, "image": "i" });
        let found = match (request.method().as_str(), path.as_str()) {
            ("GET", "/api/organization/1") => Some(organization(1, 0)),
            ("GET", "/api/organization/2") => Some(organization(2, 1)),
            ("GET", "/api/organization") => Some(json!({ "data": [{ "id": 3 }, organization(2, 1)] })),
            ("GET", "/api/blobstream/status") => Some(json!({ "blob_store_enabled": enabled })),
            ("GET", "/api/task") if query.contains("parent_id=7&") && query.contains("&page=1") => {
                // The proxy checks the list: it may contain subtasks of another task.
                Some(json!({ "data": [task(10, 8), task(9, 7)] }))
            }
            ("GET", "/api/result") => {
                let result = if query.contains("task_id=9&") { OWN } else { FOREIGN };
                Some(json!({ "data": [{ "result": null }, { "result": result }], "links": {} }))
            }
            ("POST", "/api/task") => Some(json!({ "id": 11 })),
            ("POST", "/api/blobstream") => Some(json!({ "uuid": NEW })),
            _ => None,
        };
        let given = stored.clone();
        async move {
            match found {
                Some(found) => answer(if request.method() == "POST" { 201 } else { 200 }, found.to_string()),
                None if [OWN, FOREIGN].iter().any(|id| path.ends_with(id)) => octets(200, given),
                None if path.contains("/blobstream/") => answer(404, r#"{"msg": "No run found with input or result id=x"}"#),
                None => answer(404, r#"{"msg": "no such thing"}"#),
            }
        }
    })
    .await
}

async fn encrypted(enabled: bool, stored: Vec<u8>) -> (Served, Seen) {
    let (to, seen) = with_store(enabled, stored).await;
    (proxy_with(to, Cryptor::Encrypted(key(0))).await, seen)
}

async fn store(proxy: &Served, named: Option<&str>, body: impl Into<Bytes>) -> Got {
    let mut request = Request::post("/blobstream").header(header::AUTHORIZATION, bearer(ALGORITHM));
    if let Some(named) = named {
        request = request.header("x-public-key", named);
    }
    proxy.send(request.body(Full::new(body.into())).unwrap()).await
}

fn posts(seen: &Seen, path: &str) -> Vec<Request<Bytes>> {
    let requests = seen.requests.lock();
    requests.iter().filter(|request| request.method() == "POST" && request.uri().path() == path).cloned().collect()
}

#[tokio::test]
async fn an_input_is_stored_so_that_only_its_recipient_can_read_it() {
    let (proxy, seen) = encrypted(true, vec![]).await;
    for number in [0, 1] {
        for length in [0, 1, 3_000_000] {
            let input = bytes(length);
            let got = store(&proxy, Some(&key(number).public().to_server()), input.clone()).await;
            assert_eq!((got.status.as_u16(), got.json()["uuid"].as_str()), (201, Some(NEW)));
            let sent = posts(&seen, "/api/blobstream").pop().unwrap();
            assert_eq!(sent.headers()[header::AUTHORIZATION], bearer(ALGORITHM));
            assert!(!sent.headers().contains_key("x-public-key"), "the server needs no key");
            let message = stream::iter([Ok(sent.into_body())]);
            let read = decrypt_raw(message, key(number), std::future::ready(()));
            assert!(read.try_collect::<Vec<Bytes>>().await.unwrap().concat() == input);
        }
    }
    let lists = seen.requests.lock().iter().filter(|request| request.uri().path() == "/api/organization").count();
    assert_eq!(lists, 1, "what the server has said of a key counts for a while");
}

#[tokio::test]
async fn nothing_is_stored_for_strangers() {
    let stranger = vantage6::encryption::PrivateKey::generate().unwrap().public().to_server();
    let (proxy, seen) = encrypted(true, vec![]).await;
    for (named, status, says) in [
        (None, 400, "Missing X-Public-Key header"),
        (Some(""), 400, "Missing X-Public-Key header"),
        (Some("key"), 400, "it is not base64"),
        (Some(&stranger), 403, "not the key of an organization of the algorithm's collaboration"),
    ] {
        let got = store(&proxy, named, "secret").await;
        assert_eq!(got.status, status, "{}", got.text());
        assert!(got.text().contains(says), "{}", got.text());
    }
    assert!(posts(&seen, "/api/blobstream").is_empty());
    let (to, seen) = with_store(true, vec![]).await;
    let plain = proxy_with(to, Cryptor::Plain).await;
    assert_eq!(store(&plain, None, "x").await.status, 400, "as a regular node's proxy");
    assert_eq!(store(&plain, Some("any"), "abc").await.status, 201);
    assert_eq!(posts(&seen, "/api/blobstream")[0].body(), "YWJj");
}

/// The server does not tell whose key it is.
#[tokio::test]
async fn what_the_server_does_not_say_stores_nothing() {
    for (status, said) in [(500, "{}"), (403, "{}"), (200, "no JSON"), (200, "[]")] {
        let (to, seen) = server(move |request, _| async move {
            match request.uri().path() {
                "/api/organization" => answer(status, said),
                _ => answer(200, json!({ "id": 2, "public_key": key(0).public().to_server() }).to_string()),
            }
        })
        .await;
        let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
        let got = store(&proxy, Some(&key(1).public().to_server()), "secret").await;
        assert_eq!(got.status, 503, "{status} {said}: {}", got.text());
        assert!(posts(&seen, "/api/blobstream").is_empty());
    }
}

#[tokio::test]
async fn a_result_of_the_callers_own_subtask_is_decrypted_and_no_other() {
    let plain = bytes(2_000_000);
    let stored = raw(&plain, key(0).public()).await;
    let (proxy, seen) = encrypted(true, stored.clone()).await;
    for _ in 0..2 {
        let got = proxy.get(&format!("/blobstream/{OWN}")).await;
        assert!(got.status == 200 && got.body == plain);
        assert_eq!(got.headers[header::CONTENT_TYPE], "application/octet-stream");
        let got = proxy.get(&format!("/blobstream/{FOREIGN}")).await;
        assert!(got.status == 200 && got.body == stored, "as it is");
    }
    let asked =
        |what: &str| seen.requests.lock().iter().filter(|request| request.uri().to_string().contains(what)).count();
    assert_eq!(asked("result?task_id=10"), 0, "nobody looks into a task of another's");
    let got = proxy.get(&format!("/blobstream/{MISSING}")).await;
    assert_eq!(got.status, 404, "the server's own words: {}", got.text());
    let lookups = asked("/api/task?parent_id");
    proxy.get(&format!("/blobstream/{MISSING}")).await;
    assert_eq!(asked("/api/task?parent_id"), lookups, "of what is not there nobody looks for an owner");
}

#[tokio::test]
async fn a_blob_that_can_not_be_decoded_has_its_own_words() {
    let foreign = raw(b"abc", key(1).public()).await;
    for stored in [foreign, b"no message".to_vec()] {
        let (proxy, _) = encrypted(true, stored).await;
        let got = proxy.get(&format!("/blobstream/{OWN}")).await;
        assert_eq!(got.status, 502);
        assert!(got.text().contains("can't be decoded"), "{}", got.text());
    }
    let (to, _) = with_store(true, b"YWJj".to_vec()).await;
    assert_eq!(proxy(to).await.get(&format!("/blobstream/{FOREIGN}")).await.body, "abc", "nothing is encrypted");
    let (to, _) = with_store(true, b"!".to_vec()).await;
    assert_eq!(proxy(to).await.get(&format!("/blobstream/{OWN}")).await.status, 502);
}

#[tokio::test]
async fn the_servers_refusals_pass() {
    for status in [403, 404, 501] {
        let (to, _) = server(move |request, _| async move {
            match request.uri().path() {
                path if path.starts_with("/api/blobstream") => answer(status, r#"{"msg": "its own words"}"#),
                _ => answer(200, json!({ "id": 2, "public_key": key(0).public().to_server() }).to_string()),
            }
        })
        .await;
        for cryptor in [Cryptor::Plain, Cryptor::Encrypted(key(0))] {
            let proxy = proxy_with(to, cryptor).await;
            let got = proxy.get(&format!("/blobstream/{OWN}")).await;
            assert_eq!((got.status.as_u16(), got.text()), (status, r#"{"msg": "its own words"}"#));
            let got = store(&proxy, Some(&key(0).public().to_server()), "x").await;
            assert_eq!((got.status.as_u16(), got.text()), (status, r#"{"msg": "its own words"}"#));
        }
    }
}

#[tokio::test]
async fn servers_without_blob_stores_are_told_of() {
    let (to, _) = server(|_, _| async { answer(404, r#"{"msg": "not found"}"#) }).await;
    for cryptor in [Cryptor::Plain, Cryptor::Encrypted(key(0))] {
        let got = proxy_with(to, cryptor).await.get("/blobstream/status").await;
        assert_eq!((got.status.as_u16(), got.json()), (200, json!({ "blob_store_enabled": false })));
    }
    let (proxy, _) = encrypted(true, vec![]).await;
    assert_eq!(proxy.get("/blobstream/status").await.json(), json!({ "blob_store_enabled": true }));
}

fn task(input: &str) -> String {
    let organizations = json!([{ "id": 1, "input": input }, { "id": 2, "input": STANDARD.encode("other") }]);
    json!({ "image": "i", "organizations": organizations }).to_string()
}

#[tokio::test]
async fn a_subtask_names_only_blobs_that_no_run_has() {
    let (proxy, seen) = encrypted(true, b"stored".to_vec()).await;
    let got = proxy.ask("POST", "/task", task(NEW)).await;
    assert_eq!(got.status, 201, "{}", got.text());
    let sent: Value = serde_json::from_slice(posts(&seen, "/api/task")[0].body()).unwrap();
    assert_eq!(sent["organizations"][0]["input"], NEW);
    assert!(sent["organizations"][1]["input"].as_str().unwrap().contains('$'), "everything else is encrypted");
    for blob in [OWN, FOREIGN] {
        let got = proxy.ask("POST", "/task", task(blob)).await;
        assert_eq!(got.status, 403);
        assert!(got.text().contains("is the input or result of a run already"), "{}", got.text());
    }
    for none in [NEW.to_uppercase(), format!("{NEW} "), format!("{{{NEW}}}"), NEW[1..].to_owned()] {
        let got = proxy.ask("POST", "/task", task(&none)).await;
        assert_eq!(got.status, 400, "{none}");
        assert!(got.text().contains("not base64"), "{}", got.text());
    }
    assert_eq!(posts(&seen, "/api/task").len(), 1);
}

#[tokio::test]
async fn without_a_blob_store_no_subtask_names_a_blob() {
    let (proxy, seen) = encrypted(false, vec![]).await;
    let got = proxy.ask("POST", "/task", task(NEW)).await;
    assert_eq!(got.status, 400);
    assert!(got.text().contains("the server has no blob store"), "{}", got.text());
    // A 404 of a front end says nothing about blobs.
    let (to, other) = server(|request, _| async move {
        match request.uri().path() {
            "/api/blobstream/status" => answer(200, r#"{"blob_store_enabled": true}"#),
            path if path.starts_with("/api/blobstream/") => answer(404, "<html>"),
            _ => answer(200, json!({ "id": 2, "public_key": key(0).public().to_server() }).to_string()),
        }
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    assert_eq!(proxy.ask("POST", "/task", task(NEW)).await.status, 403);
    assert!(posts(&seen, "/api/task").is_empty() && posts(&other, "/api/task").is_empty());
}
