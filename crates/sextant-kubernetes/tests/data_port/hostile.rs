//! Attacks of an algorithm that has found the port.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sextant_kubernetes::data_port::bounds::Limits;
use tokio::io::AsyncWriteExt;

use super::Port;
use super::caller::rest;

#[tokio::test]
async fn without_the_runs_own_key_the_answer_reveals_nothing() {
    let port = Port::open().await;
    let right = port.key(7);
    let mut changed = right.expose_secret().to_owned();
    changed.replace_range(63.., if changed.ends_with('0') { "1" } else { "0" });
    let keys = [
        None,
        Some(port.key(8)),
        Some(SecretString::from("")),
        Some(SecretString::from(changed)),
        Some(SecretString::from(right.expose_secret().to_uppercase())),
        Some(SecretString::from(format!("{} ", right.expose_secret()) + "x")),
        Some(SecretString::from("a".repeat(10_000))),
    ];
    for key in &keys {
        for line in ["GET /runs/7/input", "GET /runs/7/token", "GET /runs/7/next", "PUT /runs/7/output"] {
            let answer = port.caller.ask(line, key.as_ref(), b"").await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("wrong key"), "{line} {answer}");
        }
    }
}

#[tokio::test]
async fn existing_runs_cannot_be_distinguished_from_others() {
    let port = Port::open().await;
    let key = port.key(7);
    let mut answers = Vec::new();
    for run in [1, 7, 999_999] {
        let answer = port.caller.ask(&format!("GET /runs/{run}/input"), Some(&port.key(3)), b"").await.unwrap();
        answers.push(answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(port.caller.ask("GET /runs/7/input", Some(&key), b"").await.unwrap().contains("200 OK"));
}

#[tokio::test]
async fn tricks_with_paths_lead_nowhere() {
    let port = Port::open().await;
    let key = port.key(7);
    for path in [
        "/runs/7/../8/input",
        "/runs/8/input/../../7/input",
        "/runs/7%2f..%2f8/input",
        "//runs/7/input",
        "/runs/07/input",
        "/runs/+7/input",
        "/runs/7/input/",
        "/runs/7/INPUT",
        "/",
        "/etc/passwd",
        "*",
        "/runs/18446744073709551616/input",
    ] {
        let answer = port.caller.ask(&format!("GET {path}"), Some(&key), b"").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    // Whole addresses are read as their paths, so the key must fit these.
    let answer = port.caller.ask("GET http://elsewhere/runs/8/input", Some(&key), b"").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    for method in ["POST", "DELETE", "CONNECT", "TRACE", "OPTIONS", "HEAD", "BREW"] {
        let answer = port.caller.ask(&format!("{method} /runs/7/input"), Some(&key), b"").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{method}: {answer}");
    }
}

#[tokio::test]
async fn a_request_is_not_hidden_behind_another() {
    let port = Port::open().await;
    let key = port.key(7);
    let hidden = format!(
        "GET /runs/7/token HTTP/1.1\r\nHost: x\r\nx-sextant-job: job-2\r\nAuthorization: Bearer {}\r\n\r\n",
        key.expose_secret()
    );
    let lengths = [
        "Content-Length: 0\r\n".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len()),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        "Content-Length: 18446744073709551617\r\n".to_owned(),
    ];
    for length in lengths {
        let head = format!("GET /runs/8/input HTTP/1.1\r\nHost: x\r\n{length}\r\n");
        let answer = port.caller.send(format!("{head}0\r\n\r\n{hidden}").as_bytes()).await.unwrap();
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{length}: {answer}");
        assert!(!answer.contains("a token"), "{length}: {answer}");
    }
    // Nor behind one that is served: a connection is for one request.
    let first = hidden.replace("token", "input");
    let answer = port.caller.send(format!("{first}{hidden}").as_bytes()).await.unwrap();
    assert!(answer.contains("the input of 7") && !answer.contains("a token"), "{answer}");
}

#[tokio::test]
async fn heads_are_small_and_outputs_have_a_length() {
    let port = Port::open().await;
    let key = port.key(7);
    let header = format!("X-Filler: {}\r\n", "a".repeat(10_000_000));
    let answer = port.caller.send(format!("GET /runs/7/input HTTP/1.1\r\n{header}\r\n").as_bytes()).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = "X-Many: 1\r\n".repeat(5_000);
    let answer = port.caller.send(format!("GET /runs/7/input HTTP/1.1\r\n{many}\r\n").as_bytes()).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");

    let key = key.expose_secret();
    let chunked = format!(
        "PUT /runs/7/output HTTP/1.1\r\nHost: x\r\nx-sextant-job: job-2\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    );
    let answer = port.caller.send(chunked.as_bytes()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
}

#[tokio::test]
async fn what_is_half_is_not_waited_for() {
    let port = Port::open().await;
    let begun = Instant::now();
    // Nothing; half a handshake; no TLS at all; TLS and no request; TLS and half a request; a body that never comes.
    let mut silent = port.caller.connect().await.unwrap();
    let mut half = port.caller.connect().await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let mut plain = port.caller.connect().await.unwrap();
    plain.write_all(b"GET /runs/7/input HTTP/1.1\r\n\r\n").await.unwrap();
    let (_, _, rest_of_plain) = tokio::join!(rest(&mut silent), rest(&mut half), rest(&mut plain));
    assert!(!String::from_utf8_lossy(&rest_of_plain).contains("HTTP"), "{rest_of_plain:?}");
    for bytes in ["", "GET /runs/7/input HTTP/1.1\r\nHost:", "PUT /runs/7/output HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
    {
        let answer = port.caller.send(bytes.as_bytes()).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn older_tls_and_other_protocols_are_refused() {
    let port = Port::open().await;
    let mut config = sextant_kubernetes::data_port::tls::client(&port.caller.pin).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A client that speaks TLS 1.2 alone.
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let older = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(older));
    let stream = port.caller.connect().await.unwrap();
    let error = connector.connect("node".try_into().unwrap(), stream).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn a_flood_takes_no_slot_of_a_run() {
    let limits = Limits { patience: Duration::from_secs(5), ..Limits::within(1024) };
    let most = limits.connections.unauthenticated_per_source;
    let port = Port::within(limits).await;
    let key = port.key(7);
    // A run's pod comes while somebody opens connections without end.
    let flood = async {
        let mut held = Vec::new();
        for _ in 0..20 * most {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            // One that is not let in may be cut off before it knows that it was connected.
            held.extend(socket.connect(port.caller.address).await.ok());
        }
        let mut open = 0;
        for stream in &mut held {
            let closed = tokio::time::timeout(Duration::from_millis(20), rest(stream)).await.is_ok();
            open += usize::from(!closed);
        }
        open
    };
    let served = async {
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(port.caller.ask("GET /runs/7/input", Some(&key), b"").await.unwrap());
        }
        answers
    };
    let (served, open) = tokio::join!(served, flood);
    assert!(served.iter().all(|answer| answer.contains("the input of 7")), "{served:?}");
    assert!(open <= most, "{open} of {} are open", 20 * most);
}

#[tokio::test]
async fn idle_unauthenticated_connections_keep_no_run_out() {
    let limits = Limits { patience: Duration::from_secs(60), ..Limits::within(1024) };
    let (all, each) = (limits.connections.unauthenticated, limits.connections.unauthenticated_per_source);
    let port = Port::within(limits).await;
    let key = port.key(7);
    let mut held = Vec::new();
    for source in 1..=20 {
        for begun in 0..each {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("127.0.5.{source}:0").parse().unwrap()).unwrap();
            let mut stream = socket.connect(port.caller.address).await.unwrap();
            // Some say nothing, some begin a handshake.
            let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..begun % 7]).await;
            held.push(stream);
        }
        let begun = Instant::now();
        let answer = port.caller.ask("GET /runs/7/input", Some(&key), b"").await.unwrap();
        assert!(answer.contains("the input of 7"), "after {source} addresses: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "after {source} addresses");
    }
    let mut open = 0;
    for stream in &mut held {
        open += usize::from(tokio::time::timeout(Duration::from_millis(2), rest(stream)).await.is_err());
    }
    assert!(open <= all, "{open} of {} are open", held.len());
}
