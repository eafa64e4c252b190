//! Opens private parts to the fuzzer (`--cfg fuzzing`): the proxy between two in-memory streams, and its pure functions.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use outbound::HttpProxies;
use sextant_config::Config;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use vantage6::encryption::{Cryptor, PrivateKey, PublicKey};

use super::access_log::AccessLog;
pub use super::caller::caller;
use super::caller::{Caller, Client};
use super::encrypted_task::{Quotas, TaskReader};
use super::forward::Proxy;
use super::memory::Memory;
pub use super::results::Form;
pub use super::route::{Misrouted, Route, Target, route};
use super::upstream::Origin;
use super::{Resources, Shared, links, results, server};

/// Replaces the network: each call returns a connection to the server.
pub type Network = Arc<dyn Fn() -> DuplexStream + Send + Sync>;

fn config(server_url: &str) -> Option<Config> {
    Config::parse(&format!("server_url: {server_url}\napi_key: k\n"), Path::new("node.yaml"), &|_| None).ok()
}

/// Serves one connection until it ends, for the server at this address. Returns how many requests were answered, or `None` if the
/// address can't be used.
pub async fn serve(stream: DuplexStream, server_url: &str, cryptor: Cryptor, network: Network) -> Option<u64> {
    let mut shared = Shared::new(
        &config(server_url)?,
        &HttpProxies::default(),
        AccessLog::Node,
        Resources { open_files: 1024, memory: Memory::of(None) },
    )
    .ok()?;
    let settings = Arc::get_mut(&mut shared)?;
    settings.cryptor = cryptor;
    settings.origin.network = Some(network);
    let (_end, ended) = watch::channel(false);
    let guard = shared.connections.enter([10, 0, 0, 1].into(), std::time::Instant::now()).ok()?;
    let _ = server::serve_connection(stream, Proxy::new(shared.clone()), guard, ended).await;
    assert!(shared.connections.is_empty(), "a place was not given back: {:?}", shared.connections);
    Some(shared.metrics.answers())
}

const CLIENT: Client = Client {
    caller: Caller { task: None, node: None, organization: None },
    source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
};

/// Rewrites the links of a text, both in memory and as a stream.
pub async fn linked(pieces: Vec<Bytes>, server_url: &str) -> Option<(Bytes, Bytes)> {
    let origin = Origin::new(&config(server_url)?, &HttpProxies::default()).ok()?;
    let whole = links::in_text(pieces.concat().into(), &origin);
    let coming = links::in_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)), &origin);
    Some((whole, coming.try_collect::<Vec<_>>().await.ok()?.concat().into()))
}

/// Decrypts the results in a text.
pub async fn decrypted(pieces: Vec<Bytes>, form: Form, key: Arc<PrivateKey>) -> Result<Vec<u8>, std::io::Error> {
    let pieces = stream::iter(pieces.into_iter().map(Ok));
    let quotas = Quotas::new(1 << 30, &Memory::of(None));
    let how = results::Decryption {
        form,
        key,
        failures: Arc::default(),
        quota: quotas.results,
        rsa_queue: Arc::default(),
        client: CLIENT,
    };
    Ok(results::decrypted(pieces, how).try_collect::<Vec<_>>().await?.concat())
}

/// Returns a task of the image `i` as it would be sent. All inputs are encrypted for this key, whatever the organizations are.
///
/// # Errors
/// With the message for the algorithm.
pub async fn task(pieces: Vec<Bytes>, key: &PublicKey) -> Result<Bytes, String> {
    let mut reading = TaskReader::new(&Quotas::new(1 << 30, &Memory::of(None)), CLIENT);
    for piece in pieces {
        reading.feed(&piece).await.map_err(|refusal| refusal.message)?;
    }
    let task = reading.finish("i").map_err(|refusal| refusal.message)?;
    let keys = vec![key.clone(); task.recipients.len()];
    let sent = task.encrypted(&keys, &Arc::default(), CLIENT).map_err(|refusal| refusal.message)?;
    let announced = http_body::Body::size_hint(&sent).exact();
    let sent = sent.collect().await.map_err(|error| error.to_string())?.to_bytes();
    assert_eq!(announced, Some(sent.len() as u64), "the length that was announced");
    Ok(sent)
}
