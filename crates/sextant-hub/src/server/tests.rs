//! Inputs and results in a blob store, and the questions to algorithm stores, with servers that are played.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sextant_core::hub;
use vantage6::encryption::{PrivateKey, encrypt_raw};
use vantage6::{Backoff, ServerUrl};
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";
const OTHER: &str = "11111111-5f36-4a44-9a45-0d5a7d1b2c3d";
const RUN: RunId = RunId(3);
const ASKING: OrganizationId = OrganizationId(5);

fn run(flag: Value, input: &str) -> Value {
    let one = json!({ "id": 1 });
    json!({
        "id": RUN.0, "status": "active", "organization": one, "input": input, "blob_storage_used": flag,
        "task": { "id": 2, "image": "i", "job_id": 1, "init_org": { "id": ASKING.0 }, "collaboration": one },
    })
}

async fn answers(server: &MockServer, verb: &str, below: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(format!("/api/{below}"))).respond_with(answer).mount(server).await;
}

fn json_of(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn refusal(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "msg": "no" }))
}

fn stored(id: &str) -> ResponseTemplate {
    ResponseTemplate::new(201).set_body_json(json!({ "uuid": id }))
}

/// A server with this run, and the hub that uses it. Everything else is mounted by the tests.
async fn played(run: Value, cryptor: Cryptor) -> (MockServer, Server) {
    let server = MockServer::start().await;
    let token = json!({ "access_token": "token", "node_url": "/api/node/7" });
    answers(&server, "POST", "token/node", json_of(token)).await;
    answers(&server, "GET", "run/3", json_of(run)).await;
    let backoff = Backoff {
        first: Duration::from_millis(5),
        longest: Duration::from_millis(10),
        patience: Some(Duration::from_millis(50)),
    };
    let url = ServerUrl::new(&server.uri(), None, "/api").unwrap();
    let client = Client::builder(url, "key".to_owned().into()).backoff(backoff).build().unwrap();
    (server, Server::new(client, cryptor, None))
}

async fn read(server: &Server) -> Result<Vec<u8>, String> {
    let pieces: Vec<Bytes> =
        server.input(RUN).await.map_err(|error| format!("server: {error}"))?.try_collect().await.map_err(|error| {
            match error {
                InputError::Transfer(error) => format!("transfer: {error}"),
                InputError::Unreadable(why) => format!("unreadable: {why}"),
            }
        })?;
    Ok(pieces.concat())
}

fn report(result: &[u8]) -> Report {
    let pieces: Vec<_> = result.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let result = RunResult { to: ASKING, length: result.len() as u64, bytes: stream::iter(pieces).boxed() };
    Report { result: Some(result), ..Report::now(RunStatus::Completed, "log".into()) }
}

/// The bodies of all requests to a path.
async fn bodies(server: &MockServer, verb: &str, below: &str) -> Vec<Vec<u8>> {
    let requests = server.received_requests().await.unwrap();
    let asked = requests.into_iter().filter(|request| request.method == *verb && request.url.path() == below);
    asked.map(|request| request.body).collect()
}

fn key() -> (Arc<PrivateKey>, Value) {
    let key = Arc::new(PrivateKey::generate().unwrap());
    let organization = json!({ "id": ASKING.0, "name": "x", "public_key": key.public().to_server() });
    (key, organization)
}

#[tokio::test]
async fn an_input_comes_from_the_blob_store() {
    let bytes = b"input $ with $ signs".repeat(10_000);
    let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
    answers(&server, "GET", &format!("blobstream/{ID}"), json_of(json!(null)).set_body_bytes(STANDARD.encode(&bytes)))
        .await;
    assert!(read(&hub).await.unwrap() == bytes);

    let (key, _) = key();
    let message = encrypt_raw(stream::iter([Ok(Bytes::from(bytes.clone()))]), key.public(), std::future::ready(()));
    let message: Vec<Bytes> = message.unwrap().try_collect().await.unwrap();
    let (server, hub) = played(run(json!(true), ID), Cryptor::Encrypted(key)).await;
    let answer = ResponseTemplate::new(200).set_body_raw(message.concat(), "application/octet-stream");
    answers(&server, "GET", &format!("blobstream/{ID}"), answer).await;
    assert!(read(&hub).await.unwrap() == bytes);
    // It is not taken for an input that came along with the run.
    let listed: vantage6::Run = serde_json::from_value(run(json!(true), ID)).unwrap();
    let listed = convert::run(listed);
    assert_eq!((listed.input, listed.unsupported), (None, None));
}

