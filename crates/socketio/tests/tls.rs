//! A server with a certificate of the hospital's own CA, over both transports.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod common;

use common::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use socketio::{Client, Error, Event, Transport};

/// Makes a CA and a server certificate; gives the CA's, and the folder of the server's.
fn certificates() -> (String, std::path::PathBuf) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &ca).unwrap();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cert.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    (ca.pem(), folder)
}

#[tokio::test]
async fn a_ca_of_ones_own() {
    let (ca, folder) = certificates();
    for (options, expected) in [(POLLING, Transport::Polling), (WEBSOCKET, Transport::WebSocket)] {
        let more = ["--tls", folder.to_str().unwrap()];
        let Some(server) = Server::start_with(options, &more).await else { return };
        let url = format!("https://127.0.0.1:{}", server.port);

        let (_client, mut events) = Client::builder(&url).namespace("/tasks").connect().unwrap();
        let event = next(&mut events).await.unwrap();
        let Event::ConnectFailed { error: Error::Http { reason, .. }, .. } = event else { panic!("{event:?}") };
        assert!(reason.contains("certificate"), "{reason}");

        let http = reqwest::Client::builder();
        let http = http.add_root_certificate(reqwest::Certificate::from_pem(ca.as_bytes()).unwrap());
        let (client, mut events) = Client::builder(&url).namespace("/tasks").http(http).connect().unwrap();
        assert_eq!(connected(&mut events).await, expected);
        client.emit_with_ack("echo", (), LONG).await.unwrap();
        client.shutdown().await;
    }
}
