//! How much of disk and memory what is on its way may take: an algorithm sends as much as it likes, and what it takes others
//! must not miss.
//!
//! A [`Budget`] is so many bytes for all callers together, and fewer for each. The callers of one address, of which one that hoards tokens has
//! many, get more than one caller's part only as long as they leave as much as they take. What a task has [`Reservation`] of it comes back when that is
//! dropped, whatever the reason: the task was sent, was refused, or its caller has gone.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::caller::{Caller, Client};

/// So many bytes, and no more.
pub(crate) struct Budget {
    /// For all callers together.
    all: u64,
    /// For each of them.
    each: u64,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    all: u64,
    callers: HashMap<Caller, u64>,
    sources: HashMap<IpAddr, u64>,
}

/// Why there are no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuotaExceeded {
    /// It is more than one caller ever gets: so many.
    OverLimit(u64),
    /// What is on its way at this moment has them, this caller's own or others'.
    InUse,
}

/// What is taken for one task.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    client: Client,
    /// Changed under the budget's lock alone.
    bytes: AtomicU64,
}

impl Budget {
    /// So many bytes for all, and so many for each caller.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        Arc::new(Self { all, each: each.min(all), usage: Mutex::default() })
    }

    /// Nothing yet, for a task of this caller's.
    pub fn reserve(self: &Arc<Self>, client: Client) -> Reservation {
        Reservation { budget: self.clone(), client, bytes: AtomicU64::new(0) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Usage) -> T) -> T {
        change(&mut self.usage.lock())
    }

    /// How many bytes are taken.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.change(|usage| usage.all)
    }
}

impl Reservation {
    /// Takes what is missing to so many bytes.
    ///
    /// # Errors
    /// If they can't be had; then it has as many as before.
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

    /// A caller at an address of its own.
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
