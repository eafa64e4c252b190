//! How much of disk and memory what is on its way may take: an algorithm sends as much as it likes, and what it takes others
//! must not miss.
//!
//! A [`Budget`] is so many bytes for all callers together, and fewer for each. What a task has [`Taken`] of it comes back when that is
//! dropped, whatever the reason: the task was sent, was refused, or its caller has gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::caller::Caller;

/// So many bytes, and no more.
pub(crate) struct Budget {
    /// For all callers together.
    all: u64,
    /// For each of them.
    each: u64,
    taken: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    all: u64,
    callers: HashMap<Caller, u64>,
}

/// Why there are no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It is more than one caller ever gets: so many.
    TooMuch(u64),
    /// What is on its way at this moment has them, this caller's own or others'.
    Now,
}

/// What is taken for one task.
pub(crate) struct Taken {
    budget: Arc<Budget>,
    caller: Caller,
    /// Changed under the budget's lock alone.
    bytes: AtomicU64,
}

impl Budget {
    /// So many bytes for all, and so many for each caller.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        Arc::new(Self { all, each: each.min(all), taken: Mutex::default() })
    }

    /// Nothing yet, for a task of this caller's.
    pub fn begin(self: &Arc<Self>, caller: Caller) -> Taken {
        Taken { budget: self.clone(), caller, bytes: AtomicU64::new(0) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.taken.lock())
    }

    /// How many bytes are taken.
    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        self.change(|table| table.all)
    }
}

impl Taken {
    /// Takes what is missing to so many bytes.
    ///
    /// # Errors
    /// If they can't be had; then it has as many as before.
    pub fn at_least(&self, bytes: u64) -> Result<(), Full> {
        let Budget { all, each, .. } = *self.budget;
        if bytes > each {
            return Err(Full::TooMuch(each));
        }
        self.budget.change(|table| {
            let more = bytes.saturating_sub(self.bytes.load(Relaxed));
            let others = table.callers.get(&self.caller).copied().unwrap_or_default();
            if more > each.saturating_sub(others) || more > all.saturating_sub(table.all) {
                return Err(Full::Now);
            }
            if more > 0 {
                table.all += more;
                *table.callers.entry(self.caller).or_default() += more;
                self.bytes.fetch_add(more, Relaxed);
            }
            Ok(())
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.budget.change(|table| {
            table.all -= bytes;
            if let Some(left) = table.callers.get_mut(&self.caller) {
                *left -= bytes;
                if *left == 0 {
                    table.callers.remove(&self.caller);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(task: u64) -> Caller {
        Caller { task: Some(task), ..Caller::default() }
    }

    #[test]
    fn nobody_takes_more_than_there_is_or_more_than_their_part() {
        let budget = Budget::new(100, 60);
        let (first, second) = (budget.begin(caller(1)), budget.begin(caller(1)));
        assert_eq!(first.at_least(61), Err(Full::TooMuch(60)), "however little is taken");
        assert_eq!(first.at_least(40), Ok(()));
        assert_eq!(second.at_least(21), Err(Full::Now), "it is one caller's part, in however many tasks");
        assert_eq!(second.at_least(20), Ok(()));
        let other = budget.begin(caller(2));
        assert_eq!(other.at_least(41), Err(Full::Now), "there is no more");
        assert_eq!(other.at_least(40), Ok(()));
        assert_eq!(first.at_least(40), Ok(()), "it has them already");
        assert_eq!(budget.taken(), 100);
    }

    #[test]
    fn what_is_dropped_comes_back() {
        let budget = Budget::new(100, 100);
        let task = budget.begin(caller(1));
        task.at_least(10).unwrap();
        task.at_least(100).unwrap();
        assert_eq!(task.at_least(101), Err(Full::TooMuch(100)));
        drop(task);
        assert_eq!(budget.taken(), 0);
        assert!(budget.change(|table| table.callers.is_empty()));
        budget.begin(caller(2)).at_least(100).unwrap();
        drop(budget.begin(caller(3)));
        assert_eq!(budget.taken(), 0);
    }
}
