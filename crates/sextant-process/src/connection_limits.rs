//! Limits how many connections a port serves at once, and of whom. The data port and the proxy share it.
//!
//! A connection is *unauthenticated* until its port has authenticated it. Unauthenticated connections have few slots, counted by source
//! address; authenticated ones have slots of their own, counted by owner. Nobody can fill a port for others:
//!
//! - An unauthenticated connection is always accepted. If there is no slot, the limiter closes one of the source that has the most, and
//!   of these the one that has been idle for longest. So a source with few connections keeps them, however many sources there are.
//!   A source is an IPv4 address or an IPv6 /64, of which one machine may have all addresses; but its pods have one each: within a /64
//!   the address with the most loses first, and each has a rate of its own.
//! - An authenticated connection that is idle is closed for a new one; one with a request under way only if its source, its address
//!   within the source, or at the same address its owner has clearly more connections than the new one's. So a peer that has shown many
//!   owners' secrets from one address still has only that address's share.
//!
//! The limiter decides; the port closes: a connection's task waits for [`ConnectionGuard::evicted`] and ends.

mod group;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use self::group::{Activity, Connection, Group, by_age, idle};

/// A source that has not connected for this long is removed: it has regained its full rate long before.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// At this many known sources, expired ones are removed, not more often than this.
const MANY_SOURCES: usize = 1024;
const FORGETTING: Duration = Duration::from_secs(1);
/// Of more sources than this no rate is kept.
const MOST_SOURCES: usize = 64 * 1024;
/// So many times the rate of one address all addresses of an IPv6 network have.
const NETWORK: u32 = 20;
/// So many seconds' connections may come at once after a quiet time.
const BURST: f64 = 10.0;

/// The limits of one port.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Unauthenticated connections.
    pub unauthenticated: usize,
    /// The same, of one source.
    pub unauthenticated_per_source: usize,
    /// New connections of one address in a second; ten times as many after a quiet time. Of an IPv6 /64, twenty times as many.
    pub rate_per_source: u32,
    /// Authenticated connections.
    pub authenticated: usize,
    /// The same, of one owner.
    pub authenticated_per_owner: usize,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Its source connects too often.
    #[error("it connects too often")]
    Rate,
    /// Its owner has too many connections with requests under way.
    #[error("its owner has too many connections")]
    Owner,
    /// There are too many authenticated connections with requests under way.
    #[error("there are too many connections")]
    Total,
    /// It was closed to make room for another one.
    #[error("it was closed to accept another connection")]
    Evicted,
}

/// The source of a connection: the owner of one IPv6 address has its whole /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// How often a source may still connect.
#[derive(Debug)]
struct Rate {
    left: f64,
    at: Instant,
}

#[derive(Debug)]
struct State<O> {
    /// How many connections have come.
    come: u64,
    unauthenticated: Group<Source>,
    authenticated: Group<O>,
    rates: Rates,
    networks: Rates,
    evictions: u64,
}

/// How often each source may still connect.
#[derive(Debug, Default)]
struct Rates {
    rates: HashMap<IpAddr, Rate>,
    /// When sources were looked through for those that can be forgotten.
    looked: Option<Instant>,
}

impl Rates {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.rates.len()
    }

    fn take(&mut self, source: IpAddr, rate: u32, now: Instant) -> Result<(), LimitExceeded> {
        let looked = self.looked.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if self.rates.len() >= MANY_SOURCES && looked >= FORGETTING {
            self.looked = Some(now);
            self.rates.retain(|_, rate| now.saturating_duration_since(rate.at) < FORGOTTEN);
        }
        if self.rates.len() >= MOST_SOURCES && !self.rates.contains_key(&source) {
            return Ok(());
        }
        let rate = f64::from(rate);
        let from = self.rates.entry(source).or_insert(Rate { left: BURST * rate, at: now });
        let regained = rate * now.saturating_duration_since(from.at).as_secs_f64();
        from.left = (BURST * rate).min(from.left + regained);
        from.at = now;
        if from.left < 1.0 {
            return Err(LimitExceeded::Rate);
        }
        from.left -= 1.0;
        Ok(())
    }
}

impl<O: Copy + Eq + Hash> State<O> {
    /// What one address may not have costs its network nothing.
    fn take_rate(&mut self, address: IpAddr, source: Source, rate: u32, now: Instant) -> Result<(), LimitExceeded> {
        self.rates.take(address, rate, now)?;
        if address.is_ipv6() {
            self.networks.take(source.0, rate.saturating_mul(NETWORK), now)?;
        }
        Ok(())
    }

    /// Gives a connection an unauthenticated place: there always is one.
    fn place_unauthenticated(&mut self, source: Source, connection: Connection, limits: &ConnectionLimits) {
        let (group, per_source) = (&mut self.unauthenticated, limits.unauthenticated_per_source);
        let victim = if group.count(source) >= per_source {
            group.first_of_most(source, by_age(per_source))
        } else if group.all >= limits.unauthenticated {
            group.first(by_age(limits.unauthenticated))
        } else {
            None
        };
        if let Some(victim) = victim {
            group.evict(victim);
            self.evictions += 1;
        }
        group.insert(source, connection);
    }

    /// Makes room for an authenticated connection.
    fn make_room_authenticated(
        &mut self,
        owner: O,
        address: IpAddr,
        limits: &ConnectionLimits,
    ) -> Result<(), LimitExceeded> {
        let group = &mut self.authenticated;
        let victim = if group.count(owner) >= limits.authenticated_per_owner {
            group.first_of(owner, idle).ok_or(LimitExceeded::Owner)?
        } else if group.all >= limits.authenticated {
            group.first(idle).or_else(|| group.first_of_larger(owner, address)).ok_or(LimitExceeded::Total)?
        } else {
            return Ok(());
        };
        group.evict(victim);
        self.evictions += 1;
        Ok(())
    }
}

