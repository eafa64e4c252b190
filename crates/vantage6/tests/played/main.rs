//! Cases that the real server can't be made to produce, played by a fake server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod answers;
mod lists;
mod login;
mod observed;
mod results;
mod stores;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use vantage6::{
    Backoff, Client, RunReport, RunStatus, ServerUrl,
    encoding::{self, Payload},
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, method, path},
};

/// A token of node 7 that is valid for this many seconds.
fn jwt(name: &str, lifetime: u64) -> String {
    let claims = json!({"sub": 7, "iat": 1_000_000, "exp": 1_000_000 + lifetime, "name": name});
    format!("eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn tokens(name: &str, lifetime: u64) -> ResponseTemplate {
    let body =
        json!({"access_token": jwt(name, lifetime), "refresh_token": jwt(&format!("refresh {name}"), 10 * lifetime)});
    ResponseTemplate::new(200).set_body_json(body)
}

fn bearer(name: &str, lifetime: u64) -> String {
    format!("Bearer {}", jwt(name, lifetime))
}

/// A server where logging in gives the token `first`.
async fn server(lifetime: u64) -> MockServer {
    let server = MockServer::start().await;
    let login = body_partial_json(json!({"api_key": "the key"}));
    Mock::given(method("POST"))
        .and(path("/api/token/node"))
        .and(login)
        .respond_with(tokens("first", lifetime))
        .mount(&server)
        .await;
    server
}

fn client_at(address: &str) -> vantage6::ClientBuilder {
    let backoff = Backoff {
        first: Duration::from_millis(10),
        longest: Duration::from_millis(50),
        patience: Some(Duration::from_secs(5)),
    };
    Client::builder(ServerUrl::new(address, None, "/api").unwrap(), "the key".to_owned().into()).backoff(backoff)
}

fn client(server: &MockServer) -> Client {
    client_at(&server.uri()).build().unwrap()
}

fn me() -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"id": 7, "name": "n", "collaboration": {"id": 1}, "organization": {"id": 2}}))
}

fn refusal(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"msg": message}))
}

async fn count(server: &MockServer, path: &str) -> usize {
    server.received_requests().await.unwrap().iter().filter(|request| request.url.path() == path).count()
}

/// Lets time pass: for the clock by which tokens grow old.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// The end of a run with a result of this many bytes, which arrive in pieces.
fn result(length: usize) -> RunReport {
    let pieces = stream::iter(
        (0..length.div_ceil(10_000))
            .map(move |number| Ok(Bytes::from(vec![7; (length - number * 10_000).min(10_000)]))),
    );
    RunReport::now(RunStatus::Completed, "log").result(encoding::encode(Payload::new(length as u64, pieces)))
}
