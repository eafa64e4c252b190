//! An HTTP proxy in this process for all connections of one registry query. It limits the bytes that come back, uses the HTTP proxy that
//! the environment names, and records why a connection failed.
//!
//! It listens on loopback during the query, and accepts only requests with its key.

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
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::JoinSet;
use url::Url;

use crate::places::{is_here, may_ask_address, may_ask_host};

/// The most bytes that come back for a query, including certificates. A digest comes without its manifest, and few manifests are larger.
/// `oci-client` parses the details of an error into a tree, which takes a hundred times the memory of its text.
const BYTES: usize = 256 * 1024;
/// The most connections of a query: to the registry, to its login server, and for redirects.
const CONNECTIONS: usize = 16;
/// The largest request or response head.
const HEAD: usize = 16 * 1024;
const NAME: &str = "sextant";

/// A gate, which is open until it is dropped.
pub struct Gate {
    address: SocketAddr,
    key: String,
    state: Arc<State>,
    /// Aborted on drop, with all connections.
    _server: JoinSet<()>,
}

struct State {
    /// The host and port of the queried registry.
    registry: String,
    proxies: Arc<HttpProxies>,
    authorization: String,
    left: AtomicUsize,
    failure: Mutex<Option<String>>,
}

impl State {
    /// Records the reason for a failure; the last one counts. Call this before the connection is closed, so that the client finds the
    /// reason when it gets the error.
    fn fail(&self, why: String) -> String {
        *self.failure.lock() = Some(why.clone());
        why
    }
}

impl Gate {
    /// Opens a gate for a query to this registry.
    pub async fn open(proxies: Arc<HttpProxies>, registry: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let key = format!("{:032x}", rand::random::<u128>());
        let state = Arc::new(State {
            registry: registry.to_owned(),
            proxies,
            authorization: format!("Basic {}", STANDARD.encode(format!("{NAME}:{key}"))),
            left: AtomicUsize::new(BYTES),
            failure: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state.clone()));
        Ok(Self { address, key, state, _server: server })
    }

    /// Returns the gate's URL as an HTTP proxy. It contains the key, so don't log it.
    pub fn url(&self) -> String {
        format!("http://{NAME}:{}@{}", self.key, self.address)
    }

    /// Returns why a connection failed or was cut off.
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
                // A reason that was recorded during the connection is more precise.
                state.failure.lock().get_or_insert(why);
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// A request of the client.
struct Request {
    to: Url,
    is_tunnel: bool,
    is_ours: bool,
    head: Vec<u8>,
}

impl Request {
    fn read(head: &[u8], authorization: &str) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_tunnel = method == "CONNECT";
        let to = if is_tunnel { Url::parse(&format!("https://{target}")) } else { Url::parse(target) }.ok()?;
        let value_for_gate = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
        };
        let is_ours = lines.filter_map(value_for_gate).any(|value| value == authorization);
        // The gate's credentials are not forwarded.
        let handed_on: Vec<&str> = text.split("\r\n").filter(|line| value_for_gate(line).is_none()).collect();
        Some(Self { to, is_tunnel, is_ours, head: handed_on.join("\r\n").into_bytes() })
    }
}

async fn pass(mut client: TcpStream, state: &State) -> Result<(), String> {
    let head = read_head(&mut client).await.map_err(|_| "the connection broke in this process".to_owned())?;
    let Some(request) = Request::read(&head, &state.authorization).filter(|request| request.is_ours) else {
        // The request comes from another program on this machine.
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

/// Copies bytes to the client, up to the limit.
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
            // The client has closed the connection, so it has all that it needs.
            return Ok(());
        }
    }
}

