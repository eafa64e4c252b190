//! `NO_PROXY`: hosts that clients reach directly.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// The entries of the variable.
#[derive(Debug, Clone, Default)]
pub(super) struct Exceptions(Vec<Entry>);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    /// Limits the entry to this port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// This name and its subdomains.
    Named(String),
    Within(IpNet),
}

impl Exceptions {
    /// Parses the entries, which commas or white space separate.
    pub fn of(text: &str) -> Self {
        let parts = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty());
        Self(parts.filter_map(Entry::of).collect())
    }

    /// Whether clients reach this address directly.
    pub fn has(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let port = url.port_or_known_default();
        self.0.iter().any(|entry| (entry.port.is_none() || entry.port == port) && entry.hosts.have(&host))
    }
}

impl Entry {
    fn of(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address contains colons itself.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port.parse().ok()?)),
            _ => (text, None),
        };
        Some(Self { hosts: Hosts::of_addresses(host).or_else(|| Hosts::of_names(host))?, port })
    }
}

impl Hosts {
    /// Parses `10.0.0.0/8`, `10.1.2.3`, `fd00::/8`, `[fd00::1]`.
    fn of_addresses(text: &str) -> Option<Self> {
        let bare = text.replace(['[', ']'], "");
        let net = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
        net.ok().map(Self::Within)
    }

    /// Parses `*`, `example.org`, `.example.org`, `*.example.org`.
    fn of_names(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let name = text.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        // Normalized as in URLs: lower case, and Punycode for non-ASCII names.
        match Host::parse(name) {
            Ok(Host::Domain(name)) => Some(Self::Named(name)),
            _ => None,
        }
    }

    fn have(&self, host: &Host<&str>) -> bool {
        let within = |net: &IpNet, address: IpAddr| net.contains(&address) || net.contains(&address.to_canonical());
        match (self, host) {
            (Self::All, _) => true,
            (Self::Named(name), Host::Domain(host)) => {
                let host = host.trim_end_matches('.');
                host.strip_suffix(name.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
            (Self::Within(net), Host::Ipv4(address)) => within(net, IpAddr::V4(*address)),
            (Self::Within(net), Host::Ipv6(address)) => within(net, IpAddr::V6(*address)),
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_directly() {
        for (text, url, direct) in [
            ("", "https://server.example", false),
            (" , ,", "https://server.example", false),
            ("*", "https://server.example", true),
            ("*", "http://127.0.0.1", true),
            ("*", "http://[::1]:5000", true),
            ("other.example, *", "http://10.0.0.1", true),
            ("server.example", "https://server.example", true),
            ("SERVER.Example", "https://server.example", true),
            ("server.example", "https://server.example.", true),
            ("server.example.", "https://server.example", true),
            ("example", "https://server.example", true),
            (".example", "https://server.example", true),
            ("*.example", "https://server.example", true),
            (".server.example", "https://server.example", true),
            ("erver.example", "https://server.example", false),
            ("server.example", "https://my-server.example", false),
            ("münchen.example", "https://v6.münchen.example", true),
            ("server.example:5000", "http://server.example:5000", true),
            ("server.example:5000", "http://server.example:5001", false),
            ("server.example:443", "https://server.example", true),
            (".example:443", "https://server.example", true),
            ("*:5000", "http://10.1.2.3:5000", true),
            ("server.example:x", "https://server.example", false),
            ("a.example b.example,\tserver.example", "https://server.example", true),
            ("127.0.0.1", "http://127.0.0.1:5000", true),
            ("127.0.0.1:5000", "http://127.0.0.1:5000", true),
            ("127.0.0.1:5001", "http://127.0.0.1:5000", false),
            ("127.0.0.0/8", "http://127.1.2.3", true),
            ("10.0.0.0/8", "http://127.0.0.1", false),
            ("10.0.0.0/8", "http://[::ffff:10.1.2.3]", true),
            ("::1", "http://[::1]:5000", true),
            ("[::1]", "http://[::1]:5000", true),
            ("[::1]:5000", "http://[::1]:5000", true),
            ("[::1]:5001", "http://[::1]:5000", false),
            ("fd00::/8", "http://[fd12::5]", true),
            ("[fd00::]/8", "http://[fd12::5]", true),
            ("fd00::/8", "http://[fe80::5]", false),
            ("1.2.3.4", "http://host-1.2.3.4.example", false),
        ] {
            assert_eq!(Exceptions::of(text).has(&url.parse().unwrap()), direct, "{text:?} {url}");
        }
    }
}