#[tokio::test]
async fn an_input_that_the_blob_store_does_not_have_has_its_own_words() {
    for (status, says) in [
        (404, "unreadable: the server's blob store does not have it"),
        (501, "unreadable: the server has no blob store any more"),
        (403, "unreadable: the server does not let this node read it"),
        (500, "server: "),
    ] {
        let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
        answers(&server, "GET", &format!("blobstream/{ID}"), refusal(status)).await;
        let error = read(&hub).await.unwrap_err();
        assert!(error.starts_with(says), "{status}: {error}");
    }
    for (bytes, says) in [("YWJ", "unreadable: "), ("!", "unreadable: ")] {
        let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
        answers(&server, "GET", &format!("blobstream/{ID}"), ResponseTemplate::new(200).set_body_string(bytes)).await;
        assert!(read(&hub).await.unwrap_err().starts_with(says), "{bytes}");
    }
}

#[tokio::test]
async fn a_result_goes_to_the_blob_store_and_its_id_into_the_report() {
    let bytes = b"result".repeat(10_000);
    let (key, organization) = key();
    for cryptor in [Cryptor::Plain, Cryptor::Encrypted(key)] {
        let (server, hub) = played(run(json!(true), ID), cryptor.clone()).await;
        answers(&server, "GET", "organization/5", json_of(organization.clone())).await;
        answers(&server, "POST", "blobstream", stored(OTHER)).await;
        let done = json!({ "id": RUN.0, "finished_at": "2024-01-02T03:04:05" });
        answers(&server, "PATCH", "run/3", json_of(done)).await;
        hub.run(RUN).await.unwrap();
        hub.finish_run(RUN, report(&bytes)).await.unwrap();
        let uploads = bodies(&server, "POST", "/api/blobstream").await;
        let message = stream::iter([Ok(Bytes::from(uploads[0].clone()))]);
        let read: Vec<Bytes> = cryptor.decode_blob(message).try_collect().await.unwrap();
        assert!(uploads.len() == 1 && read.concat() == bytes);
        let reports = bodies(&server, "PATCH", "/api/run/3").await;
        let reported: Value = serde_json::from_slice(&reports[0]).unwrap();
        assert_eq!((&reported["result"], &reported["status"]), (&json!(OTHER), &json!("completed")));
        let requests = server.received_requests().await.unwrap();
        let upload = requests.iter().find(|request| request.url.path() == "/api/blobstream").unwrap();
        assert_eq!(upload.headers["content-type"], "application/octet-stream");
        assert_eq!(upload.headers["transfer-encoding"], "chunked", "a server reads all of another body first");
    }
}

/// Readers go by the run's flag. A server before 4.13 has none.
#[tokio::test]
async fn a_run_outside_of_the_blob_store_has_its_result_in_the_report() {
    for flag in [json!(false), json!(null)] {
        let (server, hub) = played(run(flag, "YWJj"), Cryptor::Plain).await;
        let done = json!({ "id": RUN.0, "finished_at": "2024-01-02T03:04:05" });
        answers(&server, "PATCH", "run/3", json_of(done)).await;
        assert_eq!(read(&hub).await.unwrap(), b"abc");
        hub.run(RUN).await.unwrap();
        hub.finish_run(RUN, report(b"abc")).await.unwrap();
        let reports = bodies(&server, "PATCH", "/api/run/3").await;
        let reported: Value = serde_json::from_slice(&reports[0]).unwrap();
        assert_eq!(reported["result"], "YWJj");
        assert!(bodies(&server, "POST", "/api/blobstream").await.is_empty());
    }
}

#[tokio::test]
async fn a_stored_result_is_not_stored_again_because_its_report_failed() {
    let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
    answers(&server, "POST", "blobstream", stored(OTHER)).await;
    Mock::given(method("PATCH")).respond_with(refusal(503)).up_to_n_times(3).mount(&server).await;
    let done = json!({ "id": RUN.0, "finished_at": "2024-01-02T03:04:05" });
    answers(&server, "PATCH", "run/3", json_of(done)).await;
    hub.run(RUN).await.unwrap();
    let result = b"result".repeat(1000);
    assert!(hub.finish_run(RUN, report(&result)).await.is_err());
    assert!(hub.finish_run(RUN, report(&result)).await.is_err());
    assert_eq!(bodies(&server, "POST", "/api/blobstream").await.len(), 1);
    // A run that was executed again has another result: it is stored as well, at the next attempt.
    let error = hub.finish_run(RUN, report(&b"RESULT".repeat(1000))).await.unwrap_err();
    assert!(error.text.contains("it has changed"), "{error}");
    assert!(hub.finish_run(RUN, report(&b"RESULT".repeat(1000))).await.is_err());
    assert_eq!(bodies(&server, "POST", "/api/blobstream").await.len(), 2);
    hub.finish_run(RUN, report(&b"RESULT".repeat(1000))).await.unwrap();
    assert_eq!(bodies(&server, "POST", "/api/blobstream").await.len(), 2);
    // After the report nothing is kept of it.
    hub.finish_run(RUN, report(&b"RESULT".repeat(1000))).await.unwrap();
    assert_eq!(bodies(&server, "POST", "/api/blobstream").await.len(), 3);
}

