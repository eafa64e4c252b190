//! Tests servers that are unavailable, faulty or silent.

use std::sync::atomic::Ordering;

use futures::StreamExt as _;

use super::fake_server::{Seen, raw, serve, server};
use super::*;

/// Only safe requests are retried, and only after errors that may be temporary.
#[tokio::test]
async fn what_is_tried_again() {
    for (method, statuses, status, requests) in [
        ("GET", vec![503, 500, 502, 200], 200, 4),
        ("HEAD", vec![500, 200], 200, 2),
        ("GET", vec![404, 200], 404, 1),
        ("GET", vec![401, 200], 401, 1),
        ("GET", vec![429, 200], 429, 1),
        ("GET", vec![501, 200], 501, 1),
        ("GET", vec![500; 9], 500, 4),
        ("POST", vec![503, 200], 503, 1),
        ("OPTIONS", vec![500, 200], 200, 2),
    ] {
        let told = statuses.clone();
        let (to, seen) = server(move |_, number| {
            let status = told[number - 1];
            async move { answer(status, r#"{"msg": "the server's own words"}"#) }
        })
        .await;
        let proxy = proxy(to).await;
        let got = proxy.ask(method, "/task", if method == "POST" { TASK } else { "" }).await;
        assert_eq!((got.status.as_u16(), seen.count()), (status, requests), "{method} {statuses:?}");
        if method != "HEAD" {
            assert_eq!(got.json()["msg"], "the server's own words");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_then_told_of() {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = origin.local_addr().unwrap();
    drop(origin);
    let proxy = proxy(to).await;
    for method in ["GET", "POST"] {
        let got = proxy.ask(method, "/task", if method == "POST" { TASK } else { "" }).await;
        assert_eq!(got.status, 503);
        assert!(got.json()["msg"].as_str().unwrap().contains("can't be reached"), "{}", got.text());
        assert!(!got.text().contains("127.0.0.1"), "addresses are the operator's");
        assert!(got.headers.contains_key(header::RETRY_AFTER));
    }
    let seen = Seen::default();
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = TcpListener::bind(to).await.unwrap();
        tokio::spawn(serve(listener, seen.clone(), |_, _| async { answer(201, "{}") }));
    };
    let (got, ()) = tokio::join!(proxy.ask("POST", "/task", TASK), late);
    assert_eq!(got.status, 201, "it was not sent before, so it may be sent now");
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_task_is_never_sent_twice() {
    for sends in [b"".as_slice(), b"HTTP/1.1 20", b"HTTP/1.1 banana\r\n\r\n"] {
        let (to, heads) = raw(sends).await;
        let proxy = proxy(to).await;
        let got = proxy.ask("POST", "/task", TASK).await;
        assert_eq!(got.status, 502);
        assert!(got.json()["msg"].as_str().unwrap().contains("carried out or not"), "{}", got.text());
        assert_eq!(heads.load(Ordering::SeqCst), 1);
        let got = proxy.get("/task/1").await;
        assert_eq!(got.status, 502);
        assert!(heads.load(Ordering::SeqCst) > 3, "what does no harm is tried again");
    }
}

/// A server that closes kept connections at any time.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_harms_nobody() {
    let (to, heads) = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let proxy = proxy(to).await;
    for round in 1..=20 {
        let got = proxy.ask("POST", "/task", TASK).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "{}"), "round {round}");
        assert_eq!(heads.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn silence_is_told_of() {
    let (to, seen) = server(|_, _| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        answer(200, "")
    })
    .await;
    let proxy = proxy(to).await;
    let got = proxy.ask("POST", "/task", TASK).await;
    assert_eq!((got.status.as_u16(), seen.count()), (504, 1));
    assert!(got.json()["msg"].as_str().unwrap().contains("did not answer"), "{}", got.text());
}

/// A large task on a slow network may take longer than the idle timeout.
#[tokio::test]
async fn what_goes_on_is_no_silence() {
    let (to, seen) = server(|request, _| async move {
        let length = request.into_body().len();
        answer(201, length.to_string())
    })
    .await;
    let proxy = proxy(to).await;
    let begins = r#"{"image": "i", "x": ""#;
    let pieces: Vec<&'static [u8]> = [vec![begins.as_bytes()], vec![&[b'x'; 20_000]; 10], vec![b"\"}"]].concat();
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let pieces = futures::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(piece)))
    });
    let request = Request::post("/task")
        .header(header::HOST, "proxyserver")
        .header(header::AUTHORIZATION, bearer(ALGORITHM))
        .body(http_body_util::StreamBody::new(pieces.boxed()))
        .unwrap();
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    assert_eq!((parts.status.as_u16(), seen.count()), (201, 1));
    assert_eq!(body.collect().await.unwrap().to_bytes(), length.to_string());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for sends in [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"data\"".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"data\"\r\n",
    ] {
        let (to, _) = raw(sends).await;
        let proxy = proxy(to).await;
        let whole = match proxy.begin("/task/7").await {
            Ok(answer) if answer.status() == 502 => false,
            Ok(answer) => answer.into_body().collect().await.is_ok(),
            Err(_) => false,
        };
        assert!(!whole, "half an answer must not look like a whole one");
    }
}

#[tokio::test]
async fn redirects_are_a_mistake_of_the_configuration() {
    let (to, seen) = server(|_, _| async {
        let mut redirect = answer(301, "");
        redirect.headers_mut().insert(header::LOCATION, HeaderValue::from_static("https://elsewhere.example.org/"));
        redirect
    })
    .await;
    let proxy = proxy(to).await;
    let got = proxy.get("/task/7").await;
    assert_eq!((got.status.as_u16(), seen.count()), (502, 1));
    assert!(got.text().contains("server_url") && !got.text().contains("elsewhere"), "{}", got.text());
}