/// The connections of one port. Owners are of type `O`.
#[derive(Debug)]
pub struct ConnectionLimiter<O: Copy + Eq + Hash> {
    limits: ConnectionLimits,
    state: Mutex<State<O>>,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Unauthenticated ones.
    pub unauthenticated: usize,
    /// Authenticated ones.
    pub authenticated: usize,
    /// How many have been closed to make room for others.
    pub evictions: u64,
}

impl<O: Copy + Eq + Hash> ConnectionLimiter<O> {
    /// A port without connections.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        let state = State {
            come: 0,
            unauthenticated: Group::default(),
            authenticated: Group::default(),
            rates: Rates::default(),
            networks: Rates::default(),
            evictions: 0,
        };
        Arc::new(Self { limits, state: Mutex::new(state) })
    }

    /// Lets a new connection in, as an unauthenticated one.
    ///
    /// # Errors
    /// If its source connects too often.
    pub fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Arc<ConnectionGuard<O>>, LimitExceeded> {
        let address = address.to_canonical();
        let source = Source::of(address);
        let evicted = Arc::new(Notify::new());
        let mut state = self.lock();
        state.take_rate(address, source, self.limits.rate_per_source, now)?;
        state.come += 1;
        let id = state.come;
        let connection = Connection { id, address, activity: Activity::Idle, since: id, evicted: evicted.clone() };
        state.place_unauthenticated(source, connection, &self.limits);
        drop(state);
        Ok(Arc::new(ConnectionGuard { limiter: self.clone(), address, source, id, evicted, owner: Mutex::new(None) }))
    }

    /// How many connections there are now.
    pub fn counts(&self) -> ConnectionCounts {
        let state = self.lock();
        ConnectionCounts {
            unauthenticated: state.unauthenticated.all,
            authenticated: state.authenticated.all,
            evictions: state.evictions,
        }
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        let left = (state.unauthenticated.by_key.len(), state.authenticated.by_key.len());
        (state.unauthenticated.all, state.authenticated.all, left) == (0, 0, (0, 0))
    }

    fn lock(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock()
    }
}

/// A connection's slot, released when it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard<O: Copy + Eq + Hash> {
    limiter: Arc<ConnectionLimiter<O>>,
    /// Where it comes from; an IPv4 address is one, however it was written.
    pub address: IpAddr,
    source: Source,
    id: u64,
    evicted: Arc<Notify>,
    /// `None` while it is unauthenticated.
    owner: Mutex<Option<O>>,
}

/// A request under way on a connection, until it is dropped.
#[derive(Debug)]
pub struct ActiveRequest<O: Copy + Eq + Hash>(Arc<ConnectionGuard<O>>);

impl<O: Copy + Eq + Hash> ConnectionGuard<O> {
    /// Waits until this connection has to be closed, because its place is another one's now.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// A request has come.
    pub fn begin_request(self: &Arc<Self>) -> ActiveRequest<O> {
        self.turn(Activity::Busy);
        ActiveRequest(self.clone())
    }

    /// It is this owner's.
    ///
    /// # Errors
    /// Why there is no place for it; then it remains what it was.
    pub fn authenticate(&self, owner: O) -> Result<(), LimitExceeded> {
        let mut of = self.owner();
        if *of == Some(owner) {
            return Ok(());
        }
        let mut state = self.limiter.lock();
        // What it leaves may be the very place that it needs.
        let connection = self.take(&mut state, *of).ok_or(LimitExceeded::Evicted)?;
        if let Err(exceeded) = state.make_room_authenticated(owner, self.address, &self.limiter.limits) {
            match *of {
                Some(former) => state.authenticated.insert(former, connection),
                None => state.unauthenticated.insert(self.source, connection),
            }
            return Err(exceeded);
        }
        state.authenticated.insert(owner, connection);
        *of = Some(owner);
        Ok(())
    }

    /// It has no owner any more: its next credentials must be authenticated first.
    pub fn unauthenticate(&self) {
        let mut of = self.owner();
        if of.is_none() {
            return;
        }
        let mut state = self.limiter.lock();
        if let Some(connection) = self.take(&mut state, *of) {
            state.place_unauthenticated(self.source, connection, &self.limiter.limits);
        }
        *of = None;
    }

    /// Whether it is authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.owner().is_some()
    }

    fn owner(&self) -> MutexGuard<'_, Option<O>> {
        self.owner.lock()
    }

    fn take(&self, state: &mut State<O>, owner: Option<O>) -> Option<Connection> {
        match owner {
            Some(owner) => state.authenticated.remove(owner, self.id),
            None => state.unauthenticated.remove(self.source, self.id),
        }
    }

    fn turn(&self, activity: Activity) {
        let of = self.owner();
        let mut state = self.limiter.lock();
        let since = state.come;
        let connection = match *of {
            Some(owner) => state.authenticated.get_mut(owner, self.id),
            None => state.unauthenticated.get_mut(self.source, self.id),
        };
        if let Some(connection) = connection {
            (connection.activity, connection.since) = (activity, since);
        }
    }
}

impl<O: Copy + Eq + Hash> Drop for ConnectionGuard<O> {
    fn drop(&mut self) {
        let owner = *self.owner();
        self.take(&mut self.limiter.lock(), owner);
    }
}

impl<O: Copy + Eq + Hash> ActiveRequest<O> {
    /// The connection that it came by.
    pub fn connection(&self) -> &ConnectionGuard<O> {
        &self.0
    }
}

impl<O: Copy + Eq + Hash> Drop for ActiveRequest<O> {
    fn drop(&mut self) {
        self.0.turn(Activity::Idle);
    }
}

#[cfg(test)]
mod tests;
