//! Checks that algorithms that request much and read nothing can't exhaust the proxy's memory. Runs in its own process, because it reads
//! the process's peak memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use sextant_config::Config;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use sextant_proxy::embedded;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use vantage6::encryption::PrivateKey;

/// The smallest memory limit that the proxy is designed for, in MiB.
const LIMIT: usize = 128;
const RUNS: u64 = 6;
const EACH: usize = 128;
/// The length of a result: just below the most that is held of one.
const RESULT: usize = 250_000;

/// Starts a server whose tasks are all subtasks of the caller's, with many results each.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answers(stream));
        }
    });
    address
}

async fn answers(stream: TcpStream) -> std::io::Result<()> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let mut stream = BufReader::with_capacity(8 * 1024, stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        let task: u64 = first.chars().filter(char::is_ascii_digit).take(4).collect::<String>().parse().unwrap_or(1000);
        if first.contains("/task/") {
            let parent = task - 1000;
            let text =
                format!(r#"{{"id": {task}, "parent": {{"id": {parent}}}, "init_org": {{"id": 2}}, "image": "i"}}"#);
            stream.write_all(format!("{HEAD}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).await?;
            continue;
        }
        stream.write_all(format!("{HEAD}Connection: close\r\n\r\n{{\"data\": [").as_bytes()).await?;
        for _ in 0..40 {
            stream.write_all(format!(r#"{{"id": 1, "task": {{"id": {task}}}, "result": ""#).as_bytes()).await?;
            for _ in 0..RESULT / 1000 {
                stream.write_all(&[b'A'; 1000]).await?;
            }
            stream.write_all(b"\"},").await?;
        }
        return stream.shutdown().await;
    }
}

fn token(task: u64) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(
        r#"{{"type": "access", "client_type": "container", "sub": {{"node_id": 3, "organization_id": 2, "task_id": {task}, "image": "i"}}}}"#
    );
    format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims), part("signature"))
}

/// Requests the results of the run's subtask, and sends the beginning of another large request.
async fn ask(proxy: SocketAddr, run: u64, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(proxy).await?;
    let (accept, ahead) = ("z".repeat(8_000), "q".repeat(40_000));
    let head = format!("Host: x\r\nAccept: {accept}\r\nAuthorization: Bearer {}\r\n\r\n", token(run));
    let request =
        format!("GET /result?task_id={}&x={number} HTTP/1.1\r\n{head}GET /x HTTP/1.1\r\nX: {ahead}", run + 1000);
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Returns the configuration of an encrypted collaboration, in a folder that the caller removes.
fn config(server: SocketAddr, folder: &std::path::Path) -> Config {
    std::fs::create_dir_all(folder).unwrap();
    let key = folder.join("key.pem");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&key).unwrap();
    file.write_all(PrivateKey::generate().unwrap().to_pem().unwrap().expose_secret().as_bytes()).unwrap();
    let encryption = format!("{{enabled: true, private_key: {}}}", key.display());
    let text = format!("server_url: http://{server}\napi_key: k\nencryption: {encryption}\n");
    Config::parse(&text, &folder.join("node.yaml"), &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn algorithms_that_read_nothing_do_not_take_more_than_there_is() {
    let folder = std::env::temp_dir().join(format!("sextant-proxy-memory-{}", std::process::id()));
    let config = config(server().await, &folder);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (health, supervisor) = (Health::waiting_for(&[]), Supervisor::default());
    let proxy = embedded(listener, &config, &health, &supervisor).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let mut kept = Vec::new();
    for number in 0..EACH {
        for run in 0..RUNS {
            kept.extend(ask(proxy.address, 100 + run, number).await);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The proxy serves others although these responses are not read.
    let mut honest = TcpStream::connect(proxy.address).await.unwrap();
    let request = format!("GET /task/1300 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token(300));
    honest.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    honest.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let most = memory_testing::peak();
    assert!(most < LIMIT, "{most} MiB");
}
