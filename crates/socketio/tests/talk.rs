//! Exchanges events with a real server, in each of its modes and over each transport.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod common;

use std::time::Duration;

use common::*;
use serde_json::{Value, json};
use socketio::{EmitError, Error, Event, Transport, Transports};

/// The same conversation, whichever way the packets go.
async fn talk(options: Options, transports: Transports, expected: Transport) {
    let Some(mut server) = Server::start(options).await else {
        return;
    };
    let auth = json!({"key": "é"});
    let builder = builder(&server).transports(transports).auth(auth.clone());
    let (client, mut events) = builder.connect().unwrap();
    assert_eq!(connected(&mut events).await, expected);
    assert!(client.is_connected());
    assert_eq!(server.said("connect").await["auth"], auth);

    // What the server sent before it said yes comes after the yes, and is not lost.
    message(&mut events, "sync").await;

    // Events both ways: none, one and several arguments, in all scripts.
    client.emit("echo", ()).await.unwrap();
    assert_eq!(message(&mut events, "echo").await.args, ().into());
    let several = [json!({"text": "naïve 数据 🧭 \u{1e} \u{0}", "n": -1.5e300}), json!(null), json!([[], {}])];
    client.emit("echo", several.clone()).await.unwrap();
    assert_eq!(values(&message(&mut events, "echo").await), several);

    // Acks both ways.
    let answer = client.emit_with_ack("transport", (), LONG).await.unwrap();
    assert_eq!(answer, json!(if expected == Transport::WebSocket { "websocket" } else { "polling" }).into());
    client.emit("ask", json!("where?")).await.unwrap();
    let question = message(&mut events, "question").await;
    assert_eq!(question.args, json!("where?").into());
    question.ack.unwrap().send([json!("here"), json!(1)]).await.unwrap();
    assert_eq!(server.said("answer").await["answer"], json!(["here", 1]));

    // Attachments.
    client.emit("binary", ()).await.unwrap();
    let binary = message(&mut events, "binary").await;
    assert_eq!(values(&binary)[0]["first"], json!({"_placeholder": true, "num": 0}));
    assert_eq!(values(&binary)[0]["text"], json!("é"));
    assert_eq!(binary.attachments, [&b"\x00\x01\xff"[..], &b"two"[..]]);

    // Large, and many: more than fits into one body of long polling, in order.
    let large = json!("数".repeat(100_000));
    client.emit("echo", large.clone()).await.unwrap();
    assert_eq!(values(&message(&mut events, "echo").await), [large]);
    for number in 0..100 {
        client.emit("silent", [json!(number), json!("x".repeat(30_000))]).await.unwrap();
    }
    // (The server handles each in a thread of its own.)
    let mut numbers = Vec::new();
    for _ in 0..100 {
        numbers.push(server.said("silent").await["silent"].as_u64().unwrap());
    }
    if options.mode == "threading" {
        numbers.sort_unstable();
    }
    assert!(numbers.into_iter().eq(0..100));
    client.emit("burst", [json!(500), json!(1000)]).await.unwrap();
    for number in 0..500 {
        assert_eq!(values(&message(&mut events, "burst").await)[0], json!(number));
    }

    // More than the server takes is refused here, and the connection goes on.
    let too_large = client.emit("echo", json!("x".repeat(1_000_000))).await;
    assert!(matches!(too_large, Err(EmitError::TooLarge { limit: 1_000_000, .. })), "{too_large:?}");

    // What was sent before a shutdown still arrives.
    client.emit("silent", json!("last")).await.unwrap();
    client.shutdown().await;
    assert_eq!(server.said("silent").await["silent"], json!("last"));
    server.said("disconnect").await;
    assert!(matches!(disconnected(&mut events).await, Error::Shutdown));
    assert!(next(&mut events).await.is_none());
    assert_eq!(client.emit("echo", ()).await, Err(EmitError::NotConnected));
}

#[tokio::test]
async fn long_polling_where_nothing_else_is_offered() {
    talk(POLLING, Transports::Upgrade, Transport::Polling).await;
}

#[tokio::test]
async fn upgrade_to_websocket() {
    talk(WEBSOCKET, Transports::Upgrade, Transport::WebSocket).await;
}

#[tokio::test]
async fn upgrade_to_websocket_with_a_threaded_server() {
    talk(Options { mode: "threading", ..WEBSOCKET }, Transports::Upgrade, Transport::WebSocket).await;
}

#[tokio::test]
async fn long_polling_by_choice_with_a_threaded_server() {
    talk(Options { mode: "threading", ..WEBSOCKET }, Transports::PollingOnly, Transport::Polling).await;
}

#[tokio::test]
async fn websocket_from_the_beginning() {
    talk(WEBSOCKET, Transports::WebSocketOnly, Transport::WebSocket).await;
}

#[tokio::test]
async fn a_refused_namespace_says_why() {
    for (options, namespace) in [(POLLING, "/tasks"), (WEBSOCKET, "/tasks"), (WEBSOCKET, "/nowhere")] {
        let Some(server) = Server::start(options).await else {
            return;
        };
        let headers = [("authorization", "Bearer refused")].map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()));
        let builder = builder(&server).namespace(namespace).fixed_headers(headers.into_iter().collect());
        let (_client, mut events) = builder.connect().unwrap();
        for number in 1..=2 {
            let event = next(&mut events).await.unwrap();
            let Event::ConnectFailed { error, attempt, next_in } = event else { panic!("{event:?}") };
            assert_eq!(attempt, number);
            assert!(next_in <= Duration::from_secs(1));
            let Error::Refused { namespace: refused, message, data } = error else { panic!("{error}") };
            assert_eq!(refused, namespace);
            if namespace == "/tasks" {
                assert_eq!(message, "no entry");
                assert_eq!(data.unwrap().read::<Value>().unwrap()["data"], json!({"code": 7}));
            }
        }
    }
}

#[tokio::test]
async fn an_event_without_an_ack_in_time() {
    let Some(server) = Server::start(WEBSOCKET).await else {
        return;
    };
    let (client, mut events) = builder(&server).connect().unwrap();
    connected(&mut events).await;
    let limit = Duration::from_millis(50);
    server.freeze();
    assert_eq!(client.emit_with_ack("echo", (), limit).await, Err(EmitError::NoAck(limit)));
}
