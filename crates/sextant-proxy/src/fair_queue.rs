//! Whose turn it is to have an RSA key computed with: some milliseconds of a core for each result and each input, and one algorithm may ask
//! for thousands. So only so many are computed with at a time, on threads that serve nobody, callers take turns, and so do
//! their addresses: one may have many tokens.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::{Caller, Client};

/// From so many callers on, those that wait for nothing are forgotten.
const SWEEP_AT: usize = 256;

/// The turns of all callers.
pub(crate) struct FairQueue {
    all: Arc<Semaphore>,
    /// Each waits for one turn at a time; what else it wants waits behind that.
    callers: Mutex<Waiting<Caller>>,
    /// The same of addresses, each of which waits for one turn of its callers'.
    sources: Mutex<Waiting<IpAddr>>,
}

type Waiting<K> = HashMap<K, Weak<Semaphore>>;

/// A turn, until it is dropped.
pub(crate) type Permit = [Option<OwnedSemaphorePermit>; 3];

impl Default for FairQueue {
    /// All cores but one, which serves.
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)))
    }
}

impl FairQueue {
    fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), callers: Mutex::default(), sources: Mutex::default() }
    }

    /// A turn of this caller's. Turns are had in the order in which they are first waited for, one address after the other, and at each
    /// one caller after the other.
    pub fn acquire(self: &Arc<Self>, Client { caller, source }: Client) -> impl Future<Output = Permit> + Send + use<> {
        let queue = self.clone();
        async move {
            let own = one_of(&queue.callers, caller).acquire_owned().await.ok();
            let of_address = one_of(&queue.sources, source).acquire_owned().await.ok();
            [own, of_address, queue.all.clone().acquire_owned().await.ok()]
        }
    }
}

/// Of those who share it, one at a time.
fn one_of<K: Copy + Eq + Hash>(all: &Mutex<Waiting<K>>, whose: K) -> Arc<Semaphore> {
    let mut all = all.lock();
    if let Some(own) = all.get(&whose).and_then(Weak::upgrade) {
        return own;
    }
    if all.len() >= SWEEP_AT {
        all.retain(|_, own| own.strong_count() > 0);
    }
    let own = Arc::new(Semaphore::new(1));
    all.insert(whose, Arc::downgrade(&own));
    own
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::caller::tests::client;

    fn caller(task: u64) -> Client {
        client(task, u8::try_from(task % 200).unwrap())
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

    #[tokio::test]
    async fn many_tokens_at_one_address_have_its_turn_alone() {
        let queue = Arc::new(FairQueue::new(1));
        let mut greedy: Vec<_> = (0..100).map(|task| Box::pin(queue.acquire(client(task, 1)))).collect();
        let first = greedy.remove(0).now_or_never().unwrap();
        assert!(greedy.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut modest = Box::pin(queue.acquire(client(200, 2)));
        assert!((&mut modest).now_or_never().is_none(), "there is one at a time");
        drop(first);
        assert!(modest.now_or_never().is_some(), "before 99 others");
    }
}
