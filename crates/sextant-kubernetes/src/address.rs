//! Determines the address at which pods reach this node's data port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use sextant_config::KubernetesConfig;
use sextant_core::node_error::NodeError;

use super::cluster::with_timeout;

/// The environment variable with the pod's own address, set by the chart.
const POD_IP: &str = "POD_IP";

/// External addresses, one of each family, for route look-ups only. Nothing is sent to them (RFC 5737, RFC 3849).
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Finds the address: the configured one, else this pod's, else this machine's as seen from the cluster. It is an IP address because pods
/// do not resolve names.
///
/// # Errors
/// If a configured name can't be resolved, or this machine has no address that pods could reach.
pub async fn for_pods(
    config: &KubernetesConfig,
    client: &Client,
    api_server: Option<&str>,
    port: u16,
) -> Result<SocketAddr, NodeError> {
    let pod: Option<IpAddr> = std::env::var(POD_IP).ok().and_then(|ip| ip.parse().ok());
    let api_server: Option<IpAddr> = api_server.and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    if let Some(address) = &config.data_port.address {
        return configured("data_port", address, port, pod.or(api_server)).await;
    }
    if let Some(ip) = pod {
        return Ok(SocketAddr::new(ip.to_canonical(), port));
    }
    // The cluster's machines know the address from which this machine reaches the API server…
    if let Some(ip) = api_server.and_then(toward) {
        return Ok(SocketAddr::new(ip, port));
    }
    // …unless that is loopback (kind, k3d). Then take the route towards one of the cluster's machines, or else towards an external address.
    // Prefer the family of that machine's first address, which is the cluster's.
    let machine = machine(client).await;
    let mut targets = machine.clone();
    targets.extend(ELSEWHERE);
    if let Some(first) = machine.first().copied() {
        targets.sort_by_key(|ip| ip.is_ipv4() != first.is_ipv4());
    }
    let ip = targets.into_iter().find_map(toward).ok_or_else(|| {
        NodeError::Configuration(
            "This machine has no address but loopback, so pods could not reach it. Set \
             `kubernetes.data_port.address` to an address at which they can."
                .into(),
        )
    })?;
    Ok(SocketAddr::new(ip, port))
}

/// Resolves a configured address (`kubernetes.<setting>.address`), with this port if it has none. Of a name's addresses, the result is one
/// of the family of `like`, an address that the cluster is known to use.
///
/// # Errors
/// If it is a name that can't be resolved.
pub async fn configured(
    setting: &str,
    address: &str,
    port: u16,
    like: Option<IpAddr>,
) -> Result<SocketAddr, NodeError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip.to_canonical(), port));
    }
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
    let with_port = if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        address.to_owned()
    } else {
        format!("{address}:{port}")
    };
    let unknown = |why: String| {
        NodeError::Configuration(format!("`kubernetes.{setting}.address: {address}` can't be resolved: {why}"))
    };
    let found = tokio::net::lookup_host(&with_port).await.map_err(|error| unknown(error.to_string()))?;
    let found = found.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port())).collect();
    best(found, like, |ip| toward(ip).is_some()).ok_or_else(|| unknown("it has no address".into()))
}

/// Picks the address that pods get: one of the cluster's family if that is known, else one that this machine has a route to, IPv4 first,
/// since most clusters have it.
fn best(mut found: Vec<SocketAddr>, like: Option<IpAddr>, is_reached: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
    found.sort_by_key(|address| {
        let other_family = like.is_some_and(|like| like.to_canonical().is_ipv4() != address.is_ipv4());
        (other_family, !is_reached(address.ip()), address.is_ipv6())
    });
    found.first().copied()
}

/// This machine's address on the route to another machine; `None` if that is loopback.
fn toward(target: IpAddr) -> Option<IpAddr> {
    let target = target.to_canonical();
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// The addresses of one of the cluster's machines, the cluster's own family first. Empty if this node may not list machines.
async fn machine(client: &Client) -> Vec<IpAddr> {
    let api: Api<Node> = Api::all(client.clone());
    let Ok(nodes) = with_timeout(api.list(&ListParams::default().limit(1))).await else { return Vec::new() };
    let addresses = nodes.items.into_iter().next().and_then(|node| node.status?.addresses).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn configured_addresses_with_and_without_a_port() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:7654"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("fd00::1", "[fd00::1]:7654"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("::ffff:10.0.0.1", "10.0.0.1:7654"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("localhost", "127.0.0.1:7654"),
        ] {
            assert_eq!(configured("data_port", text, 7654, None).await.unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_no_address_for_pods() {
        assert_eq!(toward(IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
    }

    #[test]
    fn of_a_name_s_addresses_one_of_the_cluster_s_family_is_told() {
        let (v4, v6) = ("10.0.0.1", "2001:db8::1");
        let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
        for (like, reached, expected) in [
            (Some("10.9.9.9"), vec![v4, v6], v4),
            (Some("fd00::9"), vec![v4, v6], v6),
            (Some("fd00::9"), vec![v4], v6),
            (Some("::ffff:10.9.9.9"), vec![v6], v4),
            (None, vec![v6], v6),
            (None, vec![v4], v4),
            (None, vec![v4, v6], v4),
            (None, vec![], v4),
        ] {
            for found in [[v4, v6], [v6, v4]] {
                let is_reached = |ip: IpAddr| reached.contains(&ip.to_string().as_str());
                let best = best(found.map(address).into(), like.map(|ip| ip.parse().unwrap()), is_reached);
                assert_eq!(best, Some(address(expected)), "{like:?} {reached:?}");
            }
        }
        assert_eq!(best(vec![address(v6)], Some("10.0.0.9".parse().unwrap()), |_| true), Some(address(v6)));
    }
}
