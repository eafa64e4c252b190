//! Checks that inputs and results of any size take no memory. Runs in its own process, because it reads the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use memory_testing::http::Head;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use vantage6::{
    Client, RunId, RunReport, RunStatus, ServerUrl,
    encoding::{self, Payload},
    encryption::{PrivateKey, decrypt, encrypt},
};

const MEGABYTES: usize = 60;
/// Base64 of a megabyte and half a one, in which it comes out even.
const PIECE: usize = 3 * 512 * 1024;

/// Gives a token to who logs in, takes results without keeping them, and gives out a large input.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = BufReader::new(connection);
                let head = Head::read(&mut connection).await;
                head.discard_body(&mut connection).await;
                let answer: &[&str] = match head.first.split(' ').next().unwrap() {
                    "POST" => &[r#"{"access_token": "token", "node_url": "/api/node/1"}"#],
                    "PATCH" => &[r#"{"id": 1, "finished_at": "2024-01-02T03:04:05"}"#],
                    _ => &[r#"{"id": 1, "input": ""#, r#"", "log": null}"#],
                };
                let size: usize = answer.iter().map(|part| part.len()).sum();
                let input = if answer.len() > 1 { MEGABYTES * 1024 * 1024 } else { 0 };
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", size + input);
                connection.write_all(head.as_bytes()).await.unwrap();
                connection.write_all(answer[0].as_bytes()).await.unwrap();
                if input > 0 {
                    let text = vec![b'A'; 1024 * 1024];
                    for _ in 0..MEGABYTES {
                        connection.write_all(&text).await.unwrap();
                    }
                    connection.write_all(answer[1].as_bytes()).await.unwrap();
                }
                connection.shutdown().await.ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn sixty_megabytes_each_way_and_encrypted_take_a_few() {
    let url = ServerUrl::new(&server().await, None, "/api").unwrap();
    let client = Client::builder(url, "key".to_owned().into()).build().unwrap();
    client.access_token().await.unwrap();
    let before = memory_testing::peak();

    let count = MEGABYTES * 1024 * 1024 / PIECE;
    let pieces = stream::iter((0..count).map(|_| Ok(Bytes::from(vec![7; PIECE]))));
    let result = encoding::encode(Payload::new((count * PIECE) as u64, pieces));
    client.finish_run(RunId(1), RunReport::now(RunStatus::Completed, "").result(result)).await.unwrap();

    let input = encoding::decode(client.input(RunId(1)).await.unwrap());
    let received = input
        .map_ok(|piece| piece.len())
        .try_fold(0, |sum, length| std::future::ready(Ok(sum + length)))
        .await
        .unwrap();
    assert_eq!(received, MEGABYTES * 1024 * 1024 / 4 * 3);

    let key = Arc::new(PrivateKey::generate().unwrap());
    let pieces = stream::iter((0..count).map(|_| Ok(Bytes::from(vec![7; PIECE]))));
    let message = encrypt(Payload::new((count * PIECE) as u64, pieces), key.public()).unwrap();
    let message = message.into_stream().map_err(|error| panic!("{error}"));
    let decrypted = decrypt(message, key)
        .map_ok(|piece| piece.len())
        .try_fold(0, |sum, length| std::future::ready(Ok(sum + length)))
        .await
        .unwrap();
    assert_eq!(decrypted, count * PIECE);

    let grown = memory_testing::peak() - before;
    assert!(grown < 32, "it took {grown} MiB");
}