/// Connects to the requested host, through the HTTP proxy of the environment if there is one.
async fn connect(request: &Request, state: &State) -> Result<TcpStream, String> {
    let to = &request.to;
    let host = to.host_str().unwrap_or_default();
    let port = to.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let may_be_plain = is_here(host) && is_here(&state.registry);
    if !request.is_tunnel && !may_be_plain {
        return Err(format!(
            "it wants to be asked at {} without TLS, where a password could be read by others",
            excerpt(&format!("http://{host}:{port}"))
        ));
    }
    if !may_ask_host(host, &state.registry) {
        return Err(not_here(host, port));
    }
    let Some(proxy) = state.proxies.for_url(to) else {
        return connect_directly(host, bare, port, state).await;
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

/// Connects to one of the permitted addresses of a host.
async fn connect_directly(host: &str, bare: &str, port: u16, state: &State) -> Result<TcpStream, String> {
    let failed = |error: io::Error| format!("no connection to {}: {error}", excerpt(&format!("{host}:{port}")));
    let found: Vec<SocketAddr> = lookup_host((bare, port)).await.map_err(failed)?.collect();
    let may_be_asked = |address: &SocketAddr| may_ask_address(&address.ip(), host, &state.registry);
    let addresses: Vec<SocketAddr> = found.iter().copied().filter(may_be_asked).collect();
    if addresses.is_empty() && !found.is_empty() {
        return Err(not_here(host, port));
    }
    TcpStream::connect(addresses.as_slice()).await.map_err(failed)
}

/// Returns the reason why a host on this machine or its link is not contacted.
fn not_here(host: &str, port: u16) -> String {
    format!(
        "it wants to be asked at {}, which is on this machine or its link, and the registry is not",
        excerpt(&format!("{host}:{port}"))
    )
}

/// Reads a head up to and including its empty line, and no further.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(registry: &str) -> State {
        State {
            registry: registry.to_owned(),
            proxies: Arc::new(HttpProxies::from_lookup(&|_| None).unwrap()),
            authorization: "Basic key".into(),
            left: AtomicUsize::new(BYTES),
            failure: Mutex::default(),
        }
    }

    /// Returns whether a query to this registry reaches a listener on loopback.
    async fn reaches(registry: &str, line: &str) -> Result<bool, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let head = format!("{} HTTP/1.1\r\nproxy-authorization: Basic key\r\n\r\n", line.replace("PORT", &port));
        let request = Request::read(head.as_bytes(), "Basic key").filter(|request| request.is_ours).unwrap();
        connect(&request, &state(&registry.replace("PORT", &port))).await.map(|stream| {
            drop(stream);
            listener.into_std().unwrap().accept().is_ok()
        })
    }

    #[tokio::test]
    async fn a_registry_elsewhere_gets_no_connection_to_this_machine() {
        for line in [
            "GET http://127.0.0.1:PORT/token",
            "GET http://localhost:PORT/token",
            "CONNECT 127.0.0.1:PORT",
            "CONNECT localhost:PORT",
            "CONNECT 0.0.0.0:PORT",
            "CONNECT [::ffff:127.0.0.1]:PORT",
        ] {
            let why = reaches("registry.example.org", line).await.unwrap_err();
            assert!(why.contains("without TLS") || why.contains("on this machine"), "{line}: {why}");
            let line = line.replace("0.0.0.0", "127.0.0.1");
            assert_eq!(reaches("127.0.0.1:PORT", &line).await, Ok(true), "{line}");
        }
        let why = reaches("127.0.0.1:5000", "GET http://registry.example.org/token").await.unwrap_err();
        assert!(why.contains("without TLS"), "{why}");
    }

    #[test]
    fn the_key_of_the_gate_goes_no_further() {
        let head = b"GET http://localhost:5/v2/ HTTP/1.1\r\nhost: localhost:5\r\nProxy-Authorization: Basic key\r\nauthorization: Basic x\r\n\r\n";
        let request = Request::read(head, "Basic key").unwrap();
        let handed_on = String::from_utf8(request.head).unwrap();
        assert!(request.is_ours);
        assert_eq!(
            handed_on,
            "GET http://localhost:5/v2/ HTTP/1.1\r\nhost: localhost:5\r\nauthorization: Basic x\r\n\r\n"
        );
        assert!(!Request::read(head, "Basic other").unwrap().is_ours);
    }
}
