//! Staying connected: servers that crash, freeze, disconnect or change their mind, and clients that stop.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::*;
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::json;
use socketio::{BoxError, Client, EmitError, Error, Event, Transports};

/// A new token each time, as `Bearer 1`, `Bearer 2`, …
fn numbered(asked: &Arc<AtomicU32>) -> impl socketio::HeaderProvider {
    let asked = Arc::clone(asked);
    move || {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {number}").parse()?)])) }
    }
}

async fn is_alive(client: &Client) {
    client.emit_with_ack("echo", (), LONG).await.unwrap();
}

#[tokio::test]
async fn a_server_that_restarts_sees_a_fresh_token() {
    for options in [POLLING, WEBSOCKET] {
        let Some(mut server) = Server::start(options).await else {
            return;
        };
        let asked = Arc::new(AtomicU32::new(0));
        let (client, mut events) = builder(&server).headers(numbered(&asked)).connect().unwrap();
        connected(&mut events).await;
        let first = asked.load(Ordering::SeqCst);
        assert_eq!(server.said("connect").await["token"], json!(format!("Bearer {first}")));

        let port = server.port;
        server.kill().await;
        disconnected(&mut events).await;
        assert!(!client.is_connected());
        assert_eq!(client.emit("echo", ()).await, Err(EmitError::NotConnected));
        assert_eq!(client.emit_with_ack("echo", (), LONG).await, Err(EmitError::NotConnected));
        // At least one attempt fails, each with headers of its own.
        let event = next(&mut events).await.unwrap();
        assert!(matches!(event, Event::ConnectFailed { error: Error::Http { .. }, attempt: 1, .. }), "{event:?}");

        let mut server = Server::start(Options { port, ..options }).await.unwrap();
        connected(&mut events).await;
        let second = asked.load(Ordering::SeqCst);
        assert!(second >= first + 2);
        assert_eq!(server.said("connect").await["token"], json!(format!("Bearer {second}")));
        is_alive(&client).await;
    }
}

