//! Algorithms that send or read slowly: what the server has for them is not held for as long as they like.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake_server::server;
use super::*;

const DRIP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(1);
/// Much longer than that.
const LONG: Duration = Duration::from_secs(60);

async fn impatient(to: SocketAddr) -> Served {
    proxy_of(to, Cryptor::Plain, |shared| shared.timeouts.upload = PATIENCE).await
}

#[tokio::test]
async fn what_is_sent_too_slowly_is_not_waited_for() {
    let (to, seen) = server(|_, _| async { answer(201, "{}") }).await;
    let proxy = impatient(to).await;
    let token = || bearer(ALGORITHM);
    let short = r#"{"image": "i", "name": ""#.to_owned();
    // Of a long one a part is at the server by then.
    let long = format!("{short}{}", "A".repeat(64 * 1024));
    for (path, begins, status) in
        [("/task", &short, 408), ("/task", &long, 408), ("/blobstream", &short, 502), ("/blobstream", &long, 502)]
    {
        let slow = proxy.endless_at(path, token(), begins, b"A", DRIP);
        let got = tokio::time::timeout(LONG, slow).await.unwrap_or_else(|_| panic!("{path} is waited for"));
        assert_eq!(got.status, status, "{path}: {}", got.text());
    }
    // What has a pace is whole, however long it takes.
    let task = format!(r#"{{"image": "i", "name": "{}"}}"#, "A".repeat(512 * 1024));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let token = token();
    let head = format!(
        "POST /task HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n",
        token.to_str().unwrap(),
        task.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in task.as_bytes().chunks(64 * 1024) {
        tokio::time::sleep(DRIP).await;
        stream.write_all(piece).await.unwrap();
    }
    let mut got = [0; 12];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 201");
    assert_eq!(seen.last().body().len(), task.len());
}

/// How much of an answer comes to who reads it slowly, and no more once the connection is closed.
async fn reads_slowly(proxy: &Served) -> usize {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(proxy.address).await.unwrap();
    let token = bearer(ALGORITHM);
    let request = format!("GET /task/1 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", token.to_str().unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut got, mut piece) = (0, [0; 1024]);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        got += length;
        tokio::time::sleep(DRIP).await;
    }
    got
}

#[tokio::test]
async fn an_answer_that_is_read_too_slowly_is_broken_off() {
    let long = format!(r#"{{"x": "{}"}}"#, "A".repeat(8 << 20));
    let whole = long.clone();
    let (to, _) = server(move |_, _| {
        let long = long.clone();
        async move { answer(200, long) }
    })
    .await;
    let proxy = impatient(to).await;
    let slow = tokio::time::timeout(LONG, reads_slowly(&proxy)).await.expect("it is held for who reads slowly");
    assert!(slow < whole.len() / 2, "{slow}");
    assert!(proxy.get("/task/1").await.text() == whole, "others get all of it");
}
