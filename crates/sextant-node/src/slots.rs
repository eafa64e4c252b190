//! How many runs may be under way at once. Each needs a slot, and the oldest run that waits gets the next free one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sextant_core::hub::Run;
use tokio::sync::{oneshot, watch};
use vantage6_types::RunId;

use super::Context;
use super::admission::{Admission, admit};
use super::kept::Databases;
use super::reconciler::Signal;

/// How many bytes of inputs are kept for runs that wait. Other inputs are fetched from the server when their pods ask.
pub const KEPT_INPUTS: usize = 8 * 1024 * 1024;

/// The slots of a node.
#[derive(Debug)]
pub struct RunSlots(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: BTreeMap<RunId, oneshot::Sender<Slot>>,
}

/// A run's slot. Dropping it hands it to the run that waits next.
#[derive(Debug)]
pub struct Slot(Option<Arc<RunSlots>>);

impl RunSlots {
    /// This many slots.
    pub fn new(number: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue { free: number, waiting: BTreeMap::new() })))
    }

    /// A slot if one is free.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let mut queue = self.lock();
        queue.free = queue.free.checked_sub(1)?;
        Some(Slot(Some(self.clone())))
    }

    /// Waits for a slot. Dropping the future gives up the place in the queue.
    pub async fn acquire(self: &Arc<Self>, run: RunId) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire() {
                return slot;
            }
            let (sender, receiver) = oneshot::channel();
            {
                let mut queue = self.lock();
                // One may have become free meanwhile.
                if queue.free > 0 {
                    continue;
                }
                queue.waiting.insert(run, sender);
            }
            if let Ok(slot) = receiver.await {
                return slot;
            }
        }
    }

    /// Whether a slot is free, with no run waiting for it.
    pub fn has_free(&self) -> bool {
        self.lock().free > 0
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.0.take() else { return };
        loop {
            let next = {
                let mut queue = slots.lock();
                match queue.waiting.pop_first() {
                    Some((_, next)) => next,
                    None => {
                        queue.free += 1;
                        return;
                    }
                }
            };
            match next.send(Self(Some(slots.clone()))) {
                Ok(()) => return,
                // That run stopped waiting: try the one after it.
                Err(mut back) => back.0 = None,
            }
        }
    }
}

/// Waits for a run's slot. `None` if the number of runs is not limited, or if the run's reconciler has something to do before.
///
/// A reconciler is large, and thousands of runs may wait. So each waits here, where it takes little memory, and gets its reconciler with
/// its slot.
pub async fn wait_for_slot(
    context: &Context,
    run: &mut Run,
    databases: &Databases,
    signal: &mut watch::Receiver<Signal>,
) -> Option<Slot> {
    let slots = context.slots.as_ref()?;
    if let Some(slot) = slots.try_acquire() {
        return Some(slot);
    }
    // A refusal is reported now rather than when the slot is free. An admitted run is checked again then, because hours may have passed;
    // so an error of the server does no harm here.
    if let Ok(Admission::Refused(_)) = Box::pin(admit(context, run, databases, None)).await {
        return None;
    }
    let length = run.input.as_ref().map_or(0, |input| input.0.len());
    let kept = u32::try_from(length).ok().and_then(|length| context.inputs.try_acquire_many(length).ok());
    if kept.is_none() {
        run.input = None;
    }
    tokio::select! {
        slot = slots.acquire(run.id) => Some(slot),
        _ = signal.changed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_oldest_run_that_waits_gets_the_next_slot() {
        let slots = RunSlots::new(1);
        let first = slots.acquire(RunId(9)).await;
        let mut young = Box::pin(slots.acquire(RunId(8)));
        let mut old = Box::pin(slots.acquire(RunId(2)));
        assert!((&mut young).now_or_never().is_none() && (&mut old).now_or_never().is_none());
        drop(first);
        assert!((&mut young).now_or_never().is_none());
        let second = old.await;
        drop(second);
        young.await;
    }

    #[tokio::test]
    async fn a_slot_is_free_when_nobody_waits_for_it() {
        let slots = RunSlots::new(1);
        assert!(slots.has_free());
        let first = slots.acquire(RunId(1)).await;
        let mut second = Box::pin(slots.acquire(RunId(2)));
        assert!(!slots.has_free() && (&mut second).now_or_never().is_none());
        drop(first);
        assert!(!slots.has_free());
        drop(second.await);
        assert!(slots.has_free());
    }

    #[tokio::test]
    async fn a_slot_is_not_lost_with_those_that_stop_waiting() {
        let slots = RunSlots::new(2);
        let taken = [slots.acquire(RunId(1)).await, slots.acquire(RunId(2)).await];
        let mut gone = Box::pin(slots.acquire(RunId(3)));
        let mut given = Box::pin(slots.acquire(RunId(4)));
        assert!((&mut gone).now_or_never().is_none() && (&mut given).now_or_never().is_none());
        drop(gone);
        let [one, two] = taken;
        // This one is sent to run 4, which does not live to see it.
        drop(one);
        drop(given);
        assert!(slots.try_acquire().is_some());
        drop(two);
        let all = [slots.try_acquire(), slots.try_acquire()];
        assert!(all.iter().all(Option::is_some) && slots.try_acquire().is_none());
    }
}