#[tokio::test]
async fn a_frozen_server_is_noticed() {
    for options in [POLLING, WEBSOCKET] {
        let Some(server) = Server::start(Options { ping: (2, 2), ..options }).await else {
            return;
        };
        let (_client, mut events) = builder(&server).connect().unwrap();
        connected(&mut events).await;
        server.freeze();
        let frozen = Instant::now();
        let reason = disconnected(&mut events).await;
        assert!(matches!(reason, Error::Dead(after) if after == Duration::from_secs(4)), "{reason}");
        assert!(frozen.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_quiet_connection_lives_on_heartbeats() {
    for options in [POLLING, WEBSOCKET] {
        let Some(server) = Server::start(Options { ping: (1, 20), ..options }).await else {
            return;
        };
        // Longer than the connect timeout, too: that is for connecting only.
        let builder = builder(&server).connect_timeout(Duration::from_secs(3));
        let (client, mut events) = builder.connect().unwrap();
        connected(&mut events).await;
        message(&mut events, "sync").await;
        let quiet = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        is_alive(&client).await;
    }
}

#[tokio::test]
async fn a_server_that_disconnects_is_asked_again_and_its_last_words_are_heard() {
    for options in [POLLING, WEBSOCKET] {
        let Some(server) = Server::start(options).await else {
            return;
        };
        let (client, mut events) = builder(&server).connect().unwrap();
        connected(&mut events).await;
        client.emit("leave", ()).await.unwrap();
        let reason = disconnected(&mut events).await;
        assert!(matches!(reason, Error::DisconnectedByServer | Error::ClosedByServer), "{reason}");
        connected(&mut events).await;
        client.emit("last_words", ()).await.unwrap();
        message(&mut events, "last_words").await;
        disconnected(&mut events).await;
        connected(&mut events).await;
        is_alive(&client).await;
    }
}

#[tokio::test]
async fn reconnect_on_request_with_a_fresh_token() {
    let Some(mut server) = Server::start(WEBSOCKET).await else {
        return;
    };
    let asked = Arc::new(AtomicU32::new(0));
    let (client, mut events) = builder(&server).headers(numbered(&asked)).connect().unwrap();
    client.reconnect();
    connected(&mut events).await;
    assert_eq!(server.said("connect").await["token"], json!("Bearer 1"));
    client.reconnect();
    assert!(matches!(disconnected(&mut events).await, Error::Reconnecting));
    server.said("disconnect").await;
    connected(&mut events).await;
    assert_eq!(server.said("connect").await["token"], json!("Bearer 2"));
}

#[tokio::test]
async fn headers_that_cannot_be_had_are_a_failed_attempt() {
    let Some(server) = Server::start(POLLING).await else {
        return;
    };
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let provider = move || {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move { if number < 2 { Err(BoxError::from("no token today")) } else { Ok(HeaderMap::new()) } }
    };
    let (_client, mut events) = builder(&server).headers(provider).connect().unwrap();
    for number in 1..=2 {
        let event = next(&mut events).await.unwrap();
        let Event::ConnectFailed { error, attempt, .. } = event else { panic!("{event:?}") };
        assert_eq!(
            (attempt, error.to_string()),
            (number, "could not get the headers for a connection: no token today".to_owned())
        );
    }
    connected(&mut events).await;
}

#[tokio::test]
async fn a_slow_owner_loses_nothing() {
    for options in [POLLING, WEBSOCKET] {
        let Some(server) = Server::start(options).await else {
            return;
        };
        let (client, mut events) = builder(&server).max_events(1).connect().unwrap();
        connected(&mut events).await;
        client.emit("burst", [json!(300), json!(5000)]).await.unwrap();
        // Nobody listens, everything stands still; yet what is said still goes out.
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.emit("silent", ()).await.unwrap();
        for number in 0..300 {
            assert_eq!(values(&message(&mut events, "burst").await)[0], json!(number));
        }
        is_alive_while_listening(&client, &mut events).await;
    }
}

/// With a queue of one event an answer may stand behind events: somebody must take them.
async fn is_alive_while_listening(client: &Client, events: &mut socketio::Events) {
    let listen = async { while events.recv().await.is_some() {} };
    tokio::select! {
        () = is_alive(client) => {}
        () = listen => panic!("the client has ended"),
    }
}

#[tokio::test]
async fn the_end_of_all_handles_or_of_the_events_is_the_end_of_the_client() {
    for transports in [Transports::PollingOnly, Transports::Upgrade] {
        let Some(mut server) = Server::start(WEBSOCKET).await else {
            return;
        };
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();

        let (client, mut events) = builder(&server).transports(transports).connect().unwrap();
        connected(&mut events).await;
        let clone = client.clone();
        drop(client);
        clone.emit("silent", ()).await.unwrap();
        server.said("silent").await;
        drop(clone);
        while next(&mut events).await.is_some() {}
        no_more_tasks_than(tasks).await;

        let (client, mut events) = builder(&server).transports(transports).connect().unwrap();
        connected(&mut events).await;
        drop(events);
        server.said("disconnect").await;
        drop(client);
        no_more_tasks_than(tasks).await;

        // A shutdown in the middle of connecting, to a server that does not answer.
        server.freeze();
        let (client, _events) = builder(&server).transports(transports).connect().unwrap();
        client.shutdown().await;
        drop(client);
        no_more_tasks_than(tasks).await;
    }
}

async fn no_more_tasks_than(tasks: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let wait = async {
        while metrics.num_alive_tasks() > tasks {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let all = tokio::time::timeout(LONG, wait).await;
    assert!(all.is_ok(), "{} tasks are left, there were {tasks}", metrics.num_alive_tasks());
}

#[tokio::test]
async fn a_frozen_server_does_not_hold_up_a_shutdown() {
    for options in [POLLING, WEBSOCKET] {
        let Some(server) = Server::start(options).await else {
            return;
        };
        let (client, mut events) = builder(&server).connect().unwrap();
        connected(&mut events).await;
        server.freeze();
        tokio::time::timeout(Duration::from_secs(30), client.shutdown()).await.unwrap();
    }
}
