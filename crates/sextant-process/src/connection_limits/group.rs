//! Connections that share slots, grouped by source or owner, and the order in which they are closed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Source;

/// The activity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// No complete request head has arrived.
    Idle,
    /// A request is in progress.
    Busy,
}

/// A connection with a slot.
#[derive(Debug)]
pub(super) struct Connection {
    pub id: u64,
    pub address: IpAddr,
    pub activity: Activity,
    /// How many connections had been accepted when this activity began.
    pub since: u64,
    pub evicted: Arc<Notify>,
}

/// Connections that share slots, grouped by source or owner.
#[derive(Debug)]
pub(super) struct Group<K> {
    pub all: usize,
    pub by_key: HashMap<K, Vec<Connection>>,
}

impl<K> Default for Group<K> {
    fn default() -> Self {
        Self { all: 0, by_key: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Group<K> {
    pub fn count(&self, key: K) -> usize {
        self.by_key.get(&key).map_or(0, Vec::len)
    }

    pub fn insert(&mut self, key: K, connection: Connection) {
        self.all += 1;
        self.by_key.entry(key).or_default().push(connection);
    }

    pub fn remove(&mut self, key: K, id: u64) -> Option<Connection> {
        let connections = self.by_key.get_mut(&key)?;
        let at = connections.iter().position(|connection| connection.id == id)?;
        let connection = connections.swap_remove(at);
        if connections.is_empty() {
            self.by_key.remove(&key);
        }
        self.all -= 1;
        Some(connection)
    }

    pub fn get_mut(&mut self, key: K, id: u64) -> Option<&mut Connection> {
        self.by_key.get_mut(&key)?.iter_mut().find(|connection| connection.id == id)
    }

    /// Closes a connection of this key.
    pub fn evict(&mut self, (key, id): (K, u64)) {
        if let Some(connection) = self.remove(key, id) {
            connection.evicted.notify_one();
        }
    }

    /// Returns the connection that comes first in this order, among the keys with the most connections.
    pub fn first<O: Ord>(&self, order: impl Fn(&Connection) -> Option<O>) -> Option<(K, u64)> {
        let candidates = self.by_key.iter().filter_map(|(key, connections)| {
            let ordered = connections.iter().filter_map(|connection| Some((order(connection)?, connection.id)));
            let (order, id) = ordered.min()?;
            Some((Reverse(connections.len()), order, *key, id))
        });
        candidates.min_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1))).map(|(_, _, key, id)| (key, id))
    }

    /// Returns the connection of this key that comes first in this order, among those of the address with the most connections.
    pub fn first_of_most<O: Ord>(&self, key: K, order: impl Fn(&Connection) -> Option<O>) -> Option<(K, u64)> {
        let connections = self.by_key.get(&key)?;
        let mut counts = HashMap::<IpAddr, usize>::new();
        for each in connections {
            *counts.entry(each.address).or_default() += 1;
        }
        let most = |each: &Connection| Reverse(counts.get(&each.address).copied());
        let ordered = connections.iter().filter_map(|each| Some((most(each), order(each)?, each.id)));
        ordered.min().map(|(.., id)| (key, id))
    }

    /// Returns the oldest connection of a party that clearly has more slots than a new connection of this key and address would have. The
    /// party is the source with the most connections; if it has no more than the new one's, the address with the most in the new one's
    /// source; if that has no more either, the key with the most at the new one's address.
    pub fn first_of_larger(&self, key: K, address: IpAddr) -> Option<(K, u64)> {
        let source = Source::of(address);
        self.first_of_larger_by(source, |_, each| Some(Source::of(each.address)))
            .or_else(|| {
                self.first_of_larger_by(address, |_, each| (Source::of(each.address) == source).then_some(each.address))
            })
            .or_else(|| self.first_of_larger_by(key, |key, each| (each.address == address).then_some(key)))
    }

    /// Returns the oldest connection of the part with the most, if that part clearly has more than `own`.
    fn first_of_larger_by<P: Copy + Eq + Hash>(
        &self,
        own: P,
        part: impl Fn(K, &Connection) -> Option<P>,
    ) -> Option<(K, u64)> {
        let all = || self.by_key.iter().flat_map(|(key, connections)| connections.iter().map(|each| (*key, each)));
        let mut counts = HashMap::<P, usize>::new();
        for part in all().filter_map(|(key, each)| part(key, each)) {
            *counts.entry(part).or_default() += 1;
        }
        let enough = counts.get(&own).map_or(1, |own| own + 1);
        let candidates = all().filter_map(|(key, each)| {
            let count = *counts.get(&part(key, each)?)?;
            (count > enough).then_some((Reverse(count), each.since, each.id, key))
        });
        candidates.min_by_key(|(count, since, id, _)| (*count, *since, *id)).map(|(_, _, id, key)| (key, id))
    }

    /// Returns the connection of this key that comes first in this order.
    pub fn first_of<O: Ord>(&self, key: K, order: impl Fn(&Connection) -> Option<O>) -> Option<(K, u64)> {
        let connections = self.by_key.get(&key)?.iter();
        connections.filter_map(|each| Some((order(each)?, each.id))).min().map(|(_, id)| (key, id))
    }
}

/// The order in which unauthenticated connections are closed: longest idle first. A request in progress counts as if `places` connections
/// younger, so that a new connection whose request has not arrived is not closed in favour of requests that never end.
pub(super) fn by_age(places: usize) -> impl Fn(&Connection) -> Option<u64> {
    move |connection| match connection.activity {
        Activity::Idle => Some(connection.since),
        Activity::Busy => Some(connection.since.saturating_add(places as u64)),
    }
}

pub(super) fn idle(connection: &Connection) -> Option<u64> {
    (connection.activity == Activity::Idle).then_some(connection.since)
}
