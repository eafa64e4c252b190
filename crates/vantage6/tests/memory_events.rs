//! Checks that events of other members or of the server itself cost neither memory nor the connection. Runs in its own process,
//! because it reads the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]
#![allow(clippy::disallowed_types, reason = "only tests use it, without another dependency")]

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};
use vantage6::{
    Client, ServerUrl,
    live::{LiveEvent, LiveEvents, LiveOptions, connect},
};

/// The text of an event, in parts that are sent so many times: it is never held as a whole.
type Text = Vec<(&'static str, usize)>;

/// What is to be sent, and whether anything was sent yet.
type Events = Arc<Mutex<(mpsc::UnboundedReceiver<Text>, bool)>>;

/// Logs everybody in, and sends by long polling what it is told to.
async fn server(events: mpsc::UnboundedReceiver<Text>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let events = Arc::new(Mutex::new((events, false)));
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, events.clone()));
        }
    });
    address
}

async fn serve(connection: TcpStream, events: Events) -> std::io::Result<()> {
    const OPEN: &str = r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#;
    let mut connection = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    for line in head.to_lowercase().lines() {
        length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
    }
    tokio::io::copy(&mut (&mut connection).take(length), &mut tokio::io::sink()).await?;
    let begin = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let answer = match head.split(' ').next().unwrap() {
        "POST" if head.contains("token/node") => r#"{"access_token": "token", "node_url": "/api/node/1"}"#,
        "POST" => "ok",
        _ if !head.contains("sid=") => OPEN,
        _ => "6",
    };
    connection.write_all(format!("{begin}{answer}").as_bytes()).await?;
    if answer == "6" {
        let (events, begun) = &mut *events.lock().await;
        if !std::mem::replace(begun, true) {
            connection.write_all("\u{1e}40/tasks,{\"sid\":\"x\"}\u{1e}42/tasks,[\"sync\"]".as_bytes()).await?;
            return connection.shutdown().await;
        }
        // A poll brings all up to the good event.
        while let Some(text) = events.recv().await {
            connection.write_all("\u{1e}42/tasks,".as_bytes()).await?;
            for (part, times) in &text {
                let bulk = (64 * 1024 / part.len()).clamp(1, *times);
                let many = part.repeat(bulk);
                for _ in 0..times / bulk {
                    connection.write_all(many.as_bytes()).await?;
                }
                connection.write_all(part.repeat(times % bulk).as_bytes()).await?;
            }
            if text == [(GOOD, 1)] {
                break;
            }
        }
    }
    connection.shutdown().await
}

async fn next(events: &mut LiveEvents) -> LiveEvent {
    tokio::time::timeout(Duration::from_secs(100), events.recv()).await.expect("nothing came").unwrap()
}

const GOOD: &str = r#"["new_task",{"id":7}]"#;

fn cases() -> Vec<(&'static str, Text, usize, &'static str)> {
    let status = r#"["algorithm_status_change",{"run_id":1,"status":"active","node_id":["#;
    let kill = r#"["kill_containers",{"collaboration_id":1,"kill_list":[],"more":["#;
    let million = 1_000_000;
    vec![
        ("of another node", vec![(status, 1), (r#"{"":0},"#, 130_000), ("0]}]", 1)], 5, "Unknown"),
        ("15 MB of objects", vec![("[\"x\",[", 1), (r#"{"":0},"#, 2 * million), ("0]]", 1)], 1, "Unknown"),
        ("15 MB of arrays", vec![("[\"x\",[", 1), ("[0],", 3 * million), ("0]]", 1)], 1, "Unknown"),
        ("in a known event", vec![(kill, 1), (r#"{"":0},"#, 2 * million), ("0]}]", 1)], 1, "Missed"),
        ("within the bound", vec![(kill, 1), ("[0],", 60_000), ("0]}]", 1)], 50, "KillContainers"),
        ("depth", vec![("[\"x\",", 1), ("[", 120_000), ("]", 120_000), ("]", 1)], 50, "Unknown"),
        ("a long text", vec![("[\"message\",\"", 1), ("\\u00e9", 40_000), ("\"]", 1)], 50, "Message"),
        ("a long name", vec![("[\"", 1), ("x", 250_000), ("\"]", 1)], 50, ""),
        (
            "a long status",
            vec![("[\"algorithm_status_change\",{\"run_id\":1,\"status\":\"", 1), ("x", 250_000), ("\"}]", 1)],
            50,
            "AlgorithmStatusChange",
        ),
        ("small ones", vec![("[\"algorithm_status_change\",{\"run_id\":1,\"status\":\"a\"}]", 1)], 200, "AlgorithmSt"),
    ]
}

#[tokio::test]
async fn events_of_others_cost_neither_memory_nor_the_connection() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let url = ServerUrl::new(&server(receiver).await, None, "/api").unwrap();
    let client = Client::builder(url, "key".to_owned().into()).build().unwrap();
    let (_live, mut events) = connect(&client, LiveOptions { polling_only: true, ..LiveOptions::default() }).unwrap();
    while !format!("{:?}", next(&mut events).await).contains("Sync") {}
    for (case, text, times, expected) in cases() {
        let before = memory_testing::now();
        memory_testing::reset_peak();
        for _ in 0..times {
            sender.send(text.clone()).unwrap();
        }
        sender.send(vec![(GOOD, 1)]).unwrap();
        let mut heard = 0;
        loop {
            let event = format!("{:?}", next(&mut events).await);
            assert!(!event.contains("onnected"), "{case}: {event}");
            if event.contains("TaskId(7)") {
                break;
            }
            assert!(event.contains(expected) && !expected.is_empty(), "{case}: {event:.200}");
            heard += 1;
        }
        assert_eq!(heard, if expected.is_empty() { 0 } else { times }, "{case}");
        let grown = memory_testing::peak().saturating_sub(before);
        assert!(grown < 16, "{case}: {grown} MiB");
    }
}
