//! Checks that no answer of a registry takes many times the memory of its size limit. Runs in its own process, because it reads the
//! process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use sextant_config::Config;
use sextant_core::image_policy::Answer;
use sextant_core::image_reference::ImageReference;
use sextant_core::registries::Registries as _;
use sextant_registry::OciRegistries;

/// Starts a registry on this machine without TLS, which refuses each manifest with this body.
fn registry(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            // A TLS handshake has no head.
            while !head.ends_with(b"\r\n\r\n") && !head.starts_with(b"\x16") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&head);
            let (status, body) = match &*head {
                head if head.starts_with("HEAD") => ("404 Not Found", ""),
                head if head.contains("/manifests/") => ("404 Not Found", body.as_str()),
                head if head.starts_with("GET") => ("200 OK", "{}"),
                _ => continue,
            };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    address.to_string()
}

#[tokio::test]
async fn no_answer_takes_many_times_what_it_may_have() {
    let config = "server_url: https://v6.example.org\napi_key: k\n";
    let config = Config::parse(config, Path::new("node.yaml"), &|_| None).unwrap();
    let registries = OciRegistries::new(&config).unwrap();
    // `oci-client` parses this into a tree, which takes a hundred times the memory of its text.
    for size in [100_000, 1_000_000] {
        let many = vec![r#"{"":0}"#; size / 7].join(",");
        let host = registry(format!(r#"{{"errors": [{{"code": "NO", "detail": [{many}]}}]}}"#));
        let image = ImageReference::parse(&format!("{host}/team/average:1")).unwrap();
        memory_testing::reset_peak();
        let before = memory_testing::now();
        let answer = registries.digest(&image).await;
        let grown = memory_testing::peak() - before;
        let Answer::Away(why) = answer else { panic!("{answer:?}") };
        assert_eq!(why.contains("more than"), size == 1_000_000, "{why}");
        assert!(grown < 40, "{size} bytes took {grown} MiB");
    }
}
