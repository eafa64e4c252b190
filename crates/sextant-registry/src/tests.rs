//! Tests against a fake registry that behaves as registries do, and as they should not.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Returns the registry's answer to a request with this head.
type Answers = Arc<dyn Fn(&str) -> Played + Send + Sync>;

enum Played {
    /// A complete answer.
    Says(String),
    /// This text, and then bytes without end.
    Floods(String),
    /// A byte from time to time.
    Drips,
    /// No answer.
    Silent,
}

fn says(status: &str, headers: &str, body: &str) -> Played {
    let length = body.len();
    Played::Says(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"))
}

/// Starts a registry on loopback, with TLS if an acceptor is given. Returns its host and port.
async fn registry(tls: Option<TlsAcceptor>, answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answers) = (tls.clone(), answers.clone());
            tokio::spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, answers).await;
                        }
                    }
                    None => answer(stream, answers).await,
                }
            });
        }
    });
    address.to_string()
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answers: Answers) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    match answers(&String::from_utf8_lossy(&head)) {
        Played::Says(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Played::Floods(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
        }
        Played::Drips => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Played::Silent => std::future::pending().await,
    }
}

/// Creates a CA in a file, and TLS with a certificate that the CA has issued for 127.0.0.1.
fn authority() -> (tempfile::NamedTempFile, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), ca.pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

fn no_proxies() -> HttpProxies {
    HttpProxies::from_lookup(&|_| None).unwrap()
}

fn registries(logins: &[Registry], ca: Option<&Path>, proxies: HttpProxies) -> OciRegistries {
    OciRegistries { patience: Duration::from_secs(5), ..OciRegistries::with(logins, ca, proxies).unwrap() }
}

async fn ask(registries: &OciRegistries, host: &str) -> Answer<Digest> {
    registries.ask(&ImageReference::parse(&format!("{host}/team/average:1")).unwrap()).await
}

/// Queries by plain HTTP, which is permitted for a registry on this machine.
async fn ask_plainly(registries: &OciRegistries, host: &str) -> Answer<Digest> {
    let image = ImageReference::parse(&format!("{host}/team/average:1")).unwrap();
    let answer = registries.ask_by(&image, ClientProtocol::Http).await;
    answer.unwrap_or_else(|(error, words)| meaning::of(&error, words, &image))
}

async fn played(answers: impl Fn(&str) -> Played + Send + Sync + 'static) -> Answer<Digest> {
    let host = registry(None, Arc::new(answers)).await;
    ask_plainly(&registries(&[], None, no_proxies()), &host).await
}

fn known() -> Answer<Digest> {
    Answer::Known(DIGEST.parse().unwrap())
}

fn has(head: &str) -> Played {
    match head {
        head if head.contains("/v2/team/average/manifests/1") => {
            says("200 OK", &format!("docker-content-digest: {DIGEST}\r\n"), "")
        }
        _ => says("200 OK", "", "{}"),
    }
}

#[tokio::test]
async fn a_registry_with_a_private_ca_tells_a_digest() {
    let (ca, tls) = authority();
    let host = registry(Some(tls), Arc::new(has)).await;
    assert_eq!(ask(&registries(&[], Some(ca.path()), no_proxies()), &host).await, known());
    let Answer::Away(why) = ask(&registries(&[], None, no_proxies()), &host).await else { panic!() };
    assert!(why.contains(&host), "{why}");
}

