//! Tests servers with all kinds of certificates against all three clients: the REST client, the live connection, and the proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SigningKey as _,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use vantage6::{Backoff, Client, ServerUrl};

use super::*;
use crate::upstream::{Origin, Upstream};

/// The expected result of a client.
enum Expected {
    Trusted,
    /// An error with all of these words, and none that describe an unavailable server.
    Told(&'static [&'static str]),
}
use Expected::{Told, Trusted};

/// A server's certificates and key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new(chain: &[&[u8]], key: &KeyPair) -> Self {
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        Self { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) }
    }

    fn server(self, versions: &[&'static SupportedProtocolVersion], clients: Option<&[u8]>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(ca.to_vec())).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        // `with_single_cert` parses the certificate and rejects version 1.
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.key).unwrap();
        let certified = rustls::sign::CertifiedKey::new(self.chain, key);
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
    }
}

fn pem(ders: &[&[u8]]) -> String {
    let one = |der: &&[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    ders.iter().map(one).collect()
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn ca(common_name: &str) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(ca_params(common_name), KeyPair::generate().unwrap()).unwrap()
}

/// Creates a certificate of version 1, as `openssl x509 -req -signkey` does.
fn version_1(common_name: &str, key: &KeyPair) -> Vec<u8> {
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match (high, low) {
            (0, ..0x80) => vec![low],
            (0, _) => vec![0x81, low],
            _ => vec![0x82, high, low],
        };
        [&[tag][..], &length, &content].concat()
    }
    let algorithm = der(0x30, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
    let attribute = der(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03], &der(0x0c, &[common_name.as_bytes()])]);
    let name = der(0x30, &[&der(0x31, &[&attribute])]);
    let validity = der(0x30, &[&der(0x17, &[b"200101000000Z"]), &der(0x17, &[b"490101000000Z"])]);
    let public_key = rcgen::PublicKeyData::subject_public_key_info(key);
    let body = der(0x30, &[&[0x02, 0x01, 0x07], &algorithm, &name, &validity, &name, &public_key]);
    let signature = key.sign(&body).unwrap();
    der(0x30, &[&body, &algorithm, &der(0x03, &[&[0], &signature])])
}

/// Starts a server that answers each request with 404, with TLS if there is a configuration. Returns its port.
async fn listen(tls: Option<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => answer_404(stream).await,
                    Some(acceptor) => answer_404(acceptor.accept(stream).await?).await,
                }
            });
        }
    });
    port
}

