//! How results are sent, and what can go wrong.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use vantage6::{
    Delivery, Error, RunId,
    encoding::{self},
};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{header, path},
};

use crate::*;

/// Plays a server on bare TCP, for what HTTP libraries don't do: logs in, then reads the next request up to `read`
/// bytes of its body, answers, and closes the connection.
async fn rude_server(read: usize, answer: &'static str) -> (String, tokio::task::JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let played = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let (mut head, mut body) = (Vec::new(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let login = head.starts_with("POST /api/token/node");
            let announced = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let until = if login { announced } else { announced.min(read) };
            while body.len() < until {
                let mut piece = vec![0; (until - body.len()).min(65_536)];
                let length = connection.read(&mut piece).await.unwrap();
                assert!(length > 0, "the body ends after {} of {until} bytes", body.len());
                body.extend_from_slice(&piece[..length]);
            }
            if login {
                let tokens = json!({"access_token": jwt("first", 600)}).to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{tokens}", tokens.len());
                connection.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.ok();
            return (head, body);
        }
    });
    (address, played)
}

#[tokio::test]
async fn a_result_goes_out_in_one_piece_of_announced_length() {
    let yes = "HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n{\"id\": 3, \"finished_at\": \"2024-01-02T03:04:05.678\" }";
    let (address, played) = rude_server(usize::MAX, yes).await;
    client_at(&address).build().unwrap().finish_run(RunId(3), result(1_000_001)).await.unwrap();
    let (head, body) = played.await.unwrap();
    assert!(head.starts_with("PATCH /api/run/3 HTTP/1.1\r\n") && !head.contains("transfer-encoding"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(encoding::decode_text(json["result"].as_str().unwrap()).unwrap(), vec![7; 1_000_001]);
}

#[tokio::test]
async fn whether_the_server_has_a_result_after_a_failure() {
    const ALL: usize = usize::MAX;
    for (name, read, answer, taken, transient) in [
        ("the connection breaks in the middle", 100_000, "", Delivery::NotSent, true),
        ("no answer", ALL, "", Delivery::Unknown, true),
        ("half of an answer", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\": 3", Delivery::Unknown, true),
        ("a proxy's page", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Delivery::Unknown, false),
        ("another run", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 4}", Delivery::Unknown, false),
        ("it did not end", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 3}", Delivery::Unknown, false),
        ("gateway timeout", ALL, "HTTP/1.1 504 Oh\r\ncontent-length: 0\r\n\r\n", Delivery::Unknown, true),
        ("too large", ALL, "HTTP/1.1 413 Oh\r\ncontent-length: 0\r\n\r\n", Delivery::NotSent, false),
        ("busy", ALL, "HTTP/1.1 429 Oh\r\ncontent-length: 0\r\n\r\n", Delivery::NotSent, true),
    ] {
        let (address, _played) = rude_server(read, answer).await;
        let error = client_at(&address).build().unwrap().finish_run(RunId(3), result(5_000_000)).await.unwrap_err();
        assert_eq!((error.delivery(), error.is_transient()), (taken, transient), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_old_token_that_is_refused_at_the_end_of_a_run_is_replaced_for_the_next_attempt() {
    let server = server(6000).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    Mock::given(path("/api/token/refresh")).respond_with(tokens("second", 6000)).expect(1).mount(&server).await;
    let done = json!({"id": 3, "finished_at": "2024-01-02T03:04:05.678901"});
    Mock::given(path("/api/run/3"))
        .and(header("authorization", bearer("second", 6000)))
        .respond_with(ResponseTemplate::new(200).set_body_json(done))
        .mount(&server)
        .await;
    Mock::given(path("/api/run/3")).respond_with(refusal(401, "Token has expired")).mount(&server).await;
    let client = client(&server);

    // Refused when it is young: that is about the run, not about the token.
    client.whoami().await.unwrap();
    let error = client.finish_run(RunId(3), result(10)).await.unwrap_err();
    assert!(error.status() == Some(401) && !error.is_transient(), "{error}");

    later(100).await;
    let error = client.finish_run(RunId(3), result(10)).await.unwrap_err();
    assert!(
        matches!(error, Error::StaleToken { .. }) && error.is_transient() && error.delivery() == Delivery::NotSent,
        "{error}"
    );
    client.finish_run(RunId(3), result(10)).await.unwrap();
}