#[tokio::test]
async fn a_login_is_sent_to_the_login_server_that_the_registry_names() {
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known_host = host.clone();
    let answers = move |head: &str| {
        let has = |text: &str| head.to_lowercase().contains(&text.to_lowercase());
        match head {
            // hunter:hunter-2
            head if head.starts_with("GET") && head.contains("/login?") => {
                match has("authorization: Basic aHVudGVyOmh1bnRlci0y") {
                    true => says("200 OK", "content-type: application/json\r\n", r#"{"token": "pass-on"}"#),
                    false => says("401 Unauthorized", "", "who are you?"),
                }
            }
            head if head.contains("/manifests/") && has("authorization: Bearer pass-on") => {
                says("200 OK", &format!("docker-content-digest: {DIGEST}\r\n"), "")
            }
            _ => {
                let realm = format!("http://{}/login", known_host.get().unwrap());
                says("401 Unauthorized", &format!("www-authenticate: Bearer realm=\"{realm}\",service=\"r\"\r\n"), "")
            }
        }
    };
    host.set(registry(None, Arc::new(answers)).await).unwrap();
    let host = host.get().unwrap();
    let login = |password: &str| Registry {
        registry: host.clone(),
        username: "hunter".into(),
        password: SecretString::from(password.to_owned()),
    };
    assert_eq!(ask_plainly(&registries(&[login("hunter-2")], None, no_proxies()), host).await, known());
    let Answer::Away(why) = ask_plainly(&registries(&[login("wrong-7")], None, no_proxies()), host).await else {
        panic!()
    };
    assert!(why.contains("docker_registries") && !why.contains("wrong-7"), "{why}");
}

#[tokio::test]
async fn what_an_answer_means() {
    let error = |code: &str| format!(r#"{{"errors": [{{"code": "{code}", "message": "no"}}]}}"#);
    for (status, body, is_final, words) in [
        ("404 Not Found", error("MANIFEST_UNKNOWN"), true, "does not have"),
        ("404 Not Found", "nothing here".into(), true, "does not have"),
        ("401 Unauthorized", error("UNAUTHORIZED"), true, "docker_registries"),
        ("403 Forbidden", error("DENIED"), true, "docker_registries"),
        ("429 Too Many Requests", error("TOOMANYREQUESTS"), false, "too many requests"),
        ("500 Internal Server Error", "\u{1b}[31moops".into(), false, "answers 500"),
        ("503 Service Unavailable", String::new(), false, "answers 503"),
    ] {
        let told = body.clone();
        let answer =
            played(move |head| if head.contains("/manifests/") { says(status, "", &told) } else { has(head) }).await;
        let (is_no, why) = match answer {
            Answer::No(why) => (true, why),
            Answer::Away(why) => (false, why),
            Answer::Known(digest) => panic!("{digest}"),
        };
        assert!(is_no == is_final && why.contains(words) && !why.contains('\u{1b}'), "{status} {body}: {why}");
    }
}

#[tokio::test]
async fn who_answers_badly_has_not_said_yes() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
    for (name, words) in [("flood", "more than"), ("digest", ""), ("broken", ""), ("redirect", "")] {
        let answer = played(move |request| match name {
            _ if !request.contains("/manifests/") => has(request),
            "flood" => Played::Floods(head.into()),
            "digest" => says("200 OK", "docker-content-digest: sha256:short\r\n", ""),
            "redirect" => says("307 Temporary Redirect", "location: /v2/team/average/manifests/1\r\n", ""),
            _ => Played::Says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx".into()),
        })
        .await;
        let Answer::Away(why) = answer else { panic!("{name}: {answer:?}") };
        assert!(why.contains(words) && why.len() < 1000, "{name}: {why}");
    }
}

#[tokio::test]
async fn a_question_has_an_end() {
    for drips in [true, false] {
        let play = move |_: &str| if drips { Played::Drips } else { Played::Silent };
        let host = registry(None, Arc::new(play)).await;
        let registries = OciRegistries { patience: Duration::from_millis(500), ..registries(&[], None, no_proxies()) };
        let Answer::Away(why) = ask(&registries, &host).await else { panic!() };
        assert!(why.contains("has not answered within"), "{why}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let Answer::Away(why) = ask(&registries(&[], None, no_proxies()), &closed).await else { panic!() };
    assert!(why.contains("no connection to") && why.contains(&closed), "{why}");
}

#[tokio::test]
async fn the_environments_proxy_is_used_and_a_password_is_not_told() {
    let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let heads = asked.clone();
    let proxy = registry(
        None,
        Arc::new(move |head: &str| {
            heads.lock().push(head.to_owned());
            says("403 Forbidden", "", "")
        }),
    )
    .await;
    let proxies =
        HttpProxies::from_lookup(&|name| (name == "HTTPS_PROXY").then(|| format!("http://somebody:hunter-2@{proxy}")));
    let registries = registries(&[], None, proxies.unwrap());
    let Answer::Away(why) = ask(&registries, "registry.example.org").await else { panic!() };
    assert!(
        why.contains("does not let this through") && why.contains("HTTPS_PROXY") && !why.contains("hunter"),
        "{why}"
    );
    let asked = asked.lock();
    assert!(asked[0].starts_with("CONNECT registry.example.org:443 HTTP/1.1"), "{asked:?}");
    assert!(asked[0].contains("proxy-authorization: Basic"), "{asked:?}");
}

#[tokio::test]
async fn a_registry_that_is_silent_delays_no_decision_about_another() {
    let silent = registry(None, Arc::new(|_: &str| Played::Silent)).await;
    let (ca, tls) = authority();
    let good = registry(Some(tls), Arc::new(has)).await;
    let registries =
        OciRegistries { patience: Duration::from_secs(3), ..registries(&[], Some(ca.path()), no_proxies()) };
    let names: Vec<String> = (0..40).map(|tag| format!("{silent}/team/average:{tag}")).collect();
    let images: Vec<ImageReference> = names.iter().map(|name| ImageReference::parse(name).unwrap()).collect();
    let began = std::time::Instant::now();
    let many = futures::future::join_all(images.iter().map(|image| registries.digest(image)));
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = registries.digest(&ImageReference::parse(&format!("{good}/team/average:1")).unwrap()).await;
        (answer, began.elapsed())
    };
    let (many, (answer, after)) = tokio::join!(many, other);
    assert_eq!(answer, known());
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert!(many.iter().all(|answer| matches!(answer, Answer::Away(why) if why.contains("has not answered"))));
    // Many images take no more time than one of them.
    for image in &images {
        assert!(matches!(registries.digest(image).await, Answer::Away(_)));
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

/// The other host records the requests that it gets.
#[tokio::test]
async fn a_redirect_does_not_take_credentials_to_another_host() {
    let heads = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let noted = heads.clone();
    let note = move |head: &str| {
        noted.lock().push(head.to_lowercase());
        says("200 OK", &format!("docker-content-digest: {DIGEST}\r\n"), r#"{"token": "pass-on"}"#)
    };
    let (ca, tls) = authority();
    let other = registry(Some(tls.clone()), Arc::new(note)).await;
    for step in ["login", "manifests"] {
        let own = Arc::new(std::sync::OnceLock::<String>::new());
        let (own_host, elsewhere) = (own.clone(), other.clone());
        let answers = move |head: &str| {
            let redirect = || says("307 Temporary Redirect", &format!("location: https://{elsewhere}/x\r\n"), "");
            match head {
                head if head.contains("/login?") && step == "login" => redirect(),
                head if head.contains("/login?") => says("200 OK", "", r#"{"token": "pass-on"}"#),
                head if head.contains("/manifests/") && step == "manifests" => redirect(),
                head if head.contains("/manifests/") => has(head),
                _ => {
                    let realm = format!("https://{}/login", own_host.get().unwrap());
                    says("401 Unauthorized", &format!("www-authenticate: Bearer realm=\"{realm}\"\r\n"), "")
                }
            }
        };
        own.set(registry(Some(tls.clone()), Arc::new(answers)).await).unwrap();
        let host = own.get().unwrap();
        let password = SecretString::from("hunter-2".to_owned());
        let login = Registry { registry: host.clone(), username: "hunter".into(), password };
        let answer = ask(&registries(&[login], Some(ca.path()), no_proxies()), host).await;
        let heads = std::mem::take(&mut *heads.lock());
        assert!(!heads.is_empty(), "{step}: {answer:?}");
        assert!(heads.iter().all(|head| !head.contains("authorization:")), "{step}: {heads:?}");
    }
}
