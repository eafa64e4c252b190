//! The cluster's part of `sextant doctor`: cluster, permissions, data port, proxy, isolation.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use secrecy::SecretString;
use sextant_config::{Config, KubernetesConfig, disk as disk_in_words};
use sextant_core::doctor_line::Line;
use sextant_core::names::Identity;
use sextant_core::runtime::Upload;
use sextant_process::listening;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use vantage6_types::RunId;

use super::endpoints::NodeEndpoints;
use super::permissions::Rights;
use super::probe::Prober;
use super::targets::Targets;
use super::{Connected, cluster, neighbours, permissions, rules, services};
use crate::data_port::bounds::Limits;
use crate::data_port::keys::KeyOf;
use crate::data_port::protocol::Command;
use crate::data_port::server::{Answer, Input, PodApi, serve};
use crate::decisions::isolation::{How, Outcome, Proof, Try};
use crate::decisions::labels;
use crate::pod::probe::try_once;

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks everything that concerns the cluster.
pub async fn run(
    config: &Config,
    settings: &KubernetesConfig,
    identity: &Identity,
    isolation: bool,
    tell: &mut (dyn FnMut(Line) + Send),
) {
    let connected = match reach(settings).await {
        Ok((connected, words)) => {
            tell(Line::ok("cluster", words));
            connected
        }
        Err(error) => return tell(Line::wrong("cluster", error)),
    };
    match permissions::check(&connected.client, &settings.namespace).await {
        Ok(Rights::All) => {
            tell(Line::ok("rights", format!("all that the node needs in the namespace '{}'", settings.namespace)));
        }
        Ok(Rights::Unknown(why)) => tell(Line::unknown(
            "rights",
            format!("the cluster does not say what this node may do in the namespace '{}': {why}", settings.namespace),
        )),
        Err(error) => return tell(Line::wrong("rights", error.to_string())),
    }
    tell(neighbours(&connected, settings, identity).await);
    tell(namespace_rules(&connected, settings).await);
    if !settings.services.is_empty() {
        tell(services::line(&connected.client, settings).await);
    }
    tell(disk(config, settings));
    let listener = listening::listen(settings.data_port.listen);
    let port = settings.data_port.listen.port();
    let node_endpoints = match NodeEndpoints::find(&connected, config, settings, identity, port).await {
        Ok(node_endpoints) => node_endpoints,
        Err(error) => return tell(Line::wrong("data port", error.to_string())),
    };
    let free = data_port(settings, &node_endpoints, &listener, tell).await;
    let own_proxy = proxy(settings, &node_endpoints, free, tell).await;
    if !isolation {
        tell(Line::unknown("isolation", "not tried; add --isolation to have a pod try what algorithms can reach"));
        return;
    }
    let targets = Targets::new(config, settings, &connected, node_endpoints.endpoints, &node_endpoints.data_port);
    let prober = Prober::new(&connected.client, identity, settings, &node_endpoints.pull_secrets);
    // If no node runs here, the probe needs something that answers.
    let mut stand_in = JoinSet::new();
    if let (true, Ok(listener)) = (free, listener) {
        let NodeEndpoints { tls, secret, .. } = node_endpoints;
        stand_in.spawn(serve(
            listener,
            tls,
            secret,
            Arc::new(Nobody),
            Limits::within(sextant_process::rlimit::raise_open_files()),
        ));
    }
    if let (true, Some(listener)) = (free, own_proxy) {
        stand_in.spawn(no_proxy(listener));
    }
    tell(isolation_monitor(prober.prove(&targets).await));
}

