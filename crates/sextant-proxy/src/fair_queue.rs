//! Whose turn it is to have an RSA key computed with: some milliseconds of a core for each result and each input, and one algorithm may ask
//! for thousands. So only so many are computed with at a time, on threads that serve nobody, and callers take turns.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::Caller;

/// From so many callers on, those that wait for nothing are forgotten.
const SWEEP_AT: usize = 256;

/// The turns of all callers.
pub(crate) struct FairQueue {
    all: Arc<Semaphore>,
    /// Each waits for one turn at a time; what else it wants waits behind that.
    callers: Mutex<HashMap<Caller, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(crate) type Permit = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

impl Default for FairQueue {
    /// All cores but one, which serves.
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)))
    }
}

impl FairQueue {
    fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), callers: Mutex::default() }
    }

    /// A turn of this caller's. Turns are had in the order in which they are first waited for, one caller after the other.
    pub fn acquire(self: &Arc<Self>, caller: Caller) -> impl Future<Output = Permit> + Send + use<> {
        let queue = self.clone();
        async move {
            let own = queue.of_caller(caller).acquire_owned().await.ok();
            (own, queue.all.clone().acquire_owned().await.ok())
        }
    }

    fn of_caller(&self, caller: Caller) -> Arc<Semaphore> {
        let mut callers = self.callers.lock();
        if let Some(own) = callers.get(&caller).and_then(Weak::upgrade) {
            return own;
        }
        if callers.len() >= SWEEP_AT {
            callers.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(1));
        callers.insert(caller, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn caller(task: u64) -> Caller {
        Caller { task: Some(task), ..Caller::default() }
    }

    #[tokio::test]
    async fn callers_take_turns_however_much_one_wants() {
        let queue = Arc::new(FairQueue::new(1));
        let mut greedy: Vec<_> = (0..100).map(|_| Box::pin(queue.acquire(caller(1)))).collect();
        let first = greedy.remove(0).now_or_never().unwrap();
        assert!(greedy.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut modest = Box::pin(queue.acquire(caller(2)));
        assert!((&mut modest).now_or_never().is_none(), "there is one at a time");
        drop(first);
        // The greedy one's next turn was waited for only after this.
        let second = modest.now_or_never().unwrap();
        assert!(greedy.iter_mut().all(|turn| turn.now_or_never().is_none()));
        drop(second);
        assert!(greedy.remove(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_is_not_waited_for_any_more_takes_no_turn_and_is_forgotten() {
        let queue = Arc::new(FairQueue::new(1));
        for task in 0..2 * SWEEP_AT as u64 {
            let taken = queue.acquire(caller(task)).await;
            let mut waits = Box::pin(queue.acquire(caller(task)));
            assert!((&mut waits).now_or_never().is_none());
            drop((taken, waits));
        }
        assert!(queue.callers.lock().len() <= SWEEP_AT);
        assert_eq!(queue.all.available_permits(), 1);
    }
}
