//! Checks that data of other clients costs neither memory, nor a connection, nor a log line each. Runs in its own process,
//! because it reads the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socketio::{Client, Event, Events, Transports};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const EVENT: usize = 256 * 1024;

/// A text of any length that is never held: parts, each so many times.
#[derive(Clone)]
struct Text(Vec<(String, usize)>);

impl Text {
    fn new(parts: &[(&str, usize)]) -> Self {
        Self(parts.iter().map(|(part, times)| ((*part).to_owned(), *times)).collect())
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(part, times)| part.len() * times).sum()
    }

    async fn send(&self, stream: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
        for (part, times) in &self.0 {
            let bulk = (64 * 1024 / part.len()).clamp(1, *times);
            let many = part.repeat(bulk);
            for _ in 0..times / bulk {
                stream.write_all(many.as_bytes()).await?;
            }
            stream.write_all(part.repeat(times % bulk).as_bytes()).await?;
        }
        Ok(())
    }
}

/// What a server sends on one connection.
#[derive(Clone)]
enum Packet {
    Text(Text),
    /// As fragments of this many bytes, by websocket.
    Fragments(Text, usize),
    /// An attachment of this many bytes.
    Binary(usize),
}

/// Packets, each with a number of repetitions.
type Packets = Vec<(Packet, usize)>;

/// A server that grants the namespace and sends these packets; it ends with the test's runtime.
async fn server(packets: Packets) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let polls = Arc::new(AtomicUsize::new(0));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, packets.clone(), polls.clone()));
        }
    });
    address
}

const OPEN: &str = r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#;

async fn serve(stream: TcpStream, packets: Packets, polls: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| head.lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(|_| line));
        if let Some(key) = header("sec-websocket-key: ") {
            let accept = derive_accept_key(&key.as_bytes()["sec-websocket-key: ".len()..]);
            let head = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:";
            stream.write_all(format!("{head} {accept}\r\n\r\n").as_bytes()).await?;
            return websocket(stream, packets).await;
        }
        let length = header("content-length: ").map_or(0, |line| line["content-length: ".len()..].parse().unwrap());
        tokio::io::copy(&mut tokio::io::AsyncReadExt::take(&mut stream, length), &mut tokio::io::sink()).await?;
        if head.starts_with("POST") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
            continue;
        }
        if !head.contains("sid=") {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{OPEN}", OPEN.len());
            stream.write_all(answer.as_bytes()).await?;
            continue;
        }
        if polls.fetch_add(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n40").await?;
        for (packet, times) in packets {
            for _ in 0..times {
                stream.write_all(b"\x1e").await?;
                match &packet {
                    Packet::Text(text) | Packet::Fragments(text, _) => text.send(&mut stream).await?,
                    Packet::Binary(size) => Text::new(&[("b", 1), ("AAAA", size / 3)]).send(&mut stream).await?,
                }
            }
        }
        stream.write_all(b"\x1e42[\"good\"]").await?;
        return stream.shutdown().await;
    }
}

fn frame(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first, 127];
    head.extend((length as u64).to_be_bytes());
    head
}

async fn websocket(mut stream: BufReader<TcpStream>, packets: Packets) -> std::io::Result<()> {
    let text = |text: &str| (Packet::Text(Text::new(&[(text, 1)])), 1);
    for (packet, times) in [text(OPEN), text("40")].into_iter().chain(packets).chain([text("42[\"good\"]")]) {
        for _ in 0..times {
            match &packet {
                Packet::Text(text) => {
                    stream.write_all(&frame(0x81, text.len())).await?;
                    text.send(&mut stream).await?;
                }
                Packet::Fragments(text, size) => {
                    let mut sent = Vec::new();
                    text.send(&mut sent).await?;
                    let count = sent.len().div_ceil(*size);
                    for (number, part) in sent.chunks(*size).enumerate() {
                        let first = u8::from(number == 0) | if number + 1 == count { 0x80 } else { 0 };
                        stream.write_all(&frame(first, part.len())).await?;
                        stream.write_all(part).await?;
                    }
                }
                Packet::Binary(size) => {
                    stream.write_all(&frame(0x82, *size)).await?;
                    stream.write_all(&vec![7; *size]).await?;
                }
            }
        }
    }
    std::future::pending().await
}

/// Counts the lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicUsize>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(120), events.recv()).await.expect("no event came").unwrap()
}

/// The result of these packets, by name, up to the good event that follows them: on one connection.
async fn heard(packets: Packets, transports: Transports, slow: Duration) -> Vec<Result<String, String>> {
    let address = server(packets).await;
    let builder = Client::builder(format!("http://{address}")).transports(transports).max_event(EVENT);
    let (_client, mut events) = builder.connect().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    tokio::time::sleep(slow).await;
    let mut heard = Vec::new();
    loop {
        match next(&mut events).await {
            Event::Message(message) if message.event == "good" => return heard,
            Event::Message(message) => heard.push(Ok(message.event)),
            Event::LeftOut { event } => heard.push(Err(event.unwrap())),
            other => panic!("{other:?}"),
        }
    }
}

