//! Tests that the proxy serves honest callers while attackers try to occupy all connections.

use std::net::Ipv4Addr;

use futures::future::join_all;
use sextant_process::connection_limits::ConnectionLimiter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::fake_server::{Seen, server as stand_in};
use super::*;

/// The number of attacking sources, and of connections from each; in total more than the limit.
const SOURCES: u8 = 30;
const EACH: usize = 12;

fn of_task(task: u64) -> HeaderValue {
    bearer(&ALGORITHM.replace("\"task_id\":7", &format!("\"task_id\":{task}")))
}

/// A server that accepts the tokens of tasks below 100, and a proxy with 268 connection slots.
async fn crowded() -> (Served, Seen) {
    let good: Vec<HeaderValue> = (0..100).map(of_task).collect();
    let (to, seen) = stand_in(move |request: Request<Bytes>, _| {
        let open = ["/api/version", "/api/health"].contains(&request.uri().path());
        let known = request.headers().get(header::AUTHORIZATION).is_some_and(|token| good.contains(token));
        let slow = request.uri().query() == Some("slow");
        async move {
            if slow {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            if open || known { answer(200, "{}") } else { answer(401, r#"{"msg": "no"}"#) }
        }
    })
    .await;
    let proxy = proxy_of(to, Cryptor::Plain, |shared| {
        shared.connections = ConnectionLimiter::new(server::limits(600, 4096));
        // Makes the proxy read this token's tasks, so that slow ones occupy their connections.
        let known = HeaderMap::from_iter([(header::AUTHORIZATION, of_task(999))]);
        shared.owners.trust(&known);
        shared.unencrypted.insert(&known);
        shared.timeouts.idle = Duration::from_secs(60);
    })
    .await;
    (proxy, seen)
}

/// Connects from one of this machine's addresses.
async fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 7, last), 0)))?;
    socket.connect(to).await
}

fn get(path: &str, token: Option<&HeaderValue>) -> String {
    let token = token.map(|token| format!("Authorization: {}\r\n", token.to_str().unwrap())).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{token}\r\n")
}

/// Sends a request on an open connection and returns the answer.
async fn ask_on(stream: &mut TcpStream, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut got = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(&piece[..length]);
        if got.ends_with(b"}") {
            return Ok(String::from_utf8_lossy(&got).into_owned());
        }
    }
}