/// Whether other nodes have Jobs in the namespace.
async fn neighbours(connected: &Connected, settings: &KubernetesConfig, identity: &Identity) -> Line {
    const SUBJECT: &str = "namespace";
    let namespace = &settings.namespace;
    match neighbours::find(&Api::namespaced(connected.client.clone(), namespace), identity).await {
        Err(error) => Line::unknown(
            SUBJECT,
            format!("the Jobs in '{namespace}' can't be listed: {}", cluster::error_chain(&error)),
        ),
        Ok(others) if others.is_empty() => {
            Line::ok(SUBJECT, format!("'{namespace}' has no Jobs of another node at the moment"))
        }
        Ok(others) => {
            let keys: Vec<&str> = others.iter().map(|other| other.key.as_str()).collect();
            Line::unknown(
                SUBJECT,
                format!(
                    "'{namespace}' has Jobs of other nodes, too ({} {}): each of them can read the Secrets of this node's runs. If they are not your \
                     own organization's, give each a namespace of its own.",
                    labels::NODE_KEY,
                    keys.join(", ")
                ),
            )
        }
    }
}

/// Whether the namespace's quotas and LimitRanges admit any run.
async fn namespace_rules(connected: &Connected, settings: &KubernetesConfig) -> Line {
    const SUBJECT: &str = "quotas";
    let namespace = &settings.namespace;
    match rules::find(&connected.client, settings).await {
        Ok(found) if found.is_empty() => {
            Line::ok(SUBJECT, format!("no ResourceQuota and no LimitRange of '{namespace}' forbids a run by itself"))
        }
        Ok(found) => {
            Line::wrong(SUBJECT, format!("'{namespace}' admits no run: {}. {}", found.join("; "), rules::REMEDY))
        }
        Err(error) => Line::unknown(
            SUBJECT,
            format!(
                "the ResourceQuotas and LimitRanges of '{namespace}' can't be read: {}. `kubectl describe \
                 quota,limits -n {namespace}` shows them.",
                cluster::error_chain(&error)
            ),
        ),
    }
}

/// The limit on what algorithms write to disk. How a container runtime handles the `VOLUME`s of images can't be seen from here.
fn disk(config: &Config, settings: &KubernetesConfig) -> Line {
    const VOLUMES: &str = "If the container runtime gives images the VOLUMEs that they declare, these are outside of it: see docs/OPERATIONS.md, \"Disks\".";
    let text = disk_in_words(config, settings);
    match settings.scratch {
        Some(_) => Line::unknown("disk", format!("{text}. {VOLUMES}")),
        None => Line::unknown("disk", text),
    }
}

