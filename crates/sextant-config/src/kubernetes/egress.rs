//! Egress from a run's pod to a database on the network: the address and the ports.

use std::fmt;
use std::net::IpAddr;

use super::super::names;
use super::super::reader::Field;
use super::{destinations, sums};

/// The ports of DNS, and of DNS over TLS.
pub(super) const NAME_SERVERS: [u16; 2] = [53, 853];
/// Ports of services that forward connections or give control over machines, with a description.
const OF_OTHERS: [(u16, &str); 17] = [
    (21, "file transfers"),
    (22, "SSH, which passes connections on to everywhere"),
    (23, "Telnet"),
    (25, "mail"),
    (465, "mail"),
    (587, "mail"),
    (1080, "proxies, which pass connections on to everywhere"),
    (2375, "Docker, by which whoever reaches it has the machine"),
    (2376, "Docker, by which whoever reaches it has the machine"),
    (2379, "etcd, which holds the secrets of a cluster"),
    (2380, "etcd, which holds the secrets of a cluster"),
    (3128, "proxies, which pass connections on to everywhere"),
    (3389, "remote desktops"),
    (5900, "remote desktops"),
    (6443, "API servers of Kubernetes"),
    (10250, "kubelets, by which whoever may has the machine"),
    (10255, "kubelets"),
];
/// Public name servers, which also answer over HTTPS.
const PUBLIC_RESOLVERS: [&str; 18] = [
    "1.0.0.1/32",
    "1.0.0.2/32",
    "1.0.0.3/32",
    "1.1.1.1/32",
    "1.1.1.2/32",
    "1.1.1.3/32",
    "8.8.4.4/32",
    "8.8.8.8/32",
    "9.9.9.0/24",
    "76.76.2.0/24",
    "94.140.14.0/24",
    "149.112.112.0/24",
    "185.228.168.0/24",
    "208.67.220.0/24",
    "208.67.222.0/24",
    "2001:4860:4860::/64",
    "2606:4700:4700::/64",
    "2620:fe::/48",
];

/// One allowed destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The range of addresses.
    pub cidr: Cidr,
    /// The TCP ports; at least one.
    pub ports: Vec<u16>,
    /// The host name under which algorithms find the address, as they can't use DNS. Only with a single address.
    pub host: Option<String>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address: no bit beyond the prefix is set.
    pub address: IpAddr,
    /// The number of bits that all addresses share.
    pub prefix: u8,
}

impl Cidr {
    /// The range of a single address.
    #[must_use]
    pub const fn only(address: IpAddr) -> Self {
        Self { address, prefix: whole(address) }
    }

    /// The address, if there is only one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        (self.prefix == whole(self.address)).then_some(self.address)
    }

    /// Whether an address is in the range, in any notation.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        destinations::overlap(*self, Self::only(address))
    }

    /// Parses `10.1.2.0/24`, or a single address. `Err` contains the range that was probably meant, if there is one.
    pub(super) fn parse(text: &str) -> Result<Self, Option<Self>> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| None)?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| None)?,
            None => whole(address),
        };
        if prefix > whole(address) {
            return Err(None);
        }
        let first = Self { address: masked(address, prefix), prefix };
        if first.address == address { Ok(first) } else { Err(Some(first)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

const fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
        }
    }
}

/// Reads the `egress` of a database and reports its errors.
pub(super) fn read(field: &Field<'_>, api_servers: &[IpAddr]) -> Vec<Egress> {
    let expected = "a list of ways out, like `[{cidr: 10.1.2.3/32, port: 5432}]`";
    let ways: Vec<Egress> =
        field.list(expected).unwrap_or_default().iter().filter_map(|item| way(item, api_servers)).collect();
    if let Some(warning) = sums::warning(ways.iter().map(|way| way.cidr)) {
        field.warn(warning);
    }
    ways
}

