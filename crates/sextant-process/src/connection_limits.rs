//! Limits how many connections a port serves at once, in total and for each peer. The data port and the proxy share this code.
//!
//! A connection is *unauthenticated* until its port has authenticated it. Unauthenticated connections have few slots, counted by source
//! address. Authenticated ones have slots of their own, counted by owner. No peer can fill a port for others:
//!
//! - An unauthenticated connection is always accepted. If there is no slot, the limiter closes one: of the source that has the most, the
//!   connection that has been idle for longest. A source with few connections therefore keeps them, however many sources there are.
//!   A source is an IPv4 address or an IPv6 /64. One machine may have all addresses of a /64, but its pods have one each: within a /64
//!   the address with the most connections loses first, and each address has its own rate.
//! - An idle authenticated connection is closed for a new one. One with a request in progress is closed only if its source, its address
//!   within the source, or its owner at the same address clearly has more connections than the new one's. So a peer that presents many
//!   owners' credentials from one address still has only that address's share.
//!
//! The limiter decides and the port closes: a connection's task waits for [`ConnectionGuard::evicted`] and ends.

mod group;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use self::group::{Activity, Connection, Group, by_age, idle};

/// A source that has not connected for this long is removed; it has regained its full rate long before.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// From this many known sources on, expired ones are removed, but at most once in [`FORGETTING`].
const MANY_SOURCES: usize = 1024;
const FORGETTING: Duration = Duration::from_secs(1);
/// No rate is kept for further sources beyond this number.
const MOST_SOURCES: usize = 64 * 1024;
/// The rate of a whole IPv6 network, as a multiple of one address's.
const NETWORK: u32 = 20;
/// How many seconds' worth of connections may come at once after a quiet time.
const BURST: f64 = 10.0;

/// The limits of one port.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most unauthenticated connections.
    pub unauthenticated: usize,
    /// The most unauthenticated connections of one source.
    pub unauthenticated_per_source: usize,
    /// New connections of one address per second; ten times as many after a quiet time. An IPv6 /64 may make twenty times as many.
    pub rate_per_source: u32,
    /// The most authenticated connections.
    pub authenticated: usize,
    /// The most authenticated connections of one owner.
    pub authenticated_per_owner: usize,
}

/// Why a connection is refused or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Its source connects too often.
    #[error("it connects too often")]
    Rate,
    /// Its owner has too many connections with requests in progress.
    #[error("its owner has too many connections")]
    Owner,
    /// There are too many authenticated connections with requests in progress.
    #[error("there are too many connections")]
    Total,
    /// It was closed to make room for another connection.
    #[error("it was closed to accept another connection")]
    Evicted,
}

/// The source of a connection. A peer with one IPv6 address has its whole /64.
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

/// How many connections a source may still make.
#[derive(Debug)]
struct Rate {
    left: f64,
    at: Instant,
}

#[derive(Debug)]
struct State<O> {
    /// How many connections have been accepted in total.
    come: u64,
    unauthenticated: Group<Source>,
    authenticated: Group<O>,
    rates: Rates,
    networks: Rates,
    evictions: u64,
}

/// How many connections each source may still make.
#[derive(Debug, Default)]
struct Rates {
    rates: HashMap<IpAddr, Rate>,
    /// When expired sources were last removed.
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
    /// Takes from the rates of the address and its network. A connection that the address's rate forbids does not count for the network.
    fn take_rate(&mut self, address: IpAddr, source: Source, rate: u32, now: Instant) -> Result<(), LimitExceeded> {
        self.rates.take(address, rate, now)?;
        if address.is_ipv6() {
            self.networks.take(source.0, rate.saturating_mul(NETWORK), now)?;
        }
        Ok(())
    }

    /// Gives a connection an unauthenticated slot. This always succeeds.
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

/// The connections of one port. `O` is the type of owners.
#[derive(Debug)]
pub struct ConnectionLimiter<O: Copy + Eq + Hash> {
    limits: ConnectionLimits,
    state: Mutex<State<O>>,
}

/// The numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Open unauthenticated connections.
    pub unauthenticated: usize,
    /// Open authenticated connections.
    pub authenticated: usize,
    /// Connections closed so far to make room for others.
    pub evictions: u64,
}

impl<O: Copy + Eq + Hash> ConnectionLimiter<O> {
    /// Creates the limiter of a port without connections.
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

    /// Accepts a new connection as an unauthenticated one.
    ///
    /// # Errors
    /// Its source connects too often.
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

    /// Returns the current numbers of connections.
    pub fn counts(&self) -> ConnectionCounts {
        let state = self.lock();
        ConnectionCounts {
            unauthenticated: state.unauthenticated.all,
            authenticated: state.authenticated.all,
            evictions: state.evictions,
        }
    }

    /// Whether there are no connections.
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
    /// The peer's address. An IPv4-mapped address is converted to IPv4.
    pub address: IpAddr,
    source: Source,
    id: u64,
    evicted: Arc<Notify>,
    /// `None` while the connection is unauthenticated.
    owner: Mutex<Option<O>>,
}

/// A request in progress on a connection, until this is dropped.
#[derive(Debug)]
pub struct ActiveRequest<O: Copy + Eq + Hash>(Arc<ConnectionGuard<O>>);

impl<O: Copy + Eq + Hash> ConnectionGuard<O> {
    /// Waits until this connection must be closed because another one needs its slot.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Marks the connection as busy with a request.
    pub fn begin_request(self: &Arc<Self>) -> ActiveRequest<O> {
        self.turn(Activity::Busy);
        ActiveRequest(self.clone())
    }

    /// Assigns the connection to an owner.
    ///
    /// # Errors
    /// Why there is no slot for it; the connection then stays as it was.
    pub fn authenticate(&self, owner: O) -> Result<(), LimitExceeded> {
        let mut of = self.owner();
        if *of == Some(owner) {
            return Ok(());
        }
        let mut state = self.limiter.lock();
        // Released first, because its current slot may be the one that it needs.
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

    /// Removes the owner: the connection's next credentials must be authenticated first.
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

    /// Whether the connection is authenticated.
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
    /// The connection of the request.
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