/// Connects to the cluster, but does not wait for it.
async fn reach(settings: &KubernetesConfig) -> Result<(Connected, String), String> {
    let access = cluster::access(settings).await.map_err(|error| error.to_string())?;
    let address = access.address();
    let connected = Connected::to(&access);
    let away = |why: String| {
        format!("the cluster at {address} can't be used: {why}. Is it running, and are address and account right?")
    };
    match timeout(PATIENCE, connected.client.apiserver_version()).await {
        Ok(Ok(version)) => Ok((connected, format!("Kubernetes {} at {address}", version.git_version))),
        Ok(Err(error)) => {
            Err(cluster::final_reason(&access, &error).unwrap_or_else(|| away(cluster::error_chain(&error))))
        }
        Err(_) => Err(away(format!("it does not answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Checks the data port. Returns whether it is free.
async fn data_port(
    settings: &KubernetesConfig,
    node_endpoints: &NodeEndpoints,
    listener: &std::io::Result<TcpListener>,
    tell: &mut (dyn FnMut(Line) + Send),
) -> bool {
    const SUBJECT: &str = "data port";
    let (listen, told) = (settings.data_port.listen, node_endpoints.endpoints.data_port);
    match listener {
        Ok(_) => {
            tell(Line::ok(
                SUBJECT,
                format!("no node is running here; {listen} is free, and pods will connect to {told}"),
            ));
            return true;
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let to = near(listen).to_string();
            let mine = Try { to: to.clone(), how: How::Pinned(node_endpoints.data_port.pin.clone()) };
            tell(match try_once(&mine).await {
                Outcome::Open => {
                    Line::ok(SUBJECT, format!("the node that runs here answers at {to}; pods connect to {told}"))
                }
                _ => Line::wrong(
                    SUBJECT,
                    format!(
                        "{listen} is in use, and not by this node. Set `kubernetes.data_port.listen` to an address that is free."
                    ),
                ),
            });
        }
        Err(error) => tell(Line::wrong(SUBJECT, format!("can't listen at {listen}: {error}"))),
    }
    false
}

/// The address at which a listener is reachable from the same machine.
fn near(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        // It listens on both families, or on IPv4 alone.
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Checks the proxy. Returns a listener on the address of the node's own proxy if that is free.
async fn proxy(
    settings: &KubernetesConfig,
    node_endpoints: &NodeEndpoints,
    no_node: bool,
    tell: &mut (dyn FnMut(Line) + Send),
) -> Option<TcpListener> {
    const SUBJECT: &str = "proxy";
    let at = node_endpoints.endpoints.proxy;
    if settings.proxy.address.is_none() {
        return own_proxy(settings.proxy.listen, at, no_node, tell).await;
    }
    tell(match try_once(&Try { to: at.to_string(), how: How::Http }).await {
        Outcome::Open => Line::ok(SUBJECT, format!("answers at {at}")),
        // A node in the cluster may not be allowed to reach the proxy, and does not need to.
        _ if !matches!(timeout(PATIENCE, TcpStream::connect(at)).await, Ok(Ok(_))) => {
            Line::unknown(SUBJECT, format!("{at} can't be reached from here; --isolation tries it from a pod"))
        }
        _ => Line::wrong(SUBJECT, format!("{at} does not speak HTTP. Is `kubernetes.proxy.address` right?")),
    });
    None
}

async fn own_proxy(
    listen: SocketAddr,
    at: SocketAddr,
    no_node: bool,
    tell: &mut (dyn FnMut(Line) + Send),
) -> Option<TcpListener> {
    const SUBJECT: &str = "proxy";
    let bound = listening::listen(listen);
    let near = near(listen).to_string();
    tell(match &bound {
        Ok(_) if no_node => {
            Line::ok(SUBJECT, format!("the node itself, when it runs; {listen} is free, and pods will connect to {at}"))
        }
        Ok(_) => Line::wrong(SUBJECT, format!("the node that runs here does not listen at {listen}; restart it")),
        Err(_) if no_node => Line::wrong(
            SUBJECT,
            format!(
                "the node can't listen at {listen}. Set `kubernetes.proxy.listen` to an address and port that are free."
            ),
        ),
        Err(_) => match try_once(&Try { to: near.clone(), how: How::Http }).await {
            Outcome::Open => Line::ok(SUBJECT, format!("the node itself answers at {near}; pods connect to {at}")),
            _ => Line::wrong(SUBJECT, format!("the process that listens at {near} does not answer as a proxy")),
        },
    });
    bound.ok()
}

/// Stands in for a node's proxy: answers every request with an error.
async fn no_proxy(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 1024];
        let _ = timeout(Duration::from_secs(1), stream.read(&mut request)).await;
        let _ = stream
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    }
}

fn isolation_monitor(proof: Proof) -> Line {
    const SUBJECT: &str = "isolation";
    match proof {
        Proof::Isolated => Line::ok(
            SUBJECT,
            "a pod like an algorithm's reaches the proxy and the data port, and nothing else that was tried",
        ),
        Proof::Wrong { open, missing } => Line::wrong(
            SUBJECT,
            format!("{}. See docs/OPERATIONS.md, \"Network isolation\".", [open, missing].concat().join("; ")),
        ),
        Proof::Inconclusive(why) => Line::wrong(SUBJECT, format!("could not be checked: {why}")),
    }
}

/// Stands in for a node: answers every pod that nothing is available now.
struct Nobody;

#[async_trait::async_trait]
impl PodApi for Nobody {
    fn key_of(&self, _: RunId, _: &str) -> Option<KeyOf> {
        None
    }

    async fn input(&self, _: RunId) -> Result<Input, Answer> {
        Err(Answer::Later)
    }

    async fn token(&self, _: RunId) -> Result<SecretString, Answer> {
        Err(Answer::Later)
    }

    async fn next(&self, _: RunId) -> Command {
        Command::Wait
    }

    async fn deliver(&self, _: RunId, _: Upload) -> Result<(), Answer> {
        Err(Answer::Later)
    }
}