fn way(item: &Field<'_>, api_servers: &[IpAddr]) -> Option<Egress> {
    let section = item.section("a mapping with `cidr` and `port`")?;
    let range = "a range of IP addresses, like `10.1.2.3/32`";
    let cidr = section.require("cidr", range).and_then(|field| cidr(&field, range, api_servers));
    let mut ports = Vec::new();
    for key in ["port", "ports"] {
        let Some(field) = section.get(key) else { continue };
        let expected = "a port, or a list of them";
        let items = field.one_or_more(expected)?;
        if items.is_empty() {
            field.wrong(expected, "");
        }
        ports.extend(items.iter().filter_map(port));
    }
    if ports.is_empty() && section.get("port").is_none() && section.get("ports").is_none() {
        section.require("port", "the TCP port that the database listens at");
    }
    if let Some(cidr) = cidr.filter(is_of_public_resolvers) {
        item.warn(format_args!(
            "{cidr} has a name server for everybody in it, which passes questions on to everywhere, on any port: algorithms that ask for this \
             database may tell anybody anything by them. Name the database's own address."
        ));
    }
    let host = section.get("host").and_then(|field| host(&field, cidr));
    section.finish_own();
    Some(Egress { cidr: cidr?, ports: Some(ports).filter(|ports| !ports.is_empty())?, host })
}

/// Whether a range overlaps that of a public name server.
fn is_of_public_resolvers(cidr: &Cidr) -> bool {
    let resolvers = PUBLIC_RESOLVERS.iter().filter_map(|text| Cidr::parse(text).ok());
    resolvers.into_iter().any(|resolver| destinations::overlap(*cidr, resolver))
}

fn cidr(field: &Field<'_>, expected: &str, api_servers: &[IpAddr]) -> Option<Cidr> {
    match Cidr::parse(field.text(expected)?) {
        Ok(cidr) => {
            for warning in destinations::warnings(cidr, api_servers) {
                field.warn(warning);
            }
            Some(cidr)
        }
        Err(meant) => {
            let advice = meant.map(|meant| format!("Did you mean `{meant}`?")).unwrap_or_default();
            field.wrong(expected, &advice);
            None
        }
    }
}

fn port(field: &Field<'_>) -> Option<u16> {
    let expected = "a port from 1 to 65535";
    let port = field.number(expected)?;
    if port == 0 {
        field.wrong(expected, "");
        return None;
    }
    if NAME_SERVERS.contains(&port) {
        field.warn(format_args!(
            "{port} is the port of name servers, which pass questions on to everywhere: algorithms that ask for this database may tell \
             anybody anything by them. Name the database's own."
        ));
    }
    if let Some((_, what)) = OF_OTHERS.iter().find(|(other, _)| *other == port) {
        field.warn(format_args!(
            "{port} is the port of {what}, and of no database. See that nothing but the database listens there."
        ));
    }
    Some(port)
}

fn host(field: &Field<'_>, cidr: Option<Cidr>) -> Option<String> {
    let expected = "the name of a host, in small letters";
    let name = field.text(expected)?;
    if let Some(why) = destinations::taken(name) {
        field.wrong("the name of a host that is the database's", why);
        return None;
    }
    if !names::is_dns_name(name) {
        field.wrong(expected, "");
        return None;
    }
    if cidr.is_some_and(|cidr| cidr.single().is_none()) {
        field.wrong("no name for a whole range", "Give the host a way of its own, with its address as `cidr`.");
        return None;
    }
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("10.1.2.3", Ok("10.1.2.3/32")),
            ("10.1.2.0/24", Ok("10.1.2.0/24")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("fd00::/8", Ok("fd00::/8")),
            ("::/0", Ok("::/0")),
            ("10.1.2.3/24", Err(Some("10.1.2.0/24"))),
            ("fd00::1/64", Err(Some("fd00::/64"))),
            ("10.1.2.3/33", Err(None)),
            ("10.1.2/24", Err(None)),
            ("db.example.org", Err(None)),
            ("", Err(None)),
        ] {
            let found = Cidr::parse(text).map(|cidr| cidr.to_string()).map_err(|cidr| cidr.map(|c| c.to_string()));
            assert_eq!(found, expected.map(str::to_owned).map_err(|e| e.map(str::to_owned)), "{text}");
        }
    }
}
