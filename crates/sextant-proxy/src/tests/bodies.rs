//! Tests unexpected and unread bodies: their remains must not be read as another request or answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake_server::{bodiless, server};
use super::hostile::{authorization, raw};
use super::*;

const SMUGGLED: &str = "GET /api/SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n";

/// A subtask with the caller's image.
const TASK: &str = r#"{"image": "i"}"#;

#[tokio::test]
async fn a_body_with_a_method_that_has_none_is_refused() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = authorization();
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let chunks = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "get", "Delete", "PROPFIND"] {
        for path in ["/task/7", "/version", "/result?task_id=1", "/api/task"] {
            for (framing, body) in [
                (length.as_str(), SMUGGLED),
                ("Content-Length: 1\r\n", "x"),
                ("Transfer-Encoding: chunked\r\n", chunks.as_str()),
                ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                // A body that is announced but not sent.
                ("Content-Length: 5\r\n", ""),
                ("Expect: 100-continue\r\nContent-Length: 5\r\n", ""),
            ] {
                let request = format!("{method} {path} HTTP/1.1\r\n{auth}{framing}\r\n{body}{SMUGGLED}");
                let got = raw(proxy.address, request.as_bytes()).await;
                // For an unknown method, the proxy may return 405 first.
                assert!(got.starts_with("HTTP/1.1 400") || got.starts_with("HTTP/1.1 405"), "{request}: {got}");
                assert!(got.contains("connection: close"), "{request}: {got}");
                assert_eq!(got.matches("HTTP/1.1").count(), 1, "{request}: {got}");
            }
        }
    }
    assert_eq!(seen.count(), 0);
    // Python's requests sends this header.
    for method in ["GET", "HEAD", "OPTIONS"] {
        let request = format!("{method} /task/7 HTTP/1.1\r\n{auth}Content-Length: 0\r\nConnection: close\r\n\r\n");
        let got = raw(proxy.address, request.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{method}: {got}");
    }
}

#[tokio::test]
async fn a_connection_with_the_server_is_not_used_again_after_a_body_that_it_may_not_have_read() {
    for (head, passes) in [
        ("HTTP/1.1 401 UNAUTHORIZED\r\ncontent-length: 2\r\n\r\n{}", "401"),
        ("HTTP/1.1 413 TOO LARGE\r\ncontent-length: 2\r\n\r\n{}", "413"),
        ("HTTP/1.1 500 ERROR\r\ncontent-length: 2\r\n\r\n{}", "500"),
    ] {
        let (to, seen) = bodiless(move |_| head.as_bytes()).await;
        let proxy = proxy(to).await;
        for round in 1..=3 {
            let got = proxy.ask("POST", "/task", TASK).await;
            assert_eq!(got.status.as_str(), passes);
            assert_eq!(seen.connections(), round, "{head}");
        }
    }
}

#[tokio::test]
async fn nor_after_an_answer_before_the_bodys_end_and_the_algorithms_connection_is_closed() {
    let (to, seen) = bodiless(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let proxy = proxy(to).await;
    let auth = authorization();
    for (framing, begins) in
        [("Content-Length: 500\r\n", "begins"), ("Transfer-Encoding: chunked\r\n", "6\r\nbegins\r\n")]
    {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(format!("POST /blobstream HTTP/1.1\r\n{auth}{framing}\r\n{begins}").as_bytes()).await.unwrap();
        let mut got = vec![0; 4096];
        let length = stream.read(&mut got).await.unwrap();
        let got = String::from_utf8_lossy(&got[..length]).into_owned();
        assert!(got.starts_with("HTTP/1.1 200") && got.contains("connection: close"), "{got}");
        // These bytes are neither the rest of a body nor a request.
        let _ = stream.write_all(SMUGGLED.as_bytes()).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{rest:?}");
        let before = seen.connections();
        assert_eq!(proxy.get(&format!("/task/{before}")).await.status, 200);
        assert_eq!(seen.connections(), before + 1);
    }
}

#[tokio::test]
async fn the_algorithms_connection_is_kept_where_all_was_read() {
    let (to, _) = server(|_, _| async { answer(201, "{}") }).await;
    let proxy = proxy(to).await;
    let auth = authorization();
    let post = format!("POST /task HTTP/1.1\r\n{auth}Content-Length: {}\r\n\r\n{TASK}", TASK.len());
    let chunked = format!(
        "POST /task HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{TASK}\r\n0\r\n\r\n",
        TASK.len()
    );
    let get = format!("GET /task/7 HTTP/1.1\r\n{auth}\r\n");
    let got = raw(proxy.address, format!("{post}{chunked}{get}").as_bytes()).await;
    assert_eq!(got.matches("HTTP/1.1 201").count(), 3, "{got}");
    assert!(!got.contains("connection: close"), "{got}");
}

/// Bytes after an answer that must not have a body are not the next answer.
#[tokio::test]
async fn an_answer_without_a_body_ends_the_connection_with_the_server() {
    for answer in [
        b"HTTP/1.1 204 NO CONTENT\r\ncontent-length: 40\r\n\r\n".as_slice(),
        b"HTTP/1.1 204 NO CONTENT\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 NO CONTENT\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong",
        b"HTTP/1.1 304 NOT MODIFIED\r\ncontent-length: 40\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong",
        b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong",
    ] {
        let is_head = answer.starts_with(b"HTTP/1.1 200");
        let (to, seen) = bodiless(move |head| match head.contains("?odd") {
            true => answer,
            false => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright",
        })
        .await;
        let proxy = proxy(to).await;
        let auth = authorization();
        for round in 1..=3 {
            let method = if is_head { "HEAD" } else { "GET" };
            let request = format!(
                "{method} /task/{round}?odd HTTP/1.1\r\n{auth}\r\nGET /task/{round} HTTP/1.1\r\n{auth}Connection: close\r\n\r\n"
            );
            let got = raw(proxy.address, request.as_bytes()).await;
            let (first, second) = got.split_once("\r\n\r\n").unwrap();
            assert!(second.starts_with("HTTP/1.1 200") && second.ends_with("right"), "{got}");
            assert!(!first.starts_with("HTTP/1.1 204") || !first.contains("content-length"), "{got}");
            assert!(!first.contains("transfer-encoding"), "{got}");
        }
        assert_eq!(seen.connections(), 6 - 2, "one after each odd answer, and the first");
    }
}

#[tokio::test]
async fn another_protocol_is_no_answer() {
    for sends in [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".as_slice(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 150 Odd\r\n\r\n",
        b"HTTP/1.1 199 Odd\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let (to, _) = super::fake_server::raw(sends).await;
        let proxy = proxy(to).await;
        for (method, upgrade) in [("GET", ""), ("POST", ""), ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n")] {
            let auth = authorization();
            let length = match method {
                "POST" => format!("Content-Length: {}\r\n\r\n{TASK}", TASK.len()),
                _ => "\r\n".to_owned(),
            };
            let got =
                raw_within(proxy.address, format!("{method} /task HTTP/1.1\r\n{auth}{upgrade}{length}").as_bytes())
                    .await;
            assert!(got.starts_with("HTTP/1.1 502"), "{method} {}: {got}", String::from_utf8_lossy(sends));
        }
    }
}

/// Sends a request that the proxy may retry for a while, and returns the answer's beginning.
async fn raw_within(to: SocketAddr, sends: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(sends).await.unwrap();
    let mut got = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut got)).await.unwrap().unwrap();
    String::from_utf8_lossy(&got[..length]).into_owned()
}
