//! `kubernetes.isolation`: how often the network isolation of algorithms is tested, and which other addresses it must block.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::names;
use super::super::reader::{Field, Section};

/// How the network isolation of algorithms is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The time between tests. Default 1 hour.
    pub every: Duration,
    /// Addresses (`host:port`) that algorithms must not reach, besides those that Sextant always tests.
    pub closed: Vec<String>,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { every: Duration::from_secs(60 * 60), closed: Vec::new() }
    }
}

/// Reads the section.
pub(super) fn isolation(field: &Field<'_>) -> Isolation {
    let default = Isolation::default();
    let Some(section) = field.section("a mapping with `every` and `closed`") else {
        return default;
    };
    let every = section.get("every").and_then(|field| every(&field)).unwrap_or(default.every);
    let closed = closed(&section);
    section.finish_own();
    Isolation { every, closed }
}

fn every(field: &Field<'_>) -> Option<Duration> {
    const SELDOM: Duration = Duration::from_secs(24 * 60 * 60);
    let every = field.duration(false)?;
    if every > SELDOM {
        field.warn("is longer than a day: walls that fall in the meantime are not missed, and algorithms run without them. Write `1h`.");
    }
    Some(every)
}

fn closed(section: &Section<'_>) -> Vec<String> {
    let expected = "addresses with their ports, like `[registry.example.org:443, 10.0.0.7:5432]`";
    let field = section.get("closed");
    let items = field.as_ref().and_then(|field| field.one_or_more(expected));
    if let Some(field) = field.filter(|_| items.as_ref().is_some_and(Vec::is_empty)) {
        field.warn("is empty, which adds nothing to what is tried. Take it out, or write what must not be reached.");
    }
    let items = items.unwrap_or_default();
    let address = |item: &Field<'_>| {
        let expected = "a host name or an IP address with a port, like `10.0.0.7:5432`";
        let text = item.text(expected)?;
        let port = |port: &str| port.parse().is_ok_and(|port: u16| port != 0);
        let named = |(host, number): (&str, &str)| names::is_host_name(&host.to_lowercase()) && port(number);
        if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
            || text.rsplit_once(':').is_some_and(named)
        {
            return Some(text.to_owned());
        }
        let is_number = text.rsplit_once(':').is_some_and(|(host, _)| names::ends_in_number(host));
        item.wrong(expected, if is_number { names::PLAIN_ADDRESS } else { "" });
        None
    };
    items.iter().filter_map(address).collect()
}
