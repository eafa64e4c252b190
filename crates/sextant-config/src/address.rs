//! Addresses that other settings are made of: where to listen, and what address to give to pods.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::names;
use super::reader::Field;

/// Reads a listen address: an address with a port, or a port alone. `port` is the default port, used in messages.
pub(super) fn listen(field: &Field<'_>, port: u16) -> Option<SocketAddr> {
    let expected = format!("an IP address with a port, like `0.0.0.0:{port}`, or a port");
    let text = field.text(&expected)?;
    let port: Option<u16> = text.strip_prefix(':').unwrap_or(text).parse().ok();
    let listen = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).or_else(|| text.parse().ok());
    let listen = listen.filter(|listen| listen.port() != 0);
    if listen.is_none() {
        match ipv6_advice(text) {
            Some(advice) => field.wrong(&expected, &advice),
            None if text.contains(['.', ':']) => field.wrong(&expected, ""),
            None => field.wrong_form(&expected, ""),
        }
    }
    listen
}

/// How to write an IPv6 address, if the text contains one that is written wrongly.
fn ipv6_advice(text: &str) -> Option<String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((inside, rest)) = bracketed {
        let address: Ipv6Addr = inside.parse().ok()?;
        let port = rest.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        return Some(match (rest.is_empty(), port) {
            (true, _) => {
                format!("Without a port it is written without brackets, `{address}`; with one, `[{address}]:7654`.")
            }
            _ => format!("Behind the brackets comes a colon and a port from 1 to 65535, like `[{address}]:7654`."),
        });
    }
    let alone = text.parse::<Ipv6Addr>().ok().map(|address| (address.to_string(), "7654".to_owned()));
    let (address, port) = alone.or_else(|| {
        let (address, port) = text.rsplit_once(':')?;
        Some((address.parse::<Ipv6Addr>().ok()?.to_string(), port.parse::<u16>().ok()?.to_string()))
    })?;
    Some(format!("An IPv6 address with a port has brackets, like `[{address}]:{port}`."))
}

/// Reads a host name or an IP address, with an optional port. An IPv6 address with a port needs brackets.
pub(super) fn address(field: &Field<'_>) -> Option<String> {
    let expected = "a host name or an IP address that pods can reach, with or without a port";
    let text = field.text(expected)?;
    let is_host = |host: &str| names::is_host_name(&host.to_lowercase());
    let fits = text.parse::<IpAddr>().is_ok()
        || text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
        || is_host(text)
        || text
            .rsplit_once(':')
            .is_some_and(|(host, port)| is_host(host) && port.parse().is_ok_and(|port: u16| port != 0));
    if !fits {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let advice = match ipv6_advice(text) {
            Some(advice) => advice,
            None if names::ends_in_number(host) => names::PLAIN_ADDRESS.to_owned(),
            None => "Write it without `https://`.".to_owned(),
        };
        field.wrong(expected, &advice);
        return None;
    }
    Some(text.to_owned())
}
