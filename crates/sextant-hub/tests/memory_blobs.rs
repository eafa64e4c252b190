//! Checks that inputs and results in a blob store take no memory. Runs in its own process, because it reads the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use memory_testing::http::Head;
use sextant_core::hub::{Hub as _, Report, RunResult};
use sextant_hub::Server;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use vantage6::encryption::{Cryptor, PrivateKey, encrypt_raw};
use vantage6::{Client, OrganizationId, RunId, RunStatus, ServerUrl};

const MEGABYTE: usize = 1024 * 1024;
const MEGABYTES: usize = 200;
const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";

fn pieces() -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::iter((0..MEGABYTES * 16).map(|_| Ok(Bytes::from(vec![7; MEGABYTE / 16]))))
}

/// A server with a run whose input is large; it counts the bytes of the result.
async fn server(key: Arc<PrivateKey>, stored: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let (key, stored) = (key.clone(), stored.clone());
            tokio::spawn(async move {
                let mut connection = BufReader::new(connection);
                let head = Head::read(&mut connection).await;
                let length = head.discard_body(&mut connection).await;
                if head.chunked {
                    stored.fetch_add(length, Ordering::Relaxed);
                }
                let (method, path) = (head.first.split(' ').next().unwrap(), head.second_word());
                if method == "GET" && path.contains("/blobstream/") {
                    connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
                    let message = encrypt_raw(pieces(), key.public(), std::future::ready(())).unwrap();
                    let mut message = std::pin::pin!(message);
                    while let Some(piece) = message.next().await {
                        connection.write_all(&piece.unwrap()).await.unwrap();
                    }
                } else {
                    let text = match (method, path) {
                        ("POST", "/api/blobstream") => format!(r#"{{"uuid": "{ID}"}}"#),
                        ("POST", _) => r#"{"access_token": "token", "node_url": "/api/node/1"}"#.to_owned(),
                        ("PATCH", _) => r#"{"id": 1, "finished_at": "2024-01-02T03:04:05"}"#.to_owned(),
                        (_, "/api/organization/5") => {
                            format!(r#"{{"id": 5, "name": "x", "public_key": "{}"}}"#, key.public().to_server())
                        }
                        _ => format!(
                            r#"{{"id": 1, "status": "active", "organization": {{"id": 1}}, "input": "{ID}", "blob_storage_used": true,
                               "task": {{"id": 2, "image": "i", "job_id": 1, "init_org": {{"id": 5}}, "collaboration": {{"id": 1}}}}}}"#
                        ),
                    };
                    let head =
                        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    connection.write_all(head.as_bytes()).await.unwrap();
                }
                connection.shutdown().await.ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn two_hundred_megabytes_each_way_take_a_few() {
    let (key, stored) = (Arc::new(PrivateKey::generate().unwrap()), Arc::new(AtomicU64::new(0)));
    let url = ServerUrl::new(&server(key.clone(), stored.clone()).await, None, "/api").unwrap();
    let client = Client::builder(url, "key".to_owned().into()).build().unwrap();
    let hub = Server::new(client, Cryptor::Encrypted(key), None);
    let run = RunId(1);
    hub.run(run).await.unwrap();
    let before = memory_testing::peak();

    let input = hub.input(run).await.unwrap();
    let sum = |sum, piece: Bytes| std::future::ready(Ok(sum + piece.len()));
    assert_eq!(input.try_fold(0, sum).await.unwrap(), MEGABYTES * MEGABYTE);

    let length = (MEGABYTES * MEGABYTE) as u64;
    let result = RunResult { to: OrganizationId(5), length, bytes: pieces().boxed() };
    hub.finish_run(run, Report { result: Some(result), ..Report::now(RunStatus::Completed, String::new()) })
        .await
        .unwrap();
    let counted = stored.load(Ordering::Relaxed);
    assert!(counted > length && counted < length + 4096, "{counted}");

    let grown = memory_testing::peak() - before;
    assert!(grown < 32, "it took {grown} MiB");
}
