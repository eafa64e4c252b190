//! Tests tasks that would fill disk or memory, in an encrypted collaboration: each caller has its limit, and reservations are released.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::encrypted::{key, organizations};
use super::fake_server::{Seen, server};
use super::*;
use crate::caller::tests::client;
use crate::encrypted_task::{Quotas, TaskReader};

/// A task with an input of this many bytes.
fn task(length: usize) -> String {
    json!({ "image": "i", "organizations": [{ "id": 1, "input": STANDARD.encode(vec![7; length]) }] }).to_string()
}

/// A token of an algorithm of this task.
fn token(task: u64) -> HeaderValue {
    bearer(&ALGORITHM.replace("\"task_id\":7", &format!("\"task_id\":{task}")))
}

async fn with_disk(bytes: u64) -> (Served, Seen) {
    let (to, seen) = organizations().await;
    let proxy =
        proxy_of(to, Cryptor::Encrypted(key(0)), |shared| shared.quotas = Quotas::new(bytes, &RESOURCES.memory)).await;
    (proxy, seen)
}

impl Served {
    /// Waits until all reservations are released.
    async fn comes_back(&self) {
        for _ in 0..1000 {
            if self.shared.quotas.used() == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still taken: {:?}", self.shared.quotas.used());
    }

    /// Sends a task that starts with these bytes and never ends, and returns the response.
    async fn endless(&self, token: HeaderValue, begins: &str, goes_on: &[u8], pause: Duration) -> Got {
        self.endless_at("/task", token, begins, goes_on, pause).await
    }

    /// The same of any request with a body.
    pub async fn endless_at(
        &self,
        path: &str,
        token: HeaderValue,
        begins: &str,
        goes_on: &[u8],
        pause: Duration,
    ) -> Got {
        let mut stream = stream_from("127.0.0.1", self.address).await;
        let (mut reader, mut writer) = stream.split();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: proxyserver\r\nAuthorization: {}\r\nX-Public-Key: {}\r\nContent-Length: {}\r\n\r\n{begins}",
            token.to_str().unwrap(),
            key(0).public().to_server(),
            1u64 << 50
        );
        let send = async {
            let mut sent = writer.write_all(head.as_bytes()).await;
            // The proxy stops reading once it has answered.
            while sent.is_ok() {
                tokio::time::sleep(pause).await;
                sent = writer.write_all(goes_on).await;
            }
            std::future::pending::<()>().await;
        };
        let mut got = Vec::new();
        let receive = async {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece).await {
                got.extend_from_slice(&piece[..length]);
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
        }
        let got = String::from_utf8(got).unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {got}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = http::HeaderMap::new();
        if head.to_lowercase().contains("retry-after") {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        Got { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }
}

const INPUT: &str = r#"{"organizations": [{"id": 1, "input": ""#;
const CHARACTERS: &[u8] = &[b'A'; 16 * 1024];

#[tokio::test]
async fn an_input_without_an_end_is_refused_and_its_room_comes_back() {
    let (proxy, seen) = with_disk(4 << 20).await;
    let got = proxy.endless(token(7), INPUT, CHARACTERS, Duration::ZERO).await;
    assert_eq!(got.status, 413);
    let says = got.json()["msg"].as_str().unwrap().to_owned();
    assert!(says.contains("bytes for an algorithm") && says.contains("proxy.tmpSize"), "{says}");
    proxy.comes_back().await;
    // The refused task did not reach the server, and a smaller one is forwarded.
    assert!(seen.requests.lock().iter().all(|request| request.method() != "POST"));
    assert_eq!(proxy.ask("POST", "/task", task(1_500_000)).await.status, 201);
    proxy.comes_back().await;
}

#[tokio::test]
async fn an_input_that_is_sent_slowly_takes_its_own_part_of_the_disk_alone() {
    let (proxy, _) = with_disk(4 << 20).await;
    let begins = format!("{INPUT}{}", "A".repeat(2_000_000));
    let slow = proxy.endless(token(7), &begins, b"A", Duration::from_millis(100));
    let others = async {
        while proxy.shared.quotas.used().0 < 1_000_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A second task of the same caller has no room beside the first one; a task of another caller does.
        let got = proxy.ask("POST", "/task", task(1_500_000)).await;
        assert_eq!(got.status, 507, "{}", got.text());
        assert!(got.json()["msg"].as_str().unwrap().contains("Try again later"), "{}", got.text());
        proxy.shared.owners.trust(&HeaderMap::from_iter([(header::AUTHORIZATION, token(8))]));
        let other = Request::post("/task").header(header::AUTHORIZATION, token(8));
        let got = proxy.send_from("127.0.0.2", other.body(Full::new(task(1_500_000).into())).unwrap()).await;
        assert_eq!(got.status, 201, "{}", got.text());
    };
    tokio::select! {
        got = slow => panic!("it never ends: {got:?}"),
        () = others => {}
    }
    // The caller has disconnected.
    proxy.comes_back().await;
}

#[tokio::test]
async fn a_task_that_comes_too_slowly_is_not_waited_for() {
    let (to, _) = organizations().await;
    let within = Duration::from_millis(300);
    let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), |shared| shared.timeouts.upload = within).await;
    // The same for a task that adds no input, however fast its bytes arrive.
    for (goes_on, pause) in [(&b"A"[..], 20), (&[b' '; 16 * 1024], 0)] {
        let got = proxy.endless(token(7), INPUT, goes_on, Duration::from_millis(pause)).await;
        assert_eq!(got.status, 408, "{}", got.text());
        proxy.comes_back().await;
    }
}

