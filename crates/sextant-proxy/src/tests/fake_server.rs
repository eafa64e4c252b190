//! A fake server whose answers are made by the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The requests and connections that reached the server.
#[derive(Clone, Default)]
pub struct Seen {
    pub requests: Arc<Mutex<Vec<Request<Bytes>>>>,
    pub connections: Arc<AtomicU32>,
}

impl Seen {
    pub fn count(&self) -> usize {
        self.requests.lock().len()
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn last(&self) -> Request<Bytes> {
        self.requests.lock().last().unwrap().clone()
    }
}

/// Starts a server; the function makes each answer from the request and its number.
pub async fn server<F, A>(answers: F) -> (SocketAddr, Seen)
where
    F: Fn(Request<Bytes>, usize) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    tokio::spawn(serve(listener, seen.clone(), answers));
    (address, seen)
}

/// Runs such a server on a listener.
pub async fn serve<F, A>(listener: TcpListener, seen: Seen, answers: F)
where
    F: Fn(Request<Bytes>, usize) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (seen, answers) = (seen.clone(), answers.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (seen, answers) = (seen.clone(), answers.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let request = Request::from_parts(parts, body);
                let number = {
                    let mut requests = seen.requests.lock();
                    requests.push(request.clone());
                    requests.len()
                };
                Ok::<_, Infallible>(answers(request, number).await)
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Starts a server that reads the head of a request, sends these bytes, and closes the connection.
pub async fn raw(sends: &'static [u8]) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(AtomicU32::new(0));
    let counted = heads.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                if !head.is_empty() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.write_all(sends).await;
            });
        }
    });
    (address, heads)
}

/// Starts a server that reads no bodies. It answers each head with the function's bytes, and reads what follows as the next head.
pub async fn bodiless<F>(answers: F) -> (SocketAddr, Seen)
where
    F: Fn(&str) -> &'static [u8] + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let all = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            all.connections.fetch_add(1, Ordering::SeqCst);
            let (all, answers) = (all.clone(), answers.clone());
            tokio::spawn(async move {
                loop {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") {
                        if !stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let request = Request::builder().uri(path).body(Bytes::new()).unwrap();
                    all.requests.lock().push(request);
                    if stream.write_all(answers(&head)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}
