//! Decides which hosts a query may contact. Hosts on this machine or its link are contacted only if the registry itself is there: a remote
//! registry may name any address as its login server.

use std::net::{IpAddr, Ipv4Addr};

use sextant_core::image_reference::host_of;

/// Whether a registry is on this machine.
pub fn is_here(domain: &str) -> bool {
    let host = host_of(domain);
    is_localhost(host) || address(host).is_some_and(|address| is_of_machine(&address))
}

/// Whether a query to a registry may contact this host, judging by its name.
pub fn may_ask_host(host: &str, registry: &str) -> bool {
    is_own(host, registry)
        || match address(host) {
            Some(address) => may_ask_address(&address, host, registry),
            None => !is_localhost(host) || is_here(registry),
        }
}

/// Whether a query may contact this address of a host.
pub fn may_ask_address(address: &IpAddr, host: &str, registry: &str) -> bool {
    is_own(host, registry) || !is_local(address) || (is_of_machine(address) && is_here(registry))
}

fn is_own(host: &str, registry: &str) -> bool {
    host.eq_ignore_ascii_case(host_of(registry))
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Returns the address if the host is given as one.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_of_machine(address: &IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether an address belongs to this machine or its link. A connection to an unspecified address goes to this machine.
fn is_local(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_link_local() || address.octets()[0] == Ipv4Addr::UNSPECIFIED.octets()[0]
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_registries_are_here() {
        for (domain, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("[::1]:5000", true),
            ("[0:0:0:0:0:0:0:1]:5000", true),
            ("[::ffff:127.0.0.1]:5000", true),
            ("[fd00::1]:5000", false),
            ("10.0.0.1:5000", false),
            ("registry.example.org", false),
            ("127.0.0.1.example.org", false),
            ("localhost.example.org", false),
        ] {
            assert_eq!(is_here(domain), expected, "{domain}");
        }
    }

    #[test]
    fn a_registry_elsewhere_names_no_login_server_here() {
        const ELSEWHERE: &str = "registry.example.org:5000";
        for (host, registry, expected) in [
            ("auth.example.org", ELSEWHERE, true),
            ("registry.example.org", ELSEWHERE, true),
            ("10.0.0.7", ELSEWHERE, true),
            ("[fd00::7]", ELSEWHERE, true),
            ("localhost", ELSEWHERE, false),
            ("LocalHost.", ELSEWHERE, false),
            ("x.localhost", ELSEWHERE, false),
            ("127.0.0.1", ELSEWHERE, false),
            ("127.9.9.9", ELSEWHERE, false),
            ("0.0.0.0", ELSEWHERE, false),
            ("[::1]", ELSEWHERE, false),
            ("[::]", ELSEWHERE, false),
            ("[::ffff:127.0.0.1]", ELSEWHERE, false),
            ("169.254.169.254", ELSEWHERE, false),
            ("[fe80::1]", ELSEWHERE, false),
            ("localhost", "127.0.0.1:5000", true),
            ("[::1]", "localhost:5000", true),
            ("169.254.169.254", "localhost:5000", false),
            ("169.254.7.7", "169.254.7.7:5000", true),
            ("127.0.0.1", "169.254.7.7:5000", false),
        ] {
            assert_eq!(may_ask_host(host, registry), expected, "{host} {registry}");
        }
        for (address, host, expected) in [
            ("192.0.2.1", "auth.example.org", true),
            ("127.0.0.1", "auth.example.org", false),
            ("169.254.169.254", "auth.example.org", false),
            ("::1", "auth.example.org", false),
            // The operator has named the registry by a name that resolves to this machine.
            ("127.0.0.1", "registry.example.org", true),
        ] {
            assert_eq!(may_ask_address(&address.parse().unwrap(), host, ELSEWHERE), expected, "{host} {address}");
        }
    }
}
