//! Servers and intermediaries that misbehave. Each is played by a few canned responses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{connected, message, next};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::json;
use socketio::{Builder, Client, Error, Event, Transport, Transports};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const OPEN: &str = r#"0{"sid":"s1","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#;
const OFFERS_WEBSOCKET: &str = r#"0{"sid":"s1","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":60000}"#;

/// One request as the server sees it.
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn is(&self, method: &str, part: &str) -> bool {
        self.head.starts_with(method) && self.head.contains(part)
    }
}

/// What the server does about a request.
enum Answer {
    /// Answers with 200 and this body.
    Body(String),
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
    /// Says nothing, keeps the connection open.
    Silence,
}

/// A server that answers each request by a function; it ends with the test's runtime.
async fn server(answer: impl Fn(&Request) -> Answer + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, answer: impl Fn(&Request) -> Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let request = Request { head, body: String::from_utf8(body).unwrap() };
        match answer(&request) {
            Answer::Body(body) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: route=r7; Path=/\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await?;
            }
            Answer::Raw(bytes) => return stream.write_all(&bytes).await,
            Answer::Silence => std::future::pending().await,
        }
    }
}

fn body(text: impl Into<String>) -> Answer {
    Answer::Body(text.into())
}

fn builder(address: SocketAddr) -> Builder {
    let quick = (Duration::from_millis(50), Duration::from_millis(500));
    Client::builder(format!("http://{address}")).reconnect_delay(quick.0, quick.1).max_event(10_000)
}

/// How the first attempt fails.
async fn failure(builder: Builder) -> Error {
    let (_client, mut events) = builder.connect().unwrap();
    match next(&mut events).await {
        Some(Event::ConnectFailed { error, attempt: 1, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_that_are_no_handshake() {
    let long = "x".repeat(20_000);
    let deep = format!("0{}", "[".repeat(9_000));
    for odd in ["", "6", "hello", "0", "0{}", "\u{1e}\u{1e}", &deep, &long] {
        let answer = odd.to_owned();
        let address = server(move |_| body(answer.clone())).await;
        let error = failure(builder(address)).await;
        match error {
            Error::Protocol(_) | Error::Packet(_) => assert!(odd.len() < 20_000),
            Error::TooLarge { limit: 10_000 } => assert_eq!(odd, long),
            other => panic!("{odd}: {other}"),
        }
    }
}

#[tokio::test]
async fn answers_that_are_no_http_or_end_in_the_middle() {
    let odd: [&[u8]; 4] =
        [b"", b"\x00\xff\xfe", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0{", b"HTTP/1.1 200 OK\r\n\r\n\xff\xff"];
    for bytes in odd {
        let address = server(move |_| Answer::Raw(bytes.to_vec())).await;
        let error = failure(builder(address)).await;
        assert!(matches!(error, Error::Http { .. } | Error::Protocol(_)), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let address = server(|_| Answer::Silence).await;
    for transports in [Transports::Upgrade, Transports::WebSocketOnly] {
        let short = Duration::from_millis(300);
        let error = failure(builder(address).transports(transports).connect_timeout(short)).await;
        assert!(matches!(error, Error::Timeout { .. } | Error::Http { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_error_page_that_repeats_the_token() {
    let address = server(|request| {
        let page = format!("you sent {}", request.head);
        Answer::Raw(format!("HTTP/1.1 502 Bad\r\nContent-Length: {}\r\n\r\n{page}", page.len()).into())
    })
    .await;
    let token = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer secret-token"))]);
    let error = failure(builder(address).fixed_headers(token)).await;
    assert!(matches!(error, Error::Status { status: 502, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn a_websocket_that_is_offered_but_refused_or_dead_leaves_long_polling() {
    // Refused by a proxy; let through, but then silence; let through, but by something else than a websocket server.
    let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
    let fake =
        b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n".to_vec();
    for websocket in [Some(refused), None, Some(fake)] {
        let address = server(move |request| match &websocket {
            Some(bytes) if request.is("GET", "transport=websocket") => Answer::Raw(bytes.clone()),
            None if request.is("GET", "transport=websocket") => Answer::Silence,
            _ if request.is("POST", "") => {
                // The cookie of the handshake finds the same server again.
                assert!(request.head.to_lowercase().contains("cookie: route=r7"), "{}", request.head);
                body("OK")
            }
            _ if request.is("GET", "sid=") => body("40{\"sid\":\"x\"}\u{1e}42[\"hello\",1]"),
            _ => body(OFFERS_WEBSOCKET),
        })
        .await;
        let (_client, mut events) = builder(address).connect_timeout(Duration::from_secs(3)).connect().unwrap();
        assert_eq!(connected(&mut events).await, Transport::Polling);
        assert_eq!(message(&mut events, "hello").await.args, json!(1).into());
    }
}

#[tokio::test]
async fn nonsense_in_a_connection() {
    // A poll answers with: a good event after odd ones; then with what ends the connection.
    let odd = "42[]\u{1e}4\u{1e}4é\u{1e}bAAAA\u{1e}42/other,[\"a\"]\u{1e}451-[\"cut\"]\u{1e}43999[]\u{1e}42[\"good\"]";
    let polls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let address = server(move |request| {
        if request.is("POST", "") {
            assert!(!request.body.is_empty());
            return body("OK");
        }
        if !request.is("GET", "sid=") {
            return body(OPEN);
        }
        match polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 {
            0 => body("40"),
            1 => body(odd),
            _ => body("4\u{1e}nonsense"),
        }
    })
    .await;
    let (_client, mut events) = builder(address).connect().unwrap();
    for _ in 0..2 {
        connected(&mut events).await;
        // The one whose attachment never came, and then what followed it.
        let left_out = next(&mut events).await;
        assert!(matches!(&left_out, Some(Event::LeftOut { event: Some(event) }) if event == "cut"), "{left_out:?}");
        let Some(Event::Message(message)) = next(&mut events).await else { panic!("no message") };
        assert_eq!(message.event, "good");
        let reason = common::disconnected(&mut events).await;
        assert!(matches!(reason, Error::Packet(_)), "{reason}");
    }
}

/// The server decides what each poll brings, and how soon.
#[tokio::test]
async fn polls_that_are_answered_at_once_have_a_pace_whatever_they_bring() {
    for brought in ["42[\"e\"]", "42[", "6", "2", "3", "40"] {
        let polls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let asked = polls.clone();
        let address = server(move |request| {
            if request.is("POST", "") {
                return body("OK");
            }
            if !request.is("GET", "sid=") {
                return body(OPEN);
            }
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            body(if first { "40" } else { brought })
        })
        .await;
        let (_client, mut events) = builder(address).connect().unwrap();
        let _ =
            tokio::time::timeout(Duration::from_secs(2), async { while next(&mut events).await.is_some() {} }).await;
        let polls = polls.load(std::sync::atomic::Ordering::SeqCst);
        assert!((2..=60).contains(&polls), "{polls} polls that bring {brought}");
    }
}

#[tokio::test]
async fn a_session_that_the_server_does_not_know_any_more() {
    let address = server(|request| match request {
        _ if request.is("POST", "") => body("OK"),
        _ if request.is("GET", "sid=") => Answer::Raw(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 39\r\n\r\n{\"code\":1,\"message\":\"Session ID unknown\"}"
                .to_vec(),
        ),
        _ => body(OPEN),
    })
    .await;
    let error = failure(builder(address)).await;
    let Error::Status { status, body, .. } = error else { panic!("{error}") };
    assert_eq!(status, 400);
    assert!(body.contains("Session ID unknown"), "{body}");
}
