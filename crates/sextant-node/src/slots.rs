//! Limits the number of concurrent runs. Each run needs a slot. The next free slot goes to a run of the job with the fewest slots and,
//! among those, to the oldest run.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use sextant_core::hub::Run;
use tokio::sync::oneshot;
use vantage6_types::{JobId, RunId};

use super::Context;
use super::admission::{Admission, admit};
use super::database_parameters::Databases;
use super::signal::SignalReceiver;

/// The memory for inputs of waiting runs, in bytes. Other inputs are fetched from the server when their pods request them.
pub const KEPT_INPUTS: usize = 8 * 1024 * 1024;

/// The slots of a node.
#[derive(Debug)]
pub struct RunSlots(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    free: usize,
    waiting: BTreeMap<RunId, Waiting>,
    /// The number of slots that each job has.
    taken: HashMap<JobId, usize>,
}

#[derive(Debug)]
struct Waiting {
    job: JobId,
    slot: oneshot::Sender<Slot>,
}

/// A run's slot. Dropping it passes it to the next waiting run.
#[derive(Debug)]
pub struct Slot {
    slots: Option<Arc<RunSlots>>,
    /// The job of the slot's run. Not known yet for runs that existed when this process started.
    job: Option<JobId>,
}

/// Chooses which waiting run gets the next slot: one of the job with the fewest slots and, among those, the oldest. So a job with many
/// runs, such as subtasks, does not make other jobs wait behind all of them.
fn next(waiting: impl Iterator<Item = (RunId, JobId)>, taken: &HashMap<JobId, usize>) -> Option<RunId> {
    waiting.min_by_key(|(run, job)| (taken.get(job).copied().unwrap_or(0), *run)).map(|(run, _)| run)
}

impl Queue {
    fn next(&mut self) -> Option<Waiting> {
        let run = next(self.waiting.iter().map(|(run, waiting)| (*run, waiting.job)), &self.taken)?;
        self.waiting.remove(&run)
    }

    fn takes(&mut self, job: JobId) {
        *self.taken.entry(job).or_default() += 1;
    }