async fn answer_404(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> io::Result<()> {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await?;
    let body = r#"{"msg": "here is the server"}"#;
    let head = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}

/// Returns what each of the three clients reports about a server.
async fn ask(url: &str, ca_file: Option<&Path>) -> [String; 3] {
    let mut builder = Client::builder(ServerUrl::new(url, None, "/api").unwrap(), "key".to_owned().into())
        .http_proxies(HttpProxies::default())
        .backoff(Backoff::never());
    if let Some(path) = ca_file {
        builder = builder.ca_file(path);
    }
    let client = builder.build().unwrap();
    let rest = client.whoami().await.unwrap_err();
    if !rest.to_string().contains("here is the server") {
        assert!(matches!(rest, vantage6::Error::Tls { .. }), "{rest}");
    }
    let live = live(url, &client).await;
    let text = format!("server_url: {url}\napi_key: k\n");
    let mut config = Config::parse(&text, Path::new("a.yaml"), &|_| None).unwrap();
    config.ca_certificates = ca_file.map(Path::to_owned);
    let origin = Origin::new(&config, &HttpProxies::default()).unwrap();
    let mut shared = Shared::new(&config, &HttpProxies::default(), AccessLog::Node, crate::tests::RESOURCES).unwrap();
    Arc::get_mut(&mut shared).unwrap().origin = origin;
    let proxy = Upstream::new(shared).probe().await.unwrap_err();
    [rest.to_string(), live, proxy]
}

/// Builds the connection as [`vantage6::live::connect`] does, without the login.
async fn live(url: &str, client: &Client) -> String {
    let (_socket, mut events) =
        socketio::Client::builder(url).namespace("/tasks").http(client.http_builder()).connect().unwrap();
    match tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap() {
        Some(socketio::Event::ConnectFailed { error, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(format!("{name}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn judge(name: &str, url: &str, ca_file: Option<&Path>, expected: &Expected) {
    for (client, said) in ["REST", "live", "proxy"].into_iter().zip(ask(url, ca_file).await) {
        match expected {
            Trusted => assert!(said.contains("404"), "{name}, {client}: {said}"),
            Told(words) => {
                assert!(words.iter().all(|words| said.contains(words)), "{name}, {client}: {words:?} in {said}");
                assert!(!said.contains("running"), "{name}, {client}: {said}");
                if let Some(path) = ca_file.filter(|_| words.contains(&"(`ca_certificates`")) {
                    assert!(said.contains(&path.display().to_string()), "{name}, {client}: {said}");
                }
            }
        }
    }
}

#[tokio::test]
async fn certificates_as_they_are() {
    let files = Files(tempfile::tempdir().unwrap());
    let root = ca("Hospital Root");
    let other = ca("Hospital Root");
    let stranger = ca("Some Other CA");
    let middle = CertifiedIssuer::signed_by(ca_params("Hospital Middle"), KeyPair::generate().unwrap(), &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = |names: &[&str]| params("the leaf", names).signed_by(&key, &root).unwrap();
    let of_middle = params("the leaf", &["localhost"]).signed_by(&key, &middle).unwrap();
    let itself = |set: &dyn Fn(&mut CertificateParams), names: &[&str]| -> Certificate {
        let mut params = params("localhost", names);
        set(&mut params);
        params.self_signed(&key).unwrap()
    };
    let is_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let as_openssl = itself(&is_ca, &["localhost"]);
    let plain = itself(&|params| params.is_ca = IsCa::ExplicitNoCa, &["localhost"]);
    let unnamed = itself(&is_ca, &[]);
    let elsewhere = itself(&is_ca, &["a.example", "10.0.0.1"]);
    let expired =
        itself(&|params| (params.not_after = rcgen::date_time_ymd(2021, 3, 4), is_ca(params)).1, &["localhost"]);
    let early = itself(&|params| params.not_before = rcgen::date_time_ymd(2099, 3, 4), &["localhost"]);
    let of_clients =
        itself(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], &["localhost"]);
    let of_issuers = itself(
        &|params| {
            is_ca(params);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        },
        &["localhost"],
    );
    let first = version_1("localhost", &key);
    let first_elsewhere = version_1("elsewhere", &key);
    let by_plain = {
        let params_of_issuer = params("not a CA", &[]);
        let issuer = rcgen::Issuer::from_params(&params_of_issuer, &key);
        let key = KeyPair::generate().unwrap();
        (params("the leaf", &["localhost"]).signed_by(&key, &issuer).unwrap(), key)
    };
    let no_ca = params("not a CA", &[]).self_signed(&key).unwrap();
    let ca_leaf = {
        let mut params = params("the leaf", &["localhost"]);
        is_ca(&mut params);
        params.signed_by(&key, &root).unwrap()
    };
    let late_leaf = {
        let mut params = params("the leaf", &["localhost"]);
        params.not_after = rcgen::date_time_ymd(2021, 3, 4);
        params.signed_by(&key, &root).unwrap()
    };

    let good = leaf(&["localhost"]);
    type Row<'a> = (&'a str, Vec<&'a [u8]>, Vec<&'a [u8]>, Expected);
    let rows: Vec<Row<'_>> = vec![
        ("a CA and its leaf", vec![good.der()], vec![root.der()], Trusted),
        ("many CAs", vec![good.der()], vec![stranger.der(), other.der(), root.der()], Trusted),
        ("self-signed as openssl does it", vec![as_openssl.der()], vec![as_openssl.der()], Trusted),
        ("self-signed, no CA", vec![plain.der()], vec![plain.der()], Trusted),
        ("self-signed, among others", vec![as_openssl.der()], vec![root.der(), as_openssl.der()], Trusted),
        ("self-signed, with a common name alone", vec![unnamed.der()], vec![unnamed.der()], Trusted),
        ("version 1", vec![&first], vec![&first], Trusted),
        ("the leaf itself in the file", vec![good.der()], vec![good.der()], Trusted),
        ("a CA's leaf itself in the file", vec![ca_leaf.der()], vec![ca_leaf.der()], Trusted),
        ("a chain", vec![of_middle.der(), middle.der()], vec![root.der()], Trusted),
        ("an intermediate in the file", vec![of_middle.der()], vec![middle.der()], Trusted),
        ("an intermediate in the file and sent", vec![of_middle.der(), middle.der()], vec![middle.der()], Trusted),
        ("no file", vec![good.der()], vec![], Told(&["CN=Hospital Root", "Name a file", "`ca_certificates`"])),
        ("self-signed, no file", vec![as_openssl.der()], vec![], Told(&["self-signed", "that very certificate"])),
        (
            "another CA in the file",
            vec![good.der()],
            vec![stranger.der()],
            Told(&["CN=Hospital Root", "CN=Some Other CA", "(`ca_certificates`", "Add the certificate of that CA"]),
        ),
        ("another key of the name", vec![good.der()], vec![other.der()], Told(&["of that name, but with another key"])),
        (
            "the chain's middle missing",
            vec![of_middle.der()],
            vec![root.der()],
            Told(&["CN=Hospital Middle", "in between"]),
        ),
        (
            "self-signed, another in the file",
            vec![as_openssl.der()],
            vec![root.der()],
            Told(&["self-signed", "(`ca_certificates`", "that very certificate"]),
        ),
        ("issued by no CA", vec![by_plain.0.der()], vec![no_ca.der()], Told(&["but it is no CA's"])),
        (
            "a CA's certificate in use, by a CA",
            vec![ca_leaf.der()],
            vec![root.der()],
            Told(&["a CA's own", "Name that very certificate"]),
        ),
        (
            "expired",
            vec![expired.der()],
            vec![expired.der()],
            Told(&["expired", "2021-03-04 00:00:00 UTC", "Is the clock right?"]),
        ),
        ("expired, by a CA", vec![late_leaf.der()], vec![root.der()], Told(&["expired", "2021-03-04", "clock"])),
        (
            "too early",
            vec![early.der()],
            vec![early.der()],
            Told(&["not valid yet", "2099-03-04", "Is the clock right?"]),
        ),
        (
            "another name",
            vec![elsewhere.der()],
            vec![elsewhere.der()],
            Told(&["is for a.example, 10.0.0.1", "asks for 'localhost'", "subjectAltName=DNS:localhost"]),
        ),
        (
            "another name, version 1",
            vec![&first_elsewhere],
            vec![&first_elsewhere],
            Told(&["'elsewhere'", "asks for 'localhost'"]),
        ),
        ("for clients only", vec![of_clients.der()], vec![of_clients.der()], Told(&["not meant for servers"])),
        ("for issuing only", vec![of_issuers.der()], vec![of_issuers.der()], Told(&["not meant for servers"])),
    ];
    for (name, chain, trusted, expected) in rows {
        let key = if name == "issued by no CA" { &by_plain.1 } else { &key };
        let file = (!trusted.is_empty()).then(|| files.put(&name.replace([' ', '\''], "_"), &pem(&trusted)));
        for versions in [[&version::TLS12], [&version::TLS13]] {
            let port = listen(Some(Identity::new(&chain, key).server(&versions, None))).await;
            judge(name, &format!("https://localhost:{port}"), file.as_deref(), &expected).await;
        }
    }

    // Names are compared, with the part after `*` too; addresses only match addresses.
    let by_address = leaf(&["127.0.0.1"]);
    let wildcard = leaf(&["*.localhost"]);
    let file = files.put("root", &pem(&[root.der()]));
    for (certificate, host, expected) in [
        (&by_address, "127.0.0.1", Trusted),
        (&by_address, "localhost", Told(&["is for 127.0.0.1", "'localhost'"])),
        (&good, "127.0.0.1", Told(&["is for localhost", "subjectAltName=IP:127.0.0.1"])),
        (&wildcard, "localhost", Told(&["is for *.localhost"])),
    ] {
        let port = listen(Some(Identity::new(&[certificate.der()], &key).server(&[&version::TLS13], None))).await;
        judge(host, &format!("https://{host}:{port}"), Some(&file), &expected).await;
    }
    // A trusted certificate does not become valid for a name that it does not contain.
    let file = files.put("itself", &pem(&[unnamed.der()]));
    let port = listen(Some(Identity::new(&[unnamed.der()], &key).server(&[&version::TLS13], None))).await;
    judge("an address, by common name", &format!("https://127.0.0.1:{port}"), Some(&file), &Told(&["subjectAltName"]))
        .await;
}

/// Starts a server that waits for data, sends these bytes, and closes the connection. Returns its port.
async fn says(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(bytes).await?;
                stream.shutdown().await?;
                // Reads the rest, so that the answer is not lost.
                while stream.read(&mut [0; 4096]).await? > 0 {}
                Ok::<_, io::Error>(())
            });
        }
    });
    port
}

