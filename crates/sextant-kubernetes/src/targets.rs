//! The targets of a probe: addresses where something is known to listen, so that a missing answer means something.

use std::net::{IpAddr, SocketAddr};

use outbound::HttpProxies;
use sextant_config::{Config, KubernetesConfig};

use super::Connected;
use crate::decisions::isolation::{API_SERVER, DNS, Expected, How, MACHINE, Target, Try};
use crate::decisions::job::DataPortForPods;
use crate::decisions::neighbours::Neighbour;
use crate::decisions::network_policy::Endpoints;

/// The metadata service of cloud providers, which serves a machine's credentials.
const METADATA: &str = "169.254.169.254:80";
/// A port without an assigned use.
const ANY_PORT: u16 = 49_151;
/// The health port of a separate proxy, as the chart sets it.
const HEALTH: u16 = 8081;

/// The targets of one node.
pub struct Targets {
    data_port: DataPortForPods,
    /// The data port's address, which for a node on the host is the machine's.
    here: SocketAddr,
    proxy: SocketAddr,
    /// Whether the proxy is a separate program.
    proxy_apart: bool,
    /// The API server's address as this node uses it.
    api_server: Option<(String, u16)>,
    /// A target outside the cluster that is known to exist: the vantage6 server or, if that is not reached directly, the HTTP proxy
    /// in front of it.
    outside: (&'static str, String, u16),
    health: Option<SocketAddr>,
    closed: Vec<String>,
}

impl Targets {
    /// Derives the targets from the configuration and from where the node runs.
    pub fn new(
        config: &Config,
        settings: &KubernetesConfig,
        connected: &Connected,
        endpoints: Endpoints,
        data_port: &DataPortForPods,
    ) -> Self {
        Self {
            data_port: data_port.clone(),
            here: endpoints.data_port,
            proxy: endpoints.proxy,
            proxy_apart: settings.proxy.address.is_some(),
            api_server: connected.api_server.clone(),
            outside: outside(config, &HttpProxies::from_env().unwrap_or_default()),
            health: config.health_listen.filter(|address| !address.ip().to_canonical().is_loopback()),
            closed: settings.isolation.closed.clone(),
        }
    }

    /// The ports on which the listening probe listens, including those that policies open elsewhere.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports = vec![self.here.port(), self.proxy.port(), ANY_PORT];
        // Listening on a lower port needs privileges.
        ports.retain(|port| *port >= 1024);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// All targets, with names resolved now.
    ///
    /// # Errors
    /// If a name can't be resolved and its target therefore can't be tried.
    pub async fn now(&self) -> Result<Vec<Target>, String> {
        let mut all = vec![
            target("the node's data port", self.here.to_string(), Expected::Open),
            target("the proxy", self.proxy.to_string(), Expected::Open),
        ];
        all[0].attempt.how = How::Pinned(self.data_port.pin.clone());
        all[1].attempt.how = How::Http;
        for (name, to, expected) in [
            ("the API server", format!("{API_SERVER}:0"), Expected::Closed),
            ("the kubelet of its own machine", format!("{MACHINE}:10250"), Expected::Closed),
            ("ssh on its own machine", format!("{MACHINE}:22"), Expected::ClosedIfThere),
            ("the cloud's metadata service", METADATA.to_owned(), Expected::ClosedIfThere),
        ] {
            all.push(target(name, to, expected));
        }
        Self::name_servers(&mut all);
        if let Some((host, port)) = &self.api_server {
            for ip in look_up(host, *port).await? {
                // Pods can't reach an address that is loopback for this node.
                if !ip.is_loopback() {
                    all.push(target("the API server", SocketAddr::new(ip, *port).to_string(), Expected::Closed));
                }
            }
        }
        let (name, host, port) = &self.outside;
        for ip in look_up(host, *port).await? {
            // A server on loopback runs on the node's machine, so pods try the machine's address.
            let (ip, expected) =
                if ip.is_loopback() { (self.here.ip(), Expected::ClosedIfThere) } else { (ip, Expected::Closed) };
            all.push(target(name, SocketAddr::new(ip, *port).to_string(), expected));
        }
        self.health_ports(&mut all);
        for address in &self.closed {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            let Ok(port) = port.parse() else { continue };
            for ip in look_up(host.trim_matches(['[', ']']), port).await? {
                // What is on loopback for this node (also by a machine's own name in its hosts file) is on its machine.
                let ip = if ip.is_loopback() || ip.is_unspecified() { self.here.ip() } else { ip };
                let to = SocketAddr::new(ip, port).to_string();
                all.push(target("what `kubernetes.isolation.closed` names", to, Expected::ClosedIfThere));
            }
        }
        // Try duplicates only once.
        let mut seen = std::collections::HashSet::new();
        all.retain(|target| seen.insert((target.attempt.to.clone(), format!("{:?}", target.attempt.how))));
        Ok(all)
    }

    /// The data ports and proxies of other nodes, as far as their Jobs show them. Addresses that this node's own pods need are left out,
    /// whatever the Jobs say. The cluster itself may refuse connections to an address that has nothing behind it.
    pub fn of_neighbours(&self, others: &[Neighbour]) -> Vec<Target> {
        let own = |address: &SocketAddr| *address == self.here || *address == self.proxy;
        let endpoints = |other: &Neighbour| {
            let proxy = other.proxy.map(|ip| SocketAddr::new(ip, self.proxy.port()));
            [("data port", other.data_port), ("proxy", proxy)]
        };
        let target = |other: &Neighbour, what: &str, address: SocketAddr| {
            let name = format!("the {what} of another node in this namespace (node key {})", other.key);
            target(&name, address.to_string(), Expected::ClosedService)
        };
        let tries = others.iter().flat_map(|other| endpoints(other).map(|(what, address)| (other, what, address)));
        tries
            .filter_map(|(other, what, address)| Some((other, what, address.filter(|address| !own(address))?)))
            .map(|(other, what, address)| target(other, what, address))
            .collect()
    }

