//! Tests algorithms that request much and read nothing: the proxy holds a bounded amount for them.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::encrypted::{bytes, key, message};
use super::fake_server::server;
use super::*;

/// Returns a page of encrypted results, as the server sends it and as the caller gets it.
async fn page(count: usize, length: usize) -> (String, String) {
    let plain = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes(length));
    let message = message(bytes(length), 0).await;
    let page = |result: &str| {
        let data: Vec<_> = (0..count).map(|_| json!({ "id": 1, "result": result, "task": { "id": 1 } })).collect();
        json!({ "data": data, "links": {} }).to_string()
    };
    (page(&message), page(&plain))
}

async fn with_page(page: String) -> Served {
    let (to, _) = server(move |request, _| {
        let text = match request.uri().path() {
            "/api/task/1" => r#"{"id": 1, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}"#.to_owned(),
            _ => page.clone(),
        };
        async move { answer(200, text) }
    })
    .await;
    // Who reads nothing is waited for, here.
    proxy_of(to, Cryptor::Encrypted(key(0)), |shared| shared.timeouts.upload = Duration::from_secs(600)).await
}

/// Requests results on a new connection and reads nothing.
async fn unread(proxy: &Served, number: usize, more: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(proxy.address).await.unwrap();
    let token = bearer(ALGORITHM);
    let request = format!(
        "GET /result?task_id=1&x={number} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n{more}",
        token.to_str().unwrap()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn results_that_nobody_reads_take_no_more_than_their_part() {
    let (there, here) = page(10, 190_000).await;
    let proxy = with_page(there).await;
    let mut all = Vec::new();
    let mut most = 0;
    for number in 0..20 {
        all.push(unread(&proxy, number, "").await);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            most = most.max(proxy.shared.quotas.used().1);
        }
    }
    let each = RESOURCES.memory.results / 4;
    assert!(most > each / 3 && most <= each, "{most}");
    // A request that is read gets everything, although the caller's share is used up.
    assert!(proxy.get("/result?task_id=1&x=read").await.text() == here);
    let mut text = Vec::new();
    let mut first = all.swap_remove(0);
    while !text.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(first.read_buf(&mut text).await.unwrap(), 0);
    }
    drop((all, first));
    for _ in 0..1000 {
        if proxy.shared.quotas.used() == (0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("still taken: {:?}", proxy.shared.quotas.used());
}

/// Results are decrypted even if no memory is left to hold them.
#[tokio::test]
async fn results_are_decrypted_however_little_room_there_is() {
    for length in [0, 100, 11_000, 13_000, 100_000, 190_000, 300_000] {
        let (there, here) = page(3, length).await;
        let (to, _) = server(move |request, _| {
            let text = match request.uri().path() {
                "/api/task/1" => r#"{"id": 1, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}"#.to_owned(),
                _ => there.clone(),
            };
            async move { answer(200, text) }
        })
        .await;
        for results in [0, 100_000, 8 << 20] {
            let memory = Memory { results, ..RESOURCES.memory };
            let set = |shared: &mut Shared| shared.quotas = crate::encrypted_task::Quotas::new(1 << 20, &memory);
            let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), set).await;
            assert!(proxy.get("/result?task_id=1").await.text() == here, "{length} bytes, room for {results}");
        }
    }
}

#[tokio::test]
async fn heads_are_no_larger_than_servers_take_them() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let long = "y".repeat(8 * 1024);
    assert_eq!(proxy.get(&format!("/task/1?x={long}")).await.status, 414);
    let fat = || Request::get("/task/1").header(header::AUTHORIZATION, bearer(ALGORITHM));
    let got = proxy.send(fat().header(header::ACCEPT, &long).body(Full::default()).unwrap()).await;
    assert_eq!((got.status.as_u16(), seen.count()), (431, 0));
    // A token may be long, because it contains the names of all databases.
    let token = bearer(
        &ALGORITHM.replace("\"image\":\"i\"", &format!("\"image\":\"i\",\"databases\":\"{}\"", "d".repeat(20_000))),
    );
    let request = Request::get("/task/1").header(header::AUTHORIZATION, token).header(header::ACCEPT, &long[..8000]);
    assert_eq!(proxy.send(request.body(Full::default()).unwrap()).await.status, 200);
}