/// Runs one attacker: it sends a beginning and then a few bytes per second, and reconnects whenever the connection is closed.
async fn hold(source: u8, to: SocketAddr, begins: String, then: &'static [u8]) {
    loop {
        if let Ok(mut stream) = connect_from(source, to).await {
            let _ = stream.write_all(begins.as_bytes()).await;
            let (mut reader, mut writer) = stream.split();
            let closed = async {
                let mut piece = [0; 1024];
                while reader.read(&mut piece).await.is_ok_and(|length| length > 0) {}
            };
            let drips = async {
                while writer.write_all(then).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = closed => {}
                () = drips => {}
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn attacked(begins: String, then: &'static [u8]) {
    let (proxy, _) = crowded().await;
    let to = proxy.address;
    let limits = server::limits(600, 4096);
    let mut crowd = Vec::new();
    for number in 0..EACH * usize::from(SOURCES) {
        let source = 1 + (number % usize::from(SOURCES)) as u8;
        crowd.push(tokio::spawn(hold(source, to, begins.clone(), then)));
        // Stays within the kernel's accept queue.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let counts = proxy.shared.connections.counts();
    assert_eq!((counts.unauthenticated, counts.authenticated), (limits.unauthenticated, 0));
    assert!(counts.evictions > 200, "{counts:?}");
    let honest = async {
        for round in 0..5 {
            // First without a token, then with a token that the proxy does not know yet, then with a known one.
            assert_eq!(proxy.get("/task/1").await.status, 200, "round {round}");
            let mut stream = TcpStream::connect(to).await.unwrap();
            let got = ask_on(&mut stream, &get("/version", None)).await.unwrap();
            assert!(got.starts_with("HTTP/1.1 200"), "{got}");
            let new = of_task(round + 10);
            let got = ask_on(&mut stream, &get("/task/2?slow", Some(&new)).replace("?slow", "")).await.unwrap();
            assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), honest).await.expect("honest callers are served");
    for attacker in &crowd {
        attacker.abort();
    }
    join_all(crowd).await;
    comes_back_to_zero(&proxy).await;
}

async fn comes_back_to_zero(proxy: &Served) {
    for _ in 0..6000 {
        if proxy.shared.connections.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", proxy.shared.connections);
}

#[tokio::test]
async fn idle_connections_from_many_addresses() {
    attacked(String::new(), b"").await;
}

#[tokio::test]
async fn slow_heads_from_many_addresses() {
    attacked("GET /version HTTP/1.1\r\nHost: x\r\n".into(), b"X: y\r\n").await;
}

/// The tokens look like an algorithm's, but the server refuses them.
#[tokio::test]
async fn slow_bodies_with_forged_tokens_from_many_addresses() {
    let forged = of_task(999);
    let head = format!("POST /task HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n", forged.to_str().unwrap());
    attacked(format!("{head}Content-Length: 100000\r\n\r\n{{"), b" ").await;
}

#[tokio::test]
async fn forged_tokens_again_and_again_from_many_addresses() {
    attacked(get("/task/1", Some(&of_task(999))), b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
}

#[tokio::test]
async fn only_a_token_that_the_server_accepts_gives_a_place() {
    let (proxy, _) = crowded().await;
    let counts = || {
        let counts = proxy.shared.connections.counts();
        (counts.unauthenticated, counts.authenticated)
    };
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let (good, forged) = (of_task(1), of_task(999));
    for (request, expected) in [
        (get("/version", None), (1, 0)),
        (get("/version", Some(&good)), (1, 0)),
        (get("/version", Some(&forged)), (1, 0)),
        (get("/task/1", Some(&forged)), (1, 0)),
        (get("/task/1", None), (1, 0)),
        (get("/task/1", Some(&good)).replace("GET", "OPTIONS"), (1, 0)),
        (get("/task/1", Some(&good)), (0, 1)),
        (get("/version", Some(&good)), (0, 1)),
        (get("/task/2", Some(&of_task(2))), (0, 1)),
        // Another caller's token on the same connection.
        (get("/task/3", Some(&forged)), (1, 0)),
        (get("/version", Some(&good)), (0, 1)),
    ] {
        ask_on(&mut stream, &request).await.unwrap();
        assert_eq!(counts(), expected, "{request}");
    }
    drop(stream);
    comes_back_to_zero(&proxy).await;
}

#[tokio::test]
async fn an_accepted_connection_and_a_request_under_way_are_kept_while_strangers_come() {
    let (proxy, _) = crowded().await;
    let mut kept = connect_from(1, proxy.address).await.unwrap();
    let token = of_task(1);
    ask_on(&mut kept, &get("/task/1", Some(&token))).await.unwrap();
    let mut slow = connect_from(2, proxy.address).await.unwrap();
    // The proxy does not know this token yet.
    let new = get("/task/2?slow", Some(&of_task(2)));
    let slow = tokio::spawn(async move { ask_on(&mut slow, &new).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut crowd = Vec::new();
    for source in 10..10 + SOURCES {
        for _ in 0..EACH {
            crowd.extend(connect_from(source, proxy.address).await);
        }
    }
    assert!(proxy.shared.connections.counts().evictions > 200);
    assert!(ask_on(&mut kept, &get("/task/3", Some(&token))).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(slow.await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn idle_connections_with_accepted_tokens_give_way() {
    let (proxy, _) = crowded().await;
    let mut kept = Vec::new();
    for task in 0..4 {
        for _ in 0..80 {
            let mut stream = connect_from(1, proxy.address).await.unwrap();
            ask_on(&mut stream, &get("/task/1", Some(&of_task(task)))).await.unwrap();
            kept.push(stream);
        }
    }
    let counts = proxy.shared.connections.counts();
    assert_eq!(
        (counts.authenticated, counts.evictions),
        (4 * server::limits(600, 4096).authenticated_per_owner, 320 - 4 * 58)
    );
    assert_eq!(proxy.get("/task/1").await.status, 200);
    drop(kept);
    comes_back_to_zero(&proxy).await;
}

#[tokio::test]
async fn one_run_has_so_many_requests_under_way_and_no_more() {
    let (proxy, _) = crowded().await;
    let token = of_task(1);
    let mut first = TcpStream::connect(proxy.address).await.unwrap();
    ask_on(&mut first, &get("/task/1", Some(&token))).await.unwrap();
    let mut under_way = Vec::new();
    for number in 0..150 {
        let (token, to) = (token.clone(), proxy.address);
        under_way.push(tokio::spawn(async move {
            let mut stream = connect_from(1, to).await.unwrap();
            ask_on(&mut stream, &get(&format!("/task/{number}?slow"), Some(&token))).await.unwrap()
        }));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let answers: Vec<_> = join_all(under_way).await.into_iter().map(Result::unwrap).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 503")), (58, 92));
    assert!(answers.iter().all(|answer| answer.contains("200 OK") || answer.contains("retry-after: 5")));
    let mut other = TcpStream::connect(proxy.address).await.unwrap();
    assert!(ask_on(&mut other, &get("/task/1", Some(&of_task(2)))).await.unwrap().contains("200 OK"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_between_requests_is_closed_after_a_while() {
    let (to, _) = stand_in(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let (mut near, far) = tokio::io::duplex(10_000);
    let guard = proxy.shared.connections.enter([10, 0, 0, 1].into(), std::time::Instant::now()).unwrap();
    guard.authenticate(Default::default()).unwrap();
    let (_end, ended) = watch::channel(false);
    let worker = crate::forward::Proxy::new(proxy.shared.clone());
    tokio::spawn(async move { server::serve_connection(far, worker, guard, ended).await });
    for pause in [0, 10, 15] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        near.write_all(b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut got = vec![0; 2000];
        let length = near.read(&mut got).await.unwrap();
        assert!(got[..length].starts_with(b"HTTP/1.1 400"));
    }
    let idle = tokio::time::Instant::now();
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    assert!((15..=25).contains(&idle.elapsed().as_secs()), "{:?}", idle.elapsed());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(proxy.shared.connections.is_empty());
}
