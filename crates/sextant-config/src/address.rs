//! Addresses that other settings consist of: where to listen, and what to tell others.

use std::net::{IpAddr, SocketAddr};

use super::names;
use super::reader::Field;

/// An address to listen at, with a port, or a port alone; `port` is the usual one, for messages.
pub(super) fn listen(field: &Field<'_>, port: u16) -> Option<SocketAddr> {
    let expected = format!("an IP address with a port, like `0.0.0.0:{port}`, or a port");
    let text = field.text(&expected)?;
    let port: Option<u16> = text.strip_prefix(':').unwrap_or(text).parse().ok();
    let listen = port.map(|port| SocketAddr::from(([0, 0, 0, 0], port))).or_else(|| text.parse().ok());
    let listen = listen.filter(|listen| listen.port() != 0);
    if listen.is_none() {
        field.wrong(&expected, "");
    }
    listen
}

/// A host name or an IP address, with or without a port (an IPv6 address with one is in brackets).
pub(super) fn address(field: &Field<'_>) -> Option<String> {
    let expected = "a host name or an IP address that pods can reach, with or without a port";
    let text = field.text(expected)?;
    let is_host = |host: &str| names::is_dns_name(&host.to_lowercase());
    let fits = text.parse::<IpAddr>().is_ok()
        || text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
        || is_host(text)
        || text
            .rsplit_once(':')
            .is_some_and(|(host, port)| is_host(host) && port.parse().is_ok_and(|port: u16| port != 0));
    if !fits {
        field.wrong(expected, "Write it without `https://`.");
        return None;
    }
    Some(text.to_owned())
}