    fn name_servers(all: &mut Vec<Target>) {
        let mut servers: Vec<String> = own_name_servers().map(|ip| SocketAddr::new(ip, 53).to_string()).collect();
        servers.push(format!("{DNS}:53"));
        for to in servers {
            let mut by_udp = target("the cluster's DNS", to.clone(), Expected::ClosedService);
            by_udp.attempt.how = How::Udp;
            all.extend([by_udp, target("the cluster's DNS", to, Expected::ClosedService)]);
        }
    }

    fn health_ports(&self, all: &mut Vec<Target>) {
        if let Some(health) = self.health {
            let own = std::env::var("POD_IP").ok().and_then(|ip| ip.parse().ok()).unwrap_or(self.here.ip());
            let ip = if health.ip().is_unspecified() { own } else { health.ip() };
            let to = SocketAddr::new(ip, health.port()).to_string();
            all.push(target("the node's health port", to, Expected::Closed));
        }
        if self.proxy_apart {
            let to = SocketAddr::new(self.proxy.ip(), HEALTH).to_string();
            all.push(target("the proxy's health port", to, Expected::ClosedService));
        }
    }
}

/// The first address on the connection to the server, as seen from the organization. If an HTTP proxy is in between, the
/// server's own name may not resolve here.
fn outside(config: &Config, environment: &HttpProxies) -> (&'static str, String, u16) {
    let url = url::Url::parse(&config.base_url()).ok();
    if let Some(proxy) = url.as_ref().and_then(|url| environment.for_url(url)) {
        return ("the HTTP proxy that the environment names", proxy.host(), proxy.port());
    }
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.as_ref().and_then(url::Url::port_or_known_default).unwrap_or(443);
    ("the vantage6 server", host, port)
}

fn target(name: &str, to: String, expected: Expected) -> Target {
    Target { name: name.to_owned(), attempt: Try { to, how: How::Tcp }, expected }
}

/// The cluster's name servers if this process runs in a pod; otherwise none, because the process's name servers are not the cluster's.
fn own_name_servers() -> impl Iterator<Item = IpAddr> {
    let inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let file = if inside { std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default() } else { String::new() };
    let servers: Vec<IpAddr> =
        file.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect();
    servers.into_iter()
}

async fn look_up(host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("the name {host} can't be looked up: {error}"))?;
    // More than a few addresses of one name add nothing.
    Ok(found.map(|address| address.ip().to_canonical()).take(4).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_other_nodes_are_tried_but_never_ones_own() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let targets = Targets {
            data_port: DataPortForPods { address: "10.0.0.1:7654".into(), pin: String::new() },
            here: address("10.0.0.1:7654"),
            proxy: address("10.0.0.2:8080"),
            proxy_apart: true,
            api_server: None,
            outside: ("the vantage6 server", "s".into(), 443),
            health: None,
            closed: vec![],
        };
        let other = |data_port: Option<&str>, proxy: Option<&str>| Neighbour {
            key: "k".into(),
            data_port: data_port.map(address),
            proxy: proxy.map(|ip| ip.parse().unwrap()),
        };
        for (others, expected) in [
            (vec![other(Some("10.0.0.7:1"), Some("10.0.0.8"))], vec!["10.0.0.7:1", "10.0.0.8:8080"]),
            (vec![other(None, None)], vec![]),
            // One that names this node's own address would make the node look unisolated.
            (vec![other(Some("10.0.0.2:8080"), Some("10.0.0.2")), other(Some("10.0.0.1:7654"), None)], vec![]),
        ] {
            let tries = targets.of_neighbours(&others);
            assert_eq!(tries.iter().map(|each| each.attempt.to.as_str()).collect::<Vec<_>>(), expected);
            assert!(tries.iter().all(|each| each.expected == Expected::ClosedService && each.name.contains("key k")));
        }
    }

    #[tokio::test]
    async fn what_is_on_loopback_is_tried_at_the_machine() {
        let targets = Targets {
            data_port: DataPortForPods { address: "192.0.2.1:7654".into(), pin: String::new() },
            here: "192.0.2.1:7654".parse().unwrap(),
            proxy: "192.0.2.2:8080".parse().unwrap(),
            proxy_apart: true,
            api_server: None,
            outside: ("the vantage6 server", "192.0.2.3".into(), 443),
            health: None,
            closed: ["127.0.1.1:5432", "[::1]:5433", "0.0.0.0:5434", "192.0.2.9:5435"].map(str::to_owned).to_vec(),
        };
        let all = targets.now().await.unwrap();
        let named = all.iter().filter(|target| target.name.contains("isolation.closed"));
        let tried: Vec<&str> = named.map(|target| target.attempt.to.as_str()).collect();
        assert_eq!(tried, ["192.0.2.1:5432", "192.0.2.1:5433", "192.0.2.1:5434", "192.0.2.9:5435"]);
    }

    #[test]
    fn what_is_outside_for_sure() {
        let text = "server_url: https://server.example\napi_key: k\n";
        let config = Config::parse(text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
        let directly = outside(&config, &HttpProxies::default());
        assert_eq!(directly, ("the vantage6 server", "server.example".to_owned(), 443));
        let proxies =
            HttpProxies::from_lookup(&|name| (name == "https_proxy").then(|| "http://proxy.example:3128".to_owned()));
        let (_, host, port) = outside(&config, &proxies.unwrap());
        assert_eq!((host.as_str(), port), ("proxy.example", 3128));
    }
}