/// What is sent, and what comes of it: names of events that are read (`Ok`) or left out (`Err`), so many times.
type Case = (&'static str, Packets, Result<&'static str, &'static str>, usize);

fn cases() -> Vec<Case> {
    let text = |parts: &[(&str, usize)], times| vec![(Packet::Text(Text::new(parts)), times)];
    let million = 1_000_000;
    let event = |part: &str, count: usize, times| text(&[("42[\"e\",{\"x\":[", 1), (part, count), ("0]}]", 1)], times);
    let nothing = Ok("");
    vec![
        ("five events of other nodes", event("{\"\":0},", 130_000, 5), Err("e"), 5),
        ("15 MB of objects", event("{\"\":0},", 2 * million, 1), Err("e"), 1),
        ("15 MB of arrays", event("[0],", 3_800_000, 1), Err("e"), 1),
        ("15 MB of depth", event("[", 15 * million, 1), Err("e"), 1),
        ("a long text", event("\"\\u0000\\n\\\\\",", million, 1), Err("e"), 1),
        ("a large number", event("9", 15 * million, 1), Err("e"), 1),
        ("a long name", text(&[("42[\"", 1), ("name", 3 * million), ("\"]", 1)], 1), nothing, 0),
        ("a long namespace", text(&[("42/", 1), ("name", 3 * million), (",[\"e\"]", 1)], 1), nothing, 0),
        ("a long ack id", text(&[("42", 1), ("9", 15 * million), ("[\"e\"]", 1)], 1), nothing, 0),
        ("a long ack", text(&[("431[", 1), ("{\"\":0},", million), ("0]", 1)], 1), nothing, 0),
        ("a long ping", text(&[("2", 1), ("x", 15 * million)], 1), nothing, 0),
        ("as large as may be, of many values", event("[],", 80_000, 50), Ok("e"), 50),
        ("as deep as may be", event("[", 200_000, 50), Err("e"), 50),
        (
            "twenty attachments",
            [text(&[("4520-[\"e\"]", 1)], 1), vec![(Packet::Binary(900_000), 20)]].concat(),
            Err("e"),
            1,
        ),
        ("attachments that never come", text(&[("451024-[\"e\"]", 1)], 1000), Err("e"), 1000),
        ("bad packets", text(&[("49", 1)], 100_000), nothing, 0),
        ("stray attachments", vec![(Packet::Binary(3), 100_000)], nothing, 0),
        ("odd events", text(&[("42[\"e\",NaN]", 1)], 100_000), Err("e"), 100_000),
        ("connected again", text(&[("40", 1)], 100_000), nothing, 0),
    ]
}

#[tokio::test]
async fn what_others_send_costs_no_memory_no_connection_and_no_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_writer(move || writer.clone()).init();
    for (transports, most) in [(Transports::PollingOnly, 16), (Transports::WebSocketOnly, 64)] {
        for (case, packets, expected, times) in cases() {
            let before = memory_testing::now();
            memory_testing::reset_peak();
            let heard = heard(packets, transports, Duration::ZERO).await;
            assert_eq!(heard.len(), times, "{case}, {transports:?}");
            for event in heard {
                assert_eq!(event.as_deref().map_err(String::as_str), expected, "{case}, {transports:?}");
            }
            let grown = memory_testing::peak().saturating_sub(before);
            assert!(grown < most, "{case}, {transports:?}: {grown} MiB");
        }
    }

    // A reader that is away for a while loses nothing, and what waits for it is bounded.
    let large = Packet::Text(Text::new(&[("42[\"e\",[", 1), ("{\"\":0},", 30_000), ("0]]", 1)]));
    let before = memory_testing::now();
    memory_testing::reset_peak();
    let all = heard(vec![(large, 300)], Transports::PollingOnly, Duration::from_secs(1)).await;
    assert_eq!(all.len(), 300);
    let grown = memory_testing::peak().saturating_sub(before);
    assert!(grown < 16, "{grown} MiB");

    // Fragments are put together before anything can be made of them.
    let fragments = Packet::Fragments(Text::new(&[("42[\"e\",[", 1), ("{\"\":0},", 130_000), ("0]]", 1)]), 1000);
    assert_eq!(heard(vec![(fragments, 3)], Transports::WebSocketOnly, Duration::ZERO).await.len(), 3);

    let lines = lines.0.load(Ordering::SeqCst);
    assert!(lines < 10 * cases().len(), "{lines} lines");
}
