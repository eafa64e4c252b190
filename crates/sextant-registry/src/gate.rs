//! The way out for one question: an HTTP proxy in this process, which a client of a library uses for all of its connections. It lets through
//! so many bytes, goes by the HTTP proxy that the environment names, and keeps why a connection did not come about.
//!
//! It listens on loopback for the time of the question, and takes requests with its key alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outbound::HttpProxies;
use parking_lot::Mutex;
use printable::excerpt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

/// How many bytes come back for one question, certificates included. The largest manifests that registries take have four megabytes, but a
/// digest comes without one.
const BYTES: usize = 1024 * 1024;
/// How many connections a question makes: registry and login server, and redirects.
const CONNECTIONS: usize = 16;
/// How long a head may be.
const HEAD: usize = 16 * 1024;
const NAME: &str = "sextant";

/// The gate, open until it is dropped.
pub struct Gate {
    address: SocketAddr,
    key: String,
    state: Arc<State>,
    /// Aborted with the gate, and so are its connections.
    _server: JoinSet<()>,
}

struct State {
    proxies: Arc<HttpProxies>,
    authorization: String,
    left: AtomicUsize,
    failure: Mutex<Option<String>>,
}

impl State {
    /// Keeps the last reason. Before a connection is closed, so that it is there when the client hears of the end.
    fn fail(&self, why: String) -> String {
        *self.failure.lock() = Some(why.clone());
        why
    }
}

impl Gate {
    pub async fn open(proxies: Arc<HttpProxies>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let key = format!("{:032x}", rand::random::<u128>());
        let state = Arc::new(State {
            proxies,
            authorization: format!("Basic {}", STANDARD.encode(format!("{NAME}:{key}"))),
            left: AtomicUsize::new(BYTES),
            failure: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone()));
        Ok(Self { address, key, state, _server: server })
    }

    /// The gate as an HTTP proxy, with its key: not to be shown.
    pub fn url(&self) -> String {
        format!("http://{NAME}:{}@{}", self.key, self.address)
    }

    /// Why a connection did not come about, or was cut.
    pub fn failure(&self) -> Option<String> {
        self.state.failure.lock().clone()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let Ok((client, _)) = listener.accept().await else { break };
        let state = state.clone();
        connections.spawn(async move {
            if let Err(why) = pass(client, &state).await {
                // What was found out while it was open says more.
                state.failure.lock().get_or_insert(why);
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Where a client wants to go.
struct Request {
    to: Url,
    is_tunnel: bool,
    is_ours: bool,
    head: Vec<u8>,
}

impl Request {
    fn read(head: Vec<u8>, authorization: &str) -> Option<Self> {
        let text = std::str::from_utf8(&head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_tunnel = method == "CONNECT";
        let to = if is_tunnel { Url::parse(&format!("https://{target}")) } else { Url::parse(target) }.ok()?;
        let is_ours = lines
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == authorization);
        Some(Self { to, is_tunnel, is_ours, head })
    }
}

async fn pass(mut client: TcpStream, state: &State) -> Result<(), String> {
    let head = read_head(&mut client).await.map_err(|_| "the connection broke in this process".to_owned())?;
    let Some(request) = Request::read(head, &state.authorization).filter(|request| request.is_ours) else {
        // Somebody else's on this machine.
        return Ok(());
    };
    let mut server = match connect(&request, state).await {
        Ok(server) => server,
        Err(why) => {
            let why = state.fail(why);
            let _ =
                client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return Err(why);
        }
    };
    let broken = |error: io::Error| format!("the connection broke: {error}");
    if request.is_tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.map_err(broken)?;
    } else {
        server.write_all(&request.head).await.map_err(broken)?;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        up = copy(&mut from_client, &mut to_server) => up.map(drop).map_err(broken),
        down = bounded_copy(&mut from_server, &mut to_client, state) => down,
    }
}

/// Hands on what comes back, as far as there is room for it.
async fn bounded_copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    state: &State,
) -> Result<(), String> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await.map_err(|error| format!("the connection broke: {error}"))?;
        if count == 0 {
            return Ok(());
        }
        let take = |left: usize| left.checked_sub(count);
        if state.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(state.fail(format!("it answers with more than {BYTES} bytes")));
        }
        if to.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
            // The client has what it wanted.
            return Ok(());
        }
    }
}

/// Connects to where the client wants to go, by the HTTP proxy of the environment where there is one.
async fn connect(request: &Request, state: &State) -> Result<TcpStream, String> {
    let to = &request.to;
    let host = to.host_str().unwrap_or_default();
    let port = to.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if !request.is_tunnel && !super::is_here(host) {
        return Err(format!(
            "it wants to be asked at {} without TLS, where a password could be read by others",
            excerpt(&format!("http://{host}:{port}"))
        ));
    }
    let Some(proxy) = state.proxies.for_url(to) else {
        let connected = TcpStream::connect((bare, port)).await;
        return connected.map_err(|error| format!("no connection to {}: {error}", excerpt(&format!("{host}:{port}"))));
    };
    let broken = |error: io::Error| format!("through the {proxy}: {error}");
    if proxy.scheme() != "http" {
        return Err(format!("the {proxy} is not one with http://, and no other can be used"));
    }
    let mut stream = TcpStream::connect((proxy.host().as_str(), proxy.port())).await.map_err(broken)?;
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n").into_bytes();
    if let Some(login) = proxy.authorization() {
        ask.extend_from_slice(b"proxy-authorization: ");
        ask.extend_from_slice(login.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    stream.write_all(&ask).await.map_err(broken)?;
    let head = read_head(&mut stream).await.map_err(broken)?;
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match line.get(9..12) {
        Some(b"200") => Ok(stream),
        _ => Err(format!(
            "the {proxy} does not let this through, or wants another login: {}",
            excerpt(&String::from_utf8_lossy(line))
        )),
    }
}

/// Reads to the empty line, and not a byte further.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::Error::other("the answer's head is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}