#[tokio::test]
async fn a_blob_store_that_takes_nothing_has_its_own_words() {
    for (status, own, kind) in [
        (501, true, HubErrorKind::NotStored(501)),
        (403, true, HubErrorKind::NotStored(403)),
        (404, true, HubErrorKind::NotStored(404)),
        (403, false, HubErrorKind::Other),
        (413, false, HubErrorKind::TooLarge),
        (500, true, HubErrorKind::Failing),
        (502, false, HubErrorKind::Passing),
    ] {
        let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
        let answer = if own { refusal(status) } else { ResponseTemplate::new(status).set_body_string("<html>") };
        answers(&server, "POST", "blobstream", answer).await;
        hub.run(RUN).await.unwrap();
        let error = hub.finish_run(RUN, report(b"abc")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.text.contains("could not be stored in the server's blob store"), "{error}");
        assert!(bodies(&server, "PATCH", "/api/run/3").await.is_empty());
    }
    // An answer that names nothing.
    let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
    answers(&server, "POST", "blobstream", stored("../../x")).await;
    hub.run(RUN).await.unwrap();
    assert!(hub.finish_run(RUN, report(b"abc")).await.is_err());
    assert!(bodies(&server, "PATCH", "/api/run/3").await.is_empty());
}

/// A result that ends early is not stored as if it were whole.
#[tokio::test]
async fn a_result_that_breaks_off_is_not_stored() {
    let (server, hub) = played(run(json!(true), ID), Cryptor::Plain).await;
    answers(&server, "POST", "blobstream", stored(OTHER)).await;
    hub.run(RUN).await.unwrap();
    let bytes = stream::iter([Ok(Bytes::from_static(b"abc")), Err(std::io::Error::other("the pod has gone"))]);
    let result = RunResult { to: ASKING, length: 10, bytes: bytes.boxed() };
    let broken = Report { result: Some(result), ..Report::now(RunStatus::Completed, "log".into()) };
    let error = hub.finish_run(RUN, broken).await.unwrap_err();
    assert!(error.text.contains("the pod has gone"), "{error}");
    assert_eq!(error.delivery, hub::Delivery::NotSent);
    assert!(bodies(&server, "PATCH", "/api/run/3").await.is_empty());
}

/// A store asks the image's registry, and waits for it.
#[tokio::test]
async fn an_image_that_a_store_says_nothing_of_keeps_no_other_from_being_asked_about() {
    let (server, store) = (MockServer::start().await, MockServer::start().await);
    let answer = |text: &str| ResponseTemplate::new(200).set_body_raw(text.to_owned(), "application/json");
    let login = answer(r#"{"access_token": "a", "refresh_token": "r"}"#);
    Mock::given(method("POST")).and(path("/api/token/node")).respond_with(login).mount(&server).await;
    let silent = answer("{}").set_delay(Duration::from_secs(60));
    let good = || answer(r#"{"data": [{"image": "r.example/good"}]}"#);
    for (image, answer) in [
        ("r.example/silent:1", silent),
        ("r.example/broken:1", ResponseTemplate::new(500)),
        ("r.example/good:1", good()),
        ("r.example/good:2", good()),
    ] {
        Mock::given(query_param("image", image)).respond_with(answer).mount(&store).await;
    }
    let url = ServerUrl::new(&server.uri(), None, "/api").unwrap();
    let client = Client::builder(url, "key".to_owned().into()).backoff(Backoff::never());
    let client = client.silence(Duration::from_millis(700)).build().unwrap();
    let hub = Server::new(client, Cryptor::Plain, None);
    let url = format!("{}/api", store.uri());
    for (image, next) in [("r.example/silent:1", "r.example/good:1"), ("r.example/broken:1", "r.example/good:2")] {
        assert!(matches!(hub.store_algorithms(&url, image).await, Answer::Away(_)), "{image}");
        let answer = hub.store_algorithms(&url, next).await;
        assert!(matches!(&answer, Answer::Known(known) if known.len() == 1), "after {image}: {answer:?}");
    }
}