    fn gives_back(&mut self, job: JobId) {
        if let Entry::Occupied(mut taken) = self.taken.entry(job) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

impl RunSlots {
    /// Creates this many slots.
    pub fn new(number: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Queue { free: number, ..Queue::default() })))
    }

    /// Takes a slot if one is free. `job` is the run's job, if it is known.
    pub fn try_acquire(self: &Arc<Self>, job: Option<JobId>) -> Option<Slot> {
        let mut queue = self.lock();
        queue.free = queue.free.checked_sub(1)?;
        if let Some(job) = job {
            queue.takes(job);
        }
        Some(Slot { slots: Some(self.clone()), job })
    }

    /// Waits for a slot for a run of this job. Dropping the future leaves the queue.
    pub async fn acquire(self: &Arc<Self>, run: RunId, job: JobId) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire(Some(job)) {
                return slot;
            }
            let (sender, receiver) = oneshot::channel();
            {
                let mut queue = self.lock();
                // A slot may have become free meanwhile.
                if queue.free > 0 {
                    continue;
                }
                queue.waiting.insert(run, Waiting { job, slot: sender });
            }
            if let Ok(slot) = receiver.await {
                return slot;
            }
        }
    }

    /// Whether a slot is free and no run is waiting for it.
    pub fn has_free(&self) -> bool {
        self.lock().free > 0
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

impl Slot {
    /// Sets the slot's job when it becomes known.
    #[must_use]
    pub fn of_job(mut self, job: JobId) -> Self {
        if let (Some(slots), None) = (&self.slots, self.job) {
            slots.lock().takes(job);
            self.job = Some(job);
        }
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        let mut job = self.job;
        loop {
            let next = {
                let mut queue = slots.lock();
                if let Some(job) = job {
                    queue.gives_back(job);
                }
                match queue.next() {
                    Some(next) => {
                        queue.takes(next.job);
                        next
                    }
                    None => {
                        queue.free += 1;
                        return;
                    }
                }
            };
            job = Some(next.job);
            match next.slot.send(Self { slots: Some(slots.clone()), job }) {
                Ok(()) => return,
                // That run has stopped waiting, so try the next one.
                Err(mut back) => back.slots = None,
            }
        }
    }
}

/// Waits for a run's slot. `None` if the number of runs is not limited, or if the run's reconciler has something else to do first.
///
/// A reconciler is large, and thousands of runs may wait. So runs wait here, where they take little memory, and get their reconciler
/// together with their slot.
pub async fn wait_for_slot(
    context: &Context,
    run: &mut Run,
    databases: &Databases,
    signal: &mut SignalReceiver,
) -> Option<Slot> {
    let slots = context.slots.as_ref()?;
    if let Some(slot) = slots.try_acquire(Some(run.task.job)) {
        return Some(slot);
    }
    // A refusal is reported now rather than when a slot becomes free. An admitted run is checked again then, because hours may have
    // passed, so a server error does no harm here. A run that waits for a registry or a store leaves the queue. The check may take long,
    // so a kill interrupts it; boxed, because it takes more memory than the wait for the slot.
    let admission = Box::pin(async {
        tokio::select! {
            admission = admit(context, run, databases, None) => Some(admission),
            () = signal.changed() => None,
        }
    });
    if let None | Some(Ok(Admission::Refused(_) | Admission::Waits(_))) = admission.await {
        return None;
    }
    let length = run.input.as_ref().map_or(0, |input| input.0.len());
    let kept = u32::try_from(length).ok().and_then(|length| context.inputs.try_acquire_many(length).ok());
    if kept.is_none() {
        run.input = None;
    }
    tokio::select! {
        slot = slots.acquire(run.id, run.task.job) => Some(slot),
        () = signal.changed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn jobs_take_turns() {
        // The jobs of active runs; the waiting runs with their jobs; the next run.
        type Row = (&'static [u64], &'static [(u64, u64)], Option<u64>);
        let table: [Row; 7] = [
            (&[], &[], None),
            (&[1], &[], None),
            (&[], &[(5, 1), (4, 2)], Some(4)),
            (&[1, 1, 1], &[(5, 1), (6, 1), (9, 2)], Some(9)),
            (&[1, 1, 2], &[(5, 1), (6, 1), (9, 2)], Some(9)),
            (&[1, 2], &[(5, 1), (6, 1), (9, 2)], Some(5)),
            (&[1, 1, 2, 3], &[(7, 3), (6, 2), (5, 1)], Some(6)),
        ];
        for (under_way, waiting, expected) in table {
            let mut queue = Queue::default();
            under_way.iter().for_each(|job| queue.takes(JobId(*job)));
            let waiting = || waiting.iter().map(|(run, job)| (RunId(*run), JobId(*job)));
            assert_eq!(
                next(waiting(), &queue.taken),
                expected.map(RunId),
                "{under_way:?} {:?}",
                waiting().collect::<Vec<_>>()
            );
            under_way.iter().for_each(|job| queue.gives_back(JobId(*job)));
            assert!(queue.taken.is_empty());
        }
    }

    #[tokio::test]
    async fn a_job_with_many_subtasks_does_not_keep_another_waiting_behind_them() {
        let slots = RunSlots::new(2);
        // The slot of an existing run whose job is learned later.
        let earlier = slots.try_acquire(None).unwrap().of_job(JobId(1));
        let parent = slots.acquire(RunId(1), JobId(1)).await;
        let mut subtasks: Vec<_> = (2..20).map(|run| Box::pin(slots.acquire(RunId(run), JobId(1)))).collect();
        assert!(subtasks.iter_mut().all(|subtask| subtask.now_or_never().is_none()));
        let mut other = Box::pin(slots.acquire(RunId(99), JobId(2)));
        assert!((&mut other).now_or_never().is_none());
        drop(parent);
        let other = other.now_or_never().expect("it is its turn");
        drop(earlier);
        let first = (&mut subtasks[0]).now_or_never().expect("then that of the oldest subtask");
        drop((first, other, subtasks));
        assert!(slots.lock().taken.is_empty() && slots.lock().free == 2);
    }

    #[tokio::test]
    async fn the_oldest_run_that_waits_gets_the_next_slot() {
        let slots = RunSlots::new(1);
        let first = slots.acquire(RunId(9), JobId(1)).await;
        let mut young = Box::pin(slots.acquire(RunId(8), JobId(1)));
        let mut old = Box::pin(slots.acquire(RunId(2), JobId(1)));
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
        let first = slots.acquire(RunId(1), JobId(1)).await;
        let mut second = Box::pin(slots.acquire(RunId(2), JobId(1)));
        assert!(!slots.has_free() && (&mut second).now_or_never().is_none());
        drop(first);
        assert!(!slots.has_free());
        drop(second.await);
        assert!(slots.has_free());
    }

    #[tokio::test]
    async fn a_slot_is_not_lost_with_those_that_stop_waiting() {
        let slots = RunSlots::new(2);
        let taken = [slots.acquire(RunId(1), JobId(1)).await, slots.acquire(RunId(2), JobId(1)).await];
        let mut gone = Box::pin(slots.acquire(RunId(3), JobId(1)));
        let mut given = Box::pin(slots.acquire(RunId(4), JobId(1)));
        assert!((&mut gone).now_or_never().is_none() && (&mut given).now_or_never().is_none());
        drop(gone);
        let [one, two] = taken;
        // This slot goes to run 4, which is dropped before it receives it.
        drop(one);
        drop(given);
        assert!(slots.try_acquire(None).is_some());
        drop(two);
        let all = [slots.try_acquire(None), slots.try_acquire(None)];
        assert!(all.iter().all(Option::is_some) && slots.try_acquire(None).is_none());
    }
}