#[tokio::test]
async fn what_is_no_input_is_kept_small() {
    let (proxy, seen) = with_disk(1 << 30).await;
    let many: Vec<_> = (0..2_000).map(|_| json!({ "id": 1, "input": "" })).collect();
    for task in [
        json!({ "name": "x".repeat(300_000), "organizations": [{ "id": 1, "input": "" }] }),
        json!({ "organizations": many }),
    ] {
        let got = proxy.ask("POST", "/task", task.to_string()).await;
        assert_eq!(got.status, 413, "{}", got.text());
    }
    assert!(seen.requests.lock().iter().all(|request| request.method() != "POST"));
    // Many tasks at once: a caller that has reached its limit gets an error.
    let name = r#"{"name": ""#;
    let begins = format!("{name}{}", "x".repeat(250_000));
    let mut slow: futures::stream::FuturesUnordered<_> =
        (0..60).map(|_| proxy.endless(token(7), &begins, b"x", Duration::from_millis(100))).collect();
    let got = slow.next().await.unwrap();
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.headers.contains_key(header::RETRY_AFTER));
    drop(slow);
    proxy.comes_back().await;
}

/// Tokens never expire, so one pod may have a token for each task that it has ever run.
#[tokio::test]
async fn many_tokens_at_one_address_leave_memory_for_others() {
    let (to, _) = organizations().await;
    let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), |shared| {
        shared.quotas = Quotas::new(1 << 30, &RESOURCES.memory);
        // The timeouts keep the hoard in place even on a busy machine.
        (shared.timeouts.upload, shared.timeouts.idle) = (Duration::from_secs(300), Duration::from_secs(60));
    })
    .await;
    let begins = format!("{}{}", r#"{"name": ""#, "x".repeat(250_000));
    for task in 7..40 {
        proxy.shared.owners.trust(&HeaderMap::from_iter([(header::AUTHORIZATION, token(task))]));
    }
    let hoard: futures::stream::FuturesUnordered<_> = (0..200)
        .map(|number| proxy.endless(token(7 + number % 32), &begins, b"x", Duration::from_millis(100)))
        .collect();
    // The proxy refuses these tasks, or stops waiting for them.
    let hoard =
        hoard.for_each(|got| async move { assert!(matches!(got.status.as_u16(), 503 | 408), "{}", got.text()) });
    let others = async {
        while proxy.shared.quotas.used().1 < (8 << 20) - 600_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..20 {
            let other = Request::post("/task").header(header::AUTHORIZATION, token(39));
            let got = proxy.send_from("127.0.0.2", other.body(Full::new(task(1_500_000).into())).unwrap()).await;
            assert_eq!(got.status, 201, "{}", got.text());
        }
    };
    tokio::select! {
        () = hoard => panic!("some are kept"),
        () = others => {}
    }
    proxy.comes_back().await;
}

#[tokio::test]
async fn what_is_taken_is_held_until_the_task_is_sent() {
    let quotas = Quotas::new(4 << 20, &RESOURCES.memory);
    let mut reading = TaskReader::new(&quotas, client(7, 1));
    reading.feed(&task(400_000).into()).await.unwrap();
    let sends =
        reading.finish("i").unwrap().encrypted(&[key(0).public().clone()], &Arc::default(), client(7, 1)).unwrap();
    let (disk, memory) = quotas.used();
    assert!(disk == 256 * 1024 && memory > 400_000, "{disk} {memory}");
    let sent = sends.collect().await.unwrap().to_bytes();
    assert!(sent.len() > 400_000);
    assert_eq!(quotas.used(), (0, 0));
}

/// The proxy stores nothing for an invented token.
#[tokio::test]
async fn nothing_is_kept_for_a_token_that_the_server_does_not_accept() {
    let (to, seen) = server(|request, _| async move {
        let accepted = request.headers()[header::AUTHORIZATION] == token(7);
        match (request.method().as_str(), accepted) {
            (_, false) => answer(422, r#"{"msg": "Signature verification failed"}"#),
            ("POST", _) => answer(201, "{}"),
            _ => answer(200, json!({ "id": 2, "name": "x", "public_key": key(0).public().to_server() }).to_string()),
        }
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    for invented in [token(8), bearer(r#"{"client_type":"container","sub":{"image":"i"}}"#)] {
        let got = proxy.endless(invented, INPUT, CHARACTERS, Duration::ZERO).await;
        assert_eq!((got.status.as_u16(), got.text()), (422, r#"{"msg": "Signature verification failed"}"#));
    }
    assert_eq!(proxy.shared.quotas.used(), (0, 0));
    let asked: Vec<String> = seen.requests.lock().iter().map(|request| request.uri().to_string()).collect();
    assert_eq!(asked, ["/api/organization/2", "/api/organization?per_page=1"]);
    // The server is asked once about a valid token.
    for _ in 0..3 {
        assert_eq!(proxy.ask("POST", "/task", task(10)).await.status, 201);
    }
    assert_eq!(seen.count(), 2 + 2 + 3, "whose token it is, one key, three tasks");
}
