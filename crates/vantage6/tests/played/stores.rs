//! Algorithm stores, valid and invalid.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vantage6::{StoreAlgorithm, StoreError, StoreId};
use wiremock::matchers::{header, query_param};

use crate::*;

const IMAGE: &str = "registry.example.org/average:1@sha256:ab";

async fn ask(server: &MockServer, store: &str) -> Result<Vec<StoreAlgorithm>, StoreError> {
    let client = client_at(&server.uri()).silence(Duration::from_millis(700)).build().unwrap();
    client.store_algorithms(store, Some(IMAGE)).await
}

/// A store that gives this answer.
async fn answers(answer: ResponseTemplate) -> Result<Vec<StoreAlgorithm>, StoreError> {
    let (server, store) = (server(3600).await, MockServer::start().await);
    Mock::given(method("GET")).and(path("/api/algorithm")).respond_with(answer).mount(&store).await;
    ask(&server, &format!("{}/api", store.uri())).await
}

/// What listens there sends this, and then a byte at a time without end.
async fn drips(beginning: &'static str, pieces: usize) -> Result<Vec<StoreAlgorithm>, StoreError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(beginning.as_bytes()).await;
                while stream.write_all(&vec![b' '; pieces]).await.is_ok() {
                    if pieces == 1 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
    });
    ask(&server(3600).await, &store).await
}

#[tokio::test]
async fn a_store_is_asked_as_a_node_of_4_15_2_asks_it() {
    let (server, store) = (server(3600).await, MockServer::start().await);
    let algorithm = json!({"id": 3, "name": "average", "image": "registry.example.org/average:1", "digest": "sha256:ab",
        "status": "approved", "functions": [{"name": "x".repeat(10_000)}]});
    Mock::given(method("GET"))
        .and(path("/api/algorithm"))
        .and(query_param("image", IMAGE))
        .and(header("authorization", bearer("first", 3600).as_str()))
        .and(header("server-url", format!("{}/api", server.uri()).as_str()))
        .and(header("client-type", "node"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"data": [algorithm], "links": {}})))
        .mount(&store)
        .await;
    let expected = StoreAlgorithm { image: "registry.example.org/average:1".into(), digest: Some("sha256:ab".into()) };
    assert_eq!(ask(&server, &format!("{}/api", store.uri())).await, Ok(vec![expected]));
}

#[tokio::test]
async fn the_server_tells_where_a_store_is() {
    let server = server(3600).await;
    let store = json!({"id": 3, "name": "s", "url": "https://store.example.org/api", "collaborations": "x"});
    Mock::given(method("GET"))
        .and(path("/api/algorithmstore/3"))
        .respond_with(ResponseTemplate::new(200).set_body_json(store))
        .mount(&server)
        .await;
    assert_eq!(client(&server).algorithm_store(StoreId(3)).await.unwrap().url, "https://store.example.org/api");
}

#[tokio::test]
async fn what_answers_mean() {
    let says = |status, body: Value| ResponseTemplate::new(status).set_body_json(body);
    for (answer, is_away, words) in [
        (says(200, json!({"data": []})), false, ""),
        (says(400, json!({"msg": "Image digest could not be determined"})), false, "digest could not be determined"),
        (says(401, json!({"msg": "who?"})), false, "before 4.15.2"),
        (says(403, json!({"msg": "not whitelisted"})), false, "letter by letter"),
        (says(404, json!({"msg": "no"})), false, "answers 404"),
        (says(500, json!({"msg": "\u{1b}[31moops"})), true, "answers 500"),
        (says(503, json!("later")), true, "answers 503"),
        (says(429, json!({})), true, "answers 429"),
        (says(200, json!({"data": {"image": "x"}})), false, "no algorithm store"),
        (says(200, json!([])), false, "no algorithm store"),
        (ResponseTemplate::new(200).set_body_string("<html>Sign in</html>"), false, "<html>Sign in</html>"),
        (ResponseTemplate::new(200).set_body_string("x".repeat(2 << 20)), false, "more than 1048576 bytes"),
        (
            ResponseTemplate::new(302).insert_header("location", "https://evil.example/api/algorithm"),
            false,
            "Redirects are not followed",
        ),
        (says(200, json!({"data": []})).set_delay(Duration::from_secs(5)), true, "has not answered within"),
    ] {
        let shown = format!("{answer:?}");
        let (away, why) = match answers(answer).await {
            Ok(algorithms) => {
                assert!(algorithms.is_empty() && words.is_empty(), "{shown}");
                continue;
            }
            Err(StoreError::Unreachable(why)) => panic!("{why}"),
            Err(StoreError::Away(why)) => (true, why),
            Err(StoreError::Refused(why)) => (false, why),
        };
        assert!(away == is_away && why.contains(words), "{shown}: {why}");
        assert!(why.len() < 1200 && !why.contains("eyJ") && !why.chars().any(printable_not), "{why}");
    }
}

fn printable_not(c: char) -> bool {
    c.is_control()
}

#[tokio::test]
async fn bodies_without_end_are_not_waited_for() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let why = drips(head, 1).await.unwrap_err();
    assert!(matches!(&why, StoreError::Away(why) if why.contains("has not answered within")), "{why}");
    let why = drips(head, 64 * 1024).await.unwrap_err();
    assert!(matches!(&why, StoreError::Refused(why) if why.contains("more than")), "{why}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_away() {
    let server = server(3600).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let why = ask(&server, &format!("http://{free}/api")).await.unwrap_err();
    assert!(matches!(&why, StoreError::Unreachable(why) if why.contains("can't be reached")), "{why}");
    // Where plain HTTP is spoken, there is no TLS.
    let plain = MockServer::start().await;
    let why = ask(&server, &plain.uri().replace("http://", "https://")).await.unwrap_err();
    assert!(
        matches!(&why, StoreError::Unreachable(why) if why.contains("can't be reached") && !why.contains("server_url")),
        "{why}"
    );
    let why = ask(&server, "store.example.org").await.unwrap_err();
    assert!(matches!(&why, StoreError::Refused(why) if why.contains("have it registered there")), "{why}");
}

#[tokio::test]
async fn a_token_that_the_store_does_not_take_is_asked_for_once_more() {
    let (server, store) = (server(3600).await, MockServer::start().await);
    Mock::given(method("GET")).respond_with(refusal(401, "expired")).up_to_n_times(1).mount(&store).await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"data": []})))
        .mount(&store)
        .await;
    assert_eq!(ask(&server, &format!("{}/api", store.uri())).await, Ok(vec![]));
    assert_eq!(count(&server, "/api/token/node").await, 2);
}

#[tokio::test]
async fn a_store_that_takes_no_token_does_not_have_the_node_log_in_each_time() {
    let (server, store) = (server(3600).await, MockServer::start().await);
    Mock::given(method("GET")).respond_with(refusal(401, "no nodes here")).mount(&store).await;
    let client = client_at(&server.uri()).build().unwrap();
    for _ in 0..5 {
        let why = client.store_algorithms(&format!("{}/api", store.uri()), Some(IMAGE)).await.unwrap_err();
        assert!(matches!(&why, StoreError::Refused(why) if why.contains("before 4.15.2")), "{why}");
    }
    // One at the beginning, and one because of the store.
    assert_eq!(count(&server, "/api/token/node").await, 2);
}
