//! Schedules RSA operations fairly among callers and their addresses.
//!
//! Each result and each input costs some milliseconds of a core, and one algorithm may request thousands. So only a few operations run at
//! a time, on threads that serve no requests. Callers take turns, and so do addresses, because one address may have many tokens.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::{Caller, Client};

/// From this many entries on, unused ones are removed.
const SWEEP_AT: usize = 256;

/// The queue of all callers.
pub(crate) struct FairQueue {
    all: Arc<Semaphore>,
    /// One permit per caller: its further requests wait behind it.
    callers: Mutex<Waiting<Caller>>,
    /// One permit per address, shared by its callers.
    sources: Mutex<Waiting<IpAddr>>,
}

type Waiting<K> = HashMap<K, Weak<Semaphore>>;

/// Permission for one operation, until it is dropped.
pub(crate) type Permit = [Option<OwnedSemaphorePermit>; 3];

impl Default for FairQueue {
    /// Permits as many operations at a time as there are cores, less one for serving requests.
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)))
    }
}

impl FairQueue {
    fn new(at_once: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), callers: Mutex::default(), sources: Mutex::default() }
    }

    /// Waits for this caller's turn. Addresses are served in the order in which they first wait, and so are the callers of each address.
    pub fn acquire(self: &Arc<Self>, Client { caller, source }: Client) -> impl Future<Output = Permit> + Send + use<> {
        let queue = self.clone();
        async move {
            let own = one_of(&queue.callers, caller).acquire_owned().await.ok();
            let of_address = one_of(&queue.sources, source).acquire_owned().await.ok();
            [own, of_address, queue.all.clone().acquire_owned().await.ok()]
        }
    }
}

/// Returns the semaphore of a caller or an address, which admits one at a time.
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
        // The greedy caller's next request joined the queue only after this one.
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
