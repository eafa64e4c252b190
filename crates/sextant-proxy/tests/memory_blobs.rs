//! Checks that the proxy streams blobs with little memory. Runs in its own process, because it reads the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use memory_testing::http::Head;
use secrecy::ExposeSecret as _;
use sextant_config::Config;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use vantage6::encryption::{PrivateKey, encrypt_raw};

const MEGABYTE: usize = 1024 * 1024;
const MEGABYTES: usize = 200;
const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";

/// Starts a server with a large blob, which is the result of the caller's subtask. It counts the bytes that it should store.
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
                let path = head.second_word();
                if path.contains("/blobstream/") {
                    let head =
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/octet-stream\r\n\r\n";
                    connection.write_all(head).await.unwrap();
                    let pieces = stream::iter((0..MEGABYTES * 16).map(|_| Ok(Bytes::from(vec![7; MEGABYTE / 16]))));
                    let message = encrypt_raw(pieces, key.public(), std::future::ready(())).unwrap();
                    let mut message = std::pin::pin!(message);
                    while let Some(piece) = message.next().await {
                        connection.write_all(&piece.unwrap()).await.unwrap();
                    }
                } else {
                    let text = match path.split('?').next().unwrap() {
                        "/api/blobstream" => format!(r#"{{"uuid": "{ID}"}}"#),
                        "/api/task/7" => {
                            r#"{"id": 7, "image": "i", "job_id": 1, "parent": null, "init_org": {"id": 2}, "created_at": "2023-11-14T00:00:00.000001"}"#
                                .to_owned()
                        }
                        "/api/task" => {
                            r#"{"data": [{"id": 9, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}]}"#.to_owned()
                        }
                        "/api/result" => format!(r#"{{"data": [{{"result": "{ID}"}}]}}"#),
                        _ => format!(r#"{{"id": 2, "name": "x", "public_key": "{}"}}"#, key.public().to_server()),
                    };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                        text.len()
                    );
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
    let file = std::env::temp_dir().join(format!("sextant-memory-blobs-{}.pem", std::process::id()));
    std::fs::write(&file, key.to_pem().unwrap().expose_secret()).unwrap();
    let text = format!(
        "server_url: {}\napi_key: k\nencryption: {{enabled: true, private_key: {}, organization_id: 2}}\n",
        server(key.clone(), stored.clone()).await,
        file.display()
    );
    let config = Config::parse(&text, Path::new("a.yaml"), &|_| None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let supervisor = Supervisor::default();
    let proxy = sextant_proxy::embedded(listener, &config, &Health::waiting_for(&[]), &supervisor).unwrap();
    std::fs::remove_file(&file).unwrap();
    let claims = r#"{"client_type":"container","iat":1700000000,"sub":{"node_id":3,"organization_id":2,"collaboration_id":1,"task_id":7,"image":"i"}}"#;
    let token = ["{}", claims, "x"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let of_all = format!("Host: proxyserver\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
    let before = memory_testing::peak();

    let mut connection = BufReader::new(TcpStream::connect(proxy.address).await.unwrap());
    let named = key.public().to_server();
    assert!(STANDARD.decode(&named).is_ok());
    let post =
        format!("POST /blobstream HTTP/1.1\r\n{of_all}X-Public-Key: {named}\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.write_all(post.as_bytes()).await.unwrap();
    let piece = vec![7; MEGABYTE];
    for _ in 0..MEGABYTES {
        let chunk = [format!("{MEGABYTE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
        if connection.write_all(&chunk).await.is_err() {
            // The response gives the reason.
            break;
        }
    }
    let _ = connection.write_all(b"0\r\n\r\n").await;
    let head = Head::read(&mut connection).await;
    let mut said = String::new();
    let _ = connection.read_to_string(&mut said).await;
    assert_eq!(head.second_word(), "200", "{said}");
    let (length, counted) = ((MEGABYTES * MEGABYTE) as u64, stored.load(Ordering::Relaxed));
    assert!(counted > length && counted < length + 4096, "{counted}");

    let mut connection = BufReader::new(TcpStream::connect(proxy.address).await.unwrap());
    connection.write_all(format!("GET /blobstream/{ID} HTTP/1.1\r\n{of_all}\r\n").as_bytes()).await.unwrap();
    let head = Head::read(&mut connection).await;
    assert!(head.second_word() == "200" && head.chunked, "{head:?}");
    assert_eq!(head.discard_body(&mut connection).await, length);

    let grown = memory_testing::peak() - before;
    assert!(grown < 32, "it took {grown} MiB");
}
