//! Which address pods reach this node's data port at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use sextant_config::KubernetesConfig;
use sextant_core::node_error::NodeError;

use super::cluster::bounded;

/// The environment variable with the pod's own address, set by the chart.
const POD_IP: &str = "POD_IP";

/// Finds the address: the configured one, or else this pod's, or else this machine's as seen from the cluster.
/// An IP address, because pods look up no names.
///
/// # Errors
/// If a configured name can't be resolved.
pub async fn for_pods(
    config: &KubernetesConfig,
    client: &Client,
    api_server: Option<&str>,
    port: u16,
) -> Result<SocketAddr, NodeError> {
    if let Some(address) = &config.data_port.address {
        return configured("data_port", address, port).await;
    }
    if let Some(ip) = std::env::var(POD_IP).ok().and_then(|ip| ip.parse().ok()) {
        return Ok(SocketAddr::new(ip, port));
    }
    // The address that this machine uses towards the API server is one that the cluster's machines know…
    if let Some(ip) = api_server.and_then(|host| host.trim_matches(['[', ']']).parse().ok()).and_then(toward) {
        return Ok(SocketAddr::new(ip, port));
    }
    // …unless the API server is reached on loopback (kind, k3d): then towards one of the cluster's machines.
    let ip = match machine(client).await.and_then(toward) {
        Some(ip) => ip,
        // Or towards anywhere; connecting a UDP socket sends nothing.
        None => toward(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    Ok(SocketAddr::new(ip, port))
}

/// The address that a configured one (`kubernetes.<setting>.address`) stands for, with this port if it has none.
///
/// # Errors
/// If it is a name that can't be resolved.
pub async fn configured(setting: &str, address: &str, port: u16) -> Result<SocketAddr, NodeError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let with_port = if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        address.to_owned()
    } else {
        format!("{address}:{port}")
    };
    let unknown = |why: String| {
        NodeError::Configuration(format!("`kubernetes.{setting}.address: {address}` can't be resolved: {why}"))
    };
    let found: Vec<_> =
        tokio::net::lookup_host(&with_port).await.map_err(|error| unknown(error.to_string()))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| unknown("it has no address".into()))
}

/// This machine's address on the way to another; `None` when that is loopback.
fn toward(target: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((target, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// The address of one of the cluster's machines, if this node may ask.
async fn machine(client: &Client) -> Option<IpAddr> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = bounded(api.list(&ListParams::default().limit(1))).await.ok()?;
    let addresses = nodes.items.into_iter().next()?.status?.addresses?;
    addresses.iter().find(|address| address.type_ == "InternalIP")?.address.parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::address::*;

    #[tokio::test]
    async fn configured_addresses_with_and_without_a_port() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:7654"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("fd00::1", "[fd00::1]:7654"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("localhost", "127.0.0.1:7654"),
        ] {
            assert_eq!(configured("data_port", text, 7654).await.unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_no_address_for_pods() {
        assert_eq!(toward(IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
    }
}
