//! Limits how much disk and memory pending requests may use. Algorithms send as much as they like, and one must not starve the others.
//!
//! A [`Budget`] has a number of bytes for all callers together and a lower limit for each. One address can have many tokens, and thus many
//! callers. The callers of one address together get more than one caller's limit only while at least as much remains free as they use.
//! A task's [`Reservation`] is released on drop, whatever the reason: the task was sent or refused, or its caller has disconnected.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::caller::{Caller, Client};

/// A number of bytes to share among callers.
pub(crate) struct Budget {
    /// The limit for all callers together.
    all: u64,
    /// The limit for each caller.
    each: u64,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    all: u64,
    callers: HashMap<Caller, u64>,
    sources: HashMap<IpAddr, u64>,
}

/// Why bytes can't be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotaExceeded {
    /// More than this limit, which no caller can exceed.
    OverLimit(u64),
    /// Other reservations, of this caller or of others, use the bytes at the moment.
    InUse,
}

/// The bytes that are reserved for one task.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    client: Client,
    /// Changed only under the budget's lock.
    bytes: AtomicU64,
}

impl Budget {
    /// Creates a budget with a limit for all callers together and one for each.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        Arc::new(Self { all, each: each.min(all), usage: Mutex::default() })
    }

    /// Creates an empty reservation for a caller.
    pub fn reserve(self: &Arc<Self>, client: Client) -> Reservation {
        Reservation { budget: self.clone(), client, bytes: AtomicU64::new(0) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Usage) -> T) -> T {
        change(&mut self.usage.lock())
    }

    /// Returns how many bytes are reserved.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.change(|usage| usage.all)
    }
}

impl Reservation {
    /// Extends the reservation to this many bytes, if it has fewer.
    ///
    /// # Errors
    /// If not enough bytes are free; the reservation then stays as it was.
    pub fn grow_to(&self, bytes: u64) -> Result<(), QuotaExceeded> {
        let Budget { all, each, .. } = *self.budget;
        if bytes > each {
            return Err(QuotaExceeded::OverLimit(each));
        }
        self.budget.change(|usage| {
            let more = bytes.saturating_sub(self.bytes.load(Relaxed));
            let Client { caller, source } = self.client;
            let callers = usage.callers.get(&caller).copied().unwrap_or_default();
            let sources = usage.sources.get(&source).copied().unwrap_or_default();
            let free = all.saturating_sub(usage.all);
            if more > free || callers + more > each || sources + more > each.max(free - more) {
                return Err(QuotaExceeded::InUse);
            }
            if more > 0 {
                usage.all += more;
                *usage.callers.entry(caller).or_default() += more;
                *usage.sources.entry(source).or_default() += more;
                self.bytes.fetch_add(more, Relaxed);
            }
            Ok(())
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.change(|usage| {
            usage.all -= bytes;
            give_back(&mut usage.callers, self.client.caller, bytes);
            give_back(&mut usage.sources, self.client.source, bytes);
        });
    }
}

fn give_back<K: Eq + Hash>(parts: &mut HashMap<K, u64>, whose: K, bytes: u64) {
    if let Some(left) = parts.get_mut(&whose) {
        *left -= bytes;
        if *left == 0 {
            parts.remove(&whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::tests::client;

    /// A caller with its own address.
    fn caller(task: u8) -> Client {
        client(task.into(), task)
    }

    #[test]
    fn nobody_takes_more_than_there_is_or_more_than_their_part() {
        let budget = Budget::new(100, 60);
        let (first, second) = (budget.reserve(caller(1)), budget.reserve(caller(1)));
        assert_eq!(first.grow_to(61), Err(QuotaExceeded::OverLimit(60)), "however little is taken");
        assert_eq!(first.grow_to(40), Ok(()));
        assert_eq!(second.grow_to(21), Err(QuotaExceeded::InUse), "it is one caller's part, in however many tasks");
        assert_eq!(second.grow_to(20), Ok(()));
        let other = budget.reserve(caller(2));
        assert_eq!(other.grow_to(41), Err(QuotaExceeded::InUse), "there is no more");
        assert_eq!(other.grow_to(40), Ok(()));
        assert_eq!(first.grow_to(40), Ok(()), "it has them already");
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn what_is_dropped_comes_back() {
        let budget = Budget::new(100, 100);
        let task = budget.reserve(caller(1));
        task.grow_to(10).unwrap();
        task.grow_to(100).unwrap();
        assert_eq!(task.grow_to(101), Err(QuotaExceeded::OverLimit(100)));
        drop(task);
        assert_eq!(budget.used(), 0);
        assert!(budget.change(|usage| usage.callers.is_empty() && usage.sources.is_empty()));
        budget.reserve(caller(2)).grow_to(100).unwrap();
        drop(budget.reserve(caller(3)));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn many_tokens_at_one_address_leave_as_much_as_they_take() {
        let budget = Budget::new(160, 40);
        let hoard: Vec<_> = (0..100).map(|task| budget.reserve(client(task, 1))).collect();
        for one in &hoard {
            let _ = one.grow_to(1);
        }
        assert_eq!(budget.used(), 80);
        assert_eq!(hoard[0].grow_to(2), Err(QuotaExceeded::InUse));
        for source in 2..4 {
            let modest = budget.reserve(client(200 + u64::from(source), source));
            assert_eq!(modest.grow_to(40), Ok(()), "a caller's whole part at another address");
        }
        drop(hoard);
        assert_eq!(budget.used(), 0);
    }
}
