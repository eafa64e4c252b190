//! Tests hostile algorithms: the proxy continues to serve the others, and nothing harmful reaches the server.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake_server::server;
use super::*;

/// Sends raw bytes and returns everything that comes back until the connection is closed or falls silent.
pub(super) async fn raw(to: SocketAddr, sends: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut got = Vec::new();
    let send = async {
        let _ = writer.write_all(sends).await;
    };
    let read = async {
        let mut piece = [0; 4096];
        while let Ok(Ok(length @ 1..)) = tokio::time::timeout(Duration::from_millis(700), reader.read(&mut piece)).await
        {
            got.extend_from_slice(&piece[..length]);
        }
    };
    tokio::join!(send, read);
    String::from_utf8_lossy(&got).into_owned()
}

pub(super) fn authorization() -> String {
    format!("Host: proxyserver\r\nX-Public-Key: a\r\nAuthorization: {}\r\n", bearer(ALGORITHM).to_str().unwrap())
}

#[tokio::test]
async fn smuggled_requests_reach_nobody() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = authorization();
    let inner = "DELETE /api/task/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer node\r\n\r\n";
    for (head, body) in [
        (
            format!("POST /blobstream HTTP/1.1\r\n{auth}Content-Length: {}\r\nContent-Length: 0\r\n\r\n", inner.len()),
            inner,
        ),
        (
            format!(
                "POST /blobstream HTTP/1.1\r\n{auth}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            inner,
        ),
        (format!("POST /blobstream HTTP/1.1\r\n{auth}Transfer-Encoding: chunked, identity\r\n\r\n"), inner),
        (format!("POST /blobstream HTTP/1.1\r\n{auth}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), inner),
        (format!("POST /blobstream HTTP/1.1\r\n{auth}Content-Length: +5\r\n\r\n"), inner),
        (format!("POST /blobstream HTTP/1.1\r\n{auth}Content-Length: -5\r\n\r\n"), inner),
        (format!("GET /run/1 HTTP/1.1\r\n{auth}X: a\nContent-Length: 5\r\n\r\n"), inner),
        (format!("GET /x\r\n/y HTTP/1.1\r\n{auth}\r\n"), inner),
        (format!("GET /x HTTP/1.1\r\n{auth}\0: y\r\n\r\n"), inner),
    ] {
        raw(proxy.address, format!("{head}{body}").as_bytes()).await;
        for request in seen.requests.lock().iter() {
            assert_ne!(request.method(), "DELETE", "{head:?}");
            assert_eq!(request.headers()[header::AUTHORIZATION], bearer(ALGORITHM), "{head:?}");
        }
    }
    assert_eq!(proxy.get("/task/1").await.status, 200);
}

/// The same attacks as from within an algorithm (`tests/e2e/test_hostile.py`), with a token. The statuses are the same.
#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_with_a_token_too() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = format!("{}Connection: close\r\n", authorization());
    for (line, headers, body, status) in [
        ("POST /task", "Content-Length: 5\r\nContent-Length: 50\r\n", "hello", "400"),
        ("POST /task", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", "400"),
        ("POST /task", "Content-Length: -1\r\n", "", "400"),
        ("POST /task", "Content-Length: +5\r\n", "hello", "400"),
        ("POST /task", "Content-Length : 5\r\n", "hello", "400"),
        ("GET /version", "X-Odd: a\0b\r\n", "", "400"),
        ("CONNECT 10.96.0.1:443", "", "", "405"),
        ("GET /../socket.io/?transport=polling&EIO=4", "", "", "400"),
        ("GET /%2e%2e/socket.io/?transport=polling&EIO=4", "", "", "400"),
        ("GET /\\..\\organization", "", "", "400"),
    ] {
        let got = raw(proxy.address, format!("{line} HTTP/1.1\r\n{auth}{headers}\r\n{body}").as_bytes()).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{line} {headers}: {got}");
    }
    assert_eq!(seen.count(), 0);
    // The proxy reduces these to regular requests, which the server answers.
    let chunks = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    for (line, headers, body, path) in [
        ("POST /blobstream", chunks, "0\r\n\r\nGET /organization HTTP/1.1\r\n\r\n", "/api/blobstream"),
        ("GET http://10.96.0.1/organization", "", "", "/api/organization"),
        ("GET //organization", "", "", "/api/organization"),
        ("GET /organization", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", "/api/organization"),
    ] {
        let before = seen.count();
        let got = raw(proxy.address, format!("{line} HTTP/1.1\r\n{auth}{headers}\r\n{body}").as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{line} {headers}: {got}");
        assert!(seen.count() <= before + 1 && seen.last().uri().path() == path, "{line} {headers}");
        assert!(seen.last().body().is_empty() && !seen.last().headers().contains_key(header::UPGRADE), "{line}");
    }
    let wrong = format!("POST /task HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n");
    let got = raw(proxy.address, wrong.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
}

/// Login and recovery have one canonical path. Servers or front ends may take other paths for it.
#[tokio::test]
async fn no_way_of_writing_leads_to_log_ins_or_to_another_protocol() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = format!("{}Connection: close\r\n", authorization());
    for place in ["token/user", "token/node", "token/container", "recover/lost", "recover/reset", "password/change"] {
        for target in [
            format!("http://{to}/api/{place}"),
            format!("HTTP://user:password@{to}/{place}"),
            format!("https://x/{place}"),
            format!("/%74oken/../{place}"),
            format!("/task/../{place}"),
            format!("/task;/../{place}"),
            format!("/task%3b/{place}"),
            format!("/task%2f..%2f{place}"),
            format!("/task%00/{place}"),
            format!("/task?/{place}"),
            format!("/task/{place}"),
            format!("/api/api/{place}"),
            format!("/api/%61pi/{place}"),
            format!("//{place}"),
            format!("/./{place}"),
            format!("/{}", place.replace('/', "//")),
            format!("/{}", place.to_uppercase()),
            format!("/{}", place.replace('o', "%6F")),
            format!("/{}", place.replace('o', "%256F")),
            format!("/{place}/"),
            format!("/{place}?task_id=7"),
            format!("/{place}%3Fx"),
        ] {
            for method in ["POST", "GET", "PUT", "PATCH", "OPTIONS"] {
                let body = r#"{"username": "root", "password": "root"}"#;
                let (length, body) = if method.starts_with('P') { (body.len(), body) } else { (0, "") };
                let head = format!("{method} {target} HTTP/1.1\r\n{auth}Content-Length: {length}\r\n\r\n");
                raw(proxy.address, format!("{head}{body}").as_bytes()).await;
            }
        }
    }
    // Only lists of tasks were forwarded; the server does not read their query as a path.
    for request in seen.requests.lock().iter() {
        assert!(request.uri().path() == "/api/task" && request.method() != "POST", "{request:?}");
    }
    let before = seen.count();
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let got = raw(proxy.address, settings).await;
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 4"), "{got}");
    for line in
        ["OPTIONS *", "GET *", "CONNECT /task", "GET task", "GET ", "GET http:///task", "GET http://", "POST ?x"]
    {
        let got = raw(proxy.address, format!("{line} HTTP/1.1\r\n{auth}\r\n").as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 4"), "{line}: {got}");
    }
    assert_eq!(seen.count(), before);
    // A request for another protocol is answered in HTTP/1.1, and the bytes after it are a regular request.
    let upgrade = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let then = format!("POST /token/user HTTP/1.1\r\n{auth}Content-Length: 2\r\n\r\n{{}}");
    let head = format!("GET /task/7 HTTP/1.1\r\n{}{upgrade}\r\n{then}", authorization());
    let got = raw(proxy.address, head.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("HTTP/1.1 403"), "{got}");
    assert_eq!((seen.count(), seen.last().uri().path()), (before + 1, "/api/task/7"));
    assert!(!seen.last().headers().keys().any(|name| name == header::UPGRADE || name.as_str() == "http2-settings"));
}

#[tokio::test]
async fn heads_of_any_size_cost_little() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = authorization();
    let many: String = (0..10_000).map(|number| format!("X-{number}: y\r\n")).collect();
    for head in [
        format!("GET /x HTTP/1.1\r\n{auth}X: {}\r\n\r\n", "a".repeat(10_000_000)),
        format!("GET /{} HTTP/1.1\r\n{auth}\r\n", "a".repeat(10_000_000)),
        format!("GET /x HTTP/1.1\r\n{auth}{many}\r\n"),
        "a".repeat(10_000_000),
    ] {
        let got = raw(proxy.address, head.as_bytes()).await;
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 4"), "{got}");
    }
    assert_eq!(seen.count(), 0);
    assert_eq!(proxy.get("/task/1").await.status, 200);
}

#[tokio::test]
async fn path_tricks_are_refused() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    for path in
        ["/../socket.io/?x", "/%2e%2e/socket.io/", "/a%2f..%2fsocket.io", "/api/../../etc/passwd", "/a%5c..%5cb"]
    {
        assert_eq!(proxy.get(path).await.status, 400, "{path}");
    }
    assert_eq!(seen.count(), 0);
    assert_eq!(proxy.ask("TRACE", "/task", "").await.status, 405);
    // A target with another host goes to the server, too.
    assert_eq!(proxy.get("http://elsewhere.example.org/task/1").await.status, 200);
    assert_eq!(seen.last().headers()[header::HOST], to.to_string());
}

#[tokio::test]
async fn one_caller_cannot_take_all_places() {
    let (to, _) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let mut kept = Vec::new();
    for _ in 0..200 {
        kept.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let counts = proxy.shared.connections.counts();
    assert_eq!((counts.unauthenticated, counts.authenticated, counts.evictions), (51, 0, 149));
    // A caller at another address is served.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(proxy.address).await.unwrap();
    let request = format!("GET /task/1 HTTP/1.1\r\n{}\r\n", authorization());
    other.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // So is one at the same address.
    assert_eq!(proxy.get("/task/1").await.status, 200);
    drop(kept);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(proxy.get("/task/1").await.status, 200, "places become free again");
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_by_itself() {
    let (to, _) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let request = format!("POST /task HTTP/1.1\r\n{}Content-Length: 1000000\r\n\r\nonly this", authorization());
    let began = std::time::Instant::now();
    let got = raw(proxy.address, request.as_bytes()).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
}