#[tokio::test]
async fn protocols_that_do_not_fit() {
    let files = Files(tempfile::tempdir().unwrap());
    let key = KeyPair::generate().unwrap();
    let certificate = params("localhost", &["localhost"]).self_signed(&key).unwrap();
    let file = files.put("ca", &pem(&[certificate.der()]));
    let https = |port: u16| format!("https://localhost:{port}");

    let plain = listen(None).await;
    judge("plain HTTP", &https(plain), Some(&file), &Told(&["does not speak TLS", "begin `server_url` with http://"]))
        .await;
    let tls = listen(Some(Identity::new(&[certificate.der()], &key).server(&[&version::TLS13], None))).await;
    judge(
        "TLS",
        &format!("http://localhost:{tls}"),
        None,
        &Told(&["does not speak plain HTTP", "begin `server_url` with https://"]),
    )
    .await;
    // The alerts `protocol_version` and `handshake_failure` of a TLS 1.1 server.
    for (alert, words) in
        [(b"\x15\x03\x01\x00\x02\x02\x46", "at least 1.2"), (b"\x15\x03\x02\x00\x02\x02\x28", "at least TLS 1.2")]
    {
        let words: &'static [&'static str] = vec![words].leak();
        judge("an old version", &https(says(alert).await), Some(&file), &Told(words)).await;
    }
    for version in [&version::TLS12, &version::TLS13] {
        let of_clients = Identity::new(&[certificate.der()], &key).server(&[version], Some(ca("of clients").der()));
        let port = listen(Some(of_clients)).await;
        // The server may close the connection before the client has read its alert.
        let [rest, _, proxy] = ask(&https(port), Some(&file)).await;
        assert!(rest.contains("client certificate") && proxy.contains("client certificate"), "{rest}\n{proxy}");
    }
}
