//! Egress destinations that are not a database's: wide ranges, the machine itself, the cloud's metadata, the cluster's API server, and
//! host names that mean something else in a pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::Surroundings;
use super::super::diagnostics::Diagnostics;
use super::super::names;
use super::super::yaml::{self, Node, Value};
use super::Cidr;

const METADATA: &str = "the metadata of the cloud, which often has credentials of the machine";
/// The prefix lengths (IPv4, IPv6) of the widest range that a database is expected to have.
pub(super) const WIDEST: (u8, u8) = (24, 64);

/// Addresses with a special meaning, and what is there. The first match is reported.
const PLACES: [(&str, &str); 14] = [
    ("169.254.169.254/32", METADATA),
    ("169.254.170.2/32", METADATA),
    ("fd00:ec2::254/128", METADATA),
    ("fd00:ec2::23/128", METADATA),
    ("fd20:ce::254/128", METADATA),
    ("100.100.100.200/32", METADATA),
    ("168.63.129.16/32", METADATA),
    ("192.0.0.192/32", METADATA),
    ("169.254.0.0/16", "link-local addresses: services of the machine and the cloud"),
    ("127.0.0.0/8", "loopback addresses: the pod itself, or its machine"),
    ("224.0.0.0/3", "multicast, broadcast or reserved addresses, where no database is"),
    ("fe80::/10", "link-local addresses: services of the machine and the cloud"),
    ("ff00::/8", "multicast addresses, where no database is"),
    ("::1/128", "a loopback address: the pod itself, or its machine"),
];

/// The warnings about a range of addresses.
pub(super) fn warnings(cidr: Cidr, api_servers: &[IpAddr]) -> Vec<String> {
    let plain = unwrapped(cidr);
    let (widest, kind) = match plain.address {
        IpAddr::V4(_) => (WIDEST.0, "IPv4"),
        IpAddr::V6(_) => (WIDEST.1, "IPv6"),
    };
    let mut said = Vec::new();
    if plain.prefix < widest {
        said.push(format!(
            "is wider than /{widest} ({kind}): algorithms that ask for this database reach all of these addresses. Name the database's own."
        ));
    } else if plain.address.is_unspecified() {
        said.push("is the unspecified address, which is the pod itself. Name the database's own.".to_owned());
    }
    let places = PLACES.iter().filter_map(|(place, what)| Some((Cidr::parse(place).ok()?, what)));
    // Only the first match: a range that contains everything already has the warning above.
    if let Some((_, what)) = places.into_iter().find(|(place, _)| overlap(*place, cidr)) {
        said.push(format!("has {what}. Name the database's own address."));
    }
    if api_servers.iter().any(|address| cidr.contains(*address)) {
        said.push("has the address of the cluster's API server. Name the database's own.".to_owned());
    }
    said
}

/// The IPv4 range that an IPv6 range stands for, if it is mapped or translated.
pub(super) fn unwrapped(cidr: Cidr) -> Cidr {
    // IPv4-mapped addresses, and the prefixes of translators: RFC 6052, RFC 8215 (each network chooses a part of it), RFC 7915.
    const MAPPED: [(Ipv6Addr, u8); 4] = [
        (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
        (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
        (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    ];
    let IpAddr::V6(address) = cidr.address else { return cidr };
    let is_mapped =
        MAPPED.iter().any(|(mapped, prefix)| share(Cidr { address: (*mapped).into(), prefix: *prefix }, cidr));
    let low = u32::try_from(address.to_bits() & u128::from(u32::MAX));
    match low {
        Ok(low) if is_mapped && cidr.prefix >= 96 => {
            Cidr { address: Ipv4Addr::from_bits(low).into(), prefix: cidr.prefix - 96 }
        }
        // All of IPv4, and more.
        _ if is_mapped => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
        _ => cidr,
    }
}

/// Whether two ranges have an address in common, in any notation.
pub(super) fn overlap(one: Cidr, other: Cidr) -> bool {
    share(unwrapped(one), unwrapped(other))
}

fn share(one: Cidr, other: Cidr) -> bool {
    let common = u32::from(one.prefix.min(other.prefix));
    match (one.address, other.address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= common,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= common,
        _ => false,
    }
}

/// Why algorithms can't use a name for a database: it already means something else in a pod.
pub(super) fn taken(name: &str) -> Option<&'static str> {
    let name = name.trim_end_matches('.').to_lowercase();
    let is = |taken: &[&str]| {
        taken.iter().any(|taken| name == *taken || name.strip_suffix(taken).is_some_and(|rest| rest.ends_with('.')))
    };
    if is(&["proxyserver"]) {
        Some("It is the name of the proxy, to which algorithms send their tokens.")
    } else if is(&["localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"])
        || name.starts_with("localhost.localdomain")
        || name.ends_with(".localdomain")
    {
        Some("It is the name of the pod itself.")
    } else if name == "kubernetes" || name.starts_with("kubernetes.default") {
        Some("It is the name of the cluster's API server.")
    } else if name.parse::<IpAddr>().is_ok() || names::ends_in_number(&name) {
        Some("It is an address, which is not looked up.")
    } else {
        None
    }
}

/// The API server's addresses as far as they are known without a look-up: from the pod's environment, or from the kubeconfigs.
pub(super) fn api_servers(kubeconfigs: &[std::path::PathBuf], around: &Surroundings<'_>) -> Vec<IpAddr> {
    let of_pod = (around.env)("KUBERNETES_SERVICE_HOST").and_then(|host| host.parse().ok());
    let of_files =
        kubeconfigs.iter().filter_map(|path| around.files.text(path).ok()).flat_map(|text| of_kubeconfig(&text));
    of_pod.into_iter().chain(of_files).collect()
}

fn of_kubeconfig(text: &str) -> Vec<IpAddr> {
    // The client that connects with it reports its errors.
    let unheard = Diagnostics::new(std::path::Path::new("kubeconfig"));
    let root = yaml::read(text, &unheard);
    let clusters = match root.as_ref().and_then(|root| Some(&root.get("clusters")?.value)) {
        Some(Value::List(clusters)) => clusters.as_slice(),
        _ => &[],
    };
    let server = |cluster: &Node| {
        let url = url::Url::parse(cluster.get("cluster")?.get("server")?.secret()?).ok()?;
        match url.host()? {
            url::Host::Ipv4(address) => Some(IpAddr::V4(address)),
            url::Host::Ipv6(address) => Some(IpAddr::V6(address)),
            url::Host::Domain(_) => None,
        }
    };
    clusters.iter().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_have_addresses_in_common() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("fe80::/10", "fe80::1", true),
            ("::/0", "10.1.2.3", true),
            ("2001:db8::/32", "10.1.2.3", false),
            ("::ffff:10.1.2.0/120", "10.1.2.3", true),
            ("64:ff9b::10.1.2.3", "10.1.2.3", true),
            ("::fffe:0:0/95", "10.1.2.3", true),
        ] {
            let [one, other] =
                [one, other].map(|text| unwrapped(Cidr::parse(text).unwrap_or_else(|_| panic!("{text}"))));
            assert_eq!(overlap(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn kubeconfigs_name_the_api_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = "clusters:\n- cluster: {server: 'https://10.0.0.1:6443'}\n- cluster: {server: 'https://[fd00::1]'}\n\
                    - cluster: {server: 'https://k.example.org'}\n- cluster:\n";
        std::fs::write(&path, text).unwrap();
        let around = Surroundings { env: &|_| None, files: &super::super::super::files::Disk, with_key: false };
        let found: Vec<String> = api_servers(&[path], &around).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "fd00::1"]);
    }
}
