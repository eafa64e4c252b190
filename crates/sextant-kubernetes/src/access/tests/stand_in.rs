//! An API server with TLS that checks credentials. It has only one pod, which a watch reports.
#![allow(clippy::disallowed_types, reason = "only tests use it, without another dependency")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the server knows.
#[derive(Default)]
struct Known {
    /// The token that it accepts.
    token: Mutex<String>,
    /// The client certificate that it accepts.
    certificate: Mutex<Option<Vec<u8>>>,
    requests: AtomicUsize,
}

pub struct ApiServer {
    pub address: String,
    pub ca: String,
    known: Arc<Known>,
    _serving: JoinSet<()>,
}

/// A key and its certificate, as PEM in base64, and the certificate itself.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

pub fn pair(name: &str) -> (Pair, PrivatePkcs8KeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = certificate.der().to_vec();
    let pem = |kind: &str, der: &[u8]| {
        STANDARD.encode(format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der)))
    };
    let pair = Pair { certificate: pem("CERTIFICATE", &der), key: pem("PRIVATE KEY", &key.serialize_der()), der };
    (pair, PrivatePkcs8KeyDer::from(key.serialize_der()))
}

impl ApiServer {
    /// One that is known as this name, and takes this client certificate's issuer for its own.
    pub async fn open(name: &str, clients: &[&Pair]) -> Self {
        let (own, key) = pair(name);
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if clients.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = rustls::RootCertStore::empty();
            for client in clients {
                roots.add(CertificateDer::from(client.der.clone())).unwrap();
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        };
        let tls = builder.with_single_cert(vec![CertificateDer::from(own.der)], key.into()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let known = Arc::new(Known::default());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), known.clone()));
        Self { address, ca: own.certificate, known, _serving: serving }
    }

    /// From now on this token alone is good.
    pub fn accept(&self, token: &str) {
        token.clone_into(&mut self.known.token.lock().unwrap());
    }

    /// From now on this client certificate alone is good.
    pub fn accept_certificate(&self, pair: &Pair) {
        *self.known.certificate.lock().unwrap() = Some(pair.der.clone());
    }

    pub fn requests(&self) -> usize {
        self.known.requests.load(Ordering::Relaxed)
    }

    /// Writes a kubeconfig for this server with a user.
    pub fn kubeconfig(&self, path: &Path, user: &serde_json::Value) {
        let cluster = json!({"server": self.address, "certificate-authority-data": self.ca});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        });
        std::fs::write(path, kubeconfig.to_string()).unwrap();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, known: Arc<Known>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, known) = (tls.clone(), known.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let shown = stream.get_ref().1.peer_certificates().map(|all| all[0].to_vec());
            let answer = service_fn(move |request| {
                let answer = answer(&request, &known, shown.as_deref());
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn answer(request: &Request<Incoming>, known: &Known, shown: Option<&[u8]>) -> Response<Full<Bytes>> {
    known.requests.fetch_add(1, Ordering::Relaxed);
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let good = match known.certificate.lock().unwrap().as_deref() {
        Some(certificate) => shown == Some(certificate),
        None => token == Some(&format!("Bearer {}", known.token.lock().unwrap())),
    };
    let (status, body) = if !good {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized",
            "reason": "Unauthorized", "code": 401});
        (StatusCode::UNAUTHORIZED, status)
    } else if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        let name = format!("pod-{}", known.token.lock().unwrap());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "resourceVersion": "2"}});
        (StatusCode::OK, json!({"type": "ADDED", "object": pod}))
    } else if request.uri().path().ends_with("/pods") {
        (
            StatusCode::OK,
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}),
        )
    } else {
        let version = json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        (StatusCode::OK, version)
    };
    Response::builder().status(status).body(Full::from(format!("{body}\n"))).unwrap()
}
