//! How many runs may be under way at once: places, of which the oldest run that waits gets the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use vantage6_types::RunId;

/// A number of places.
#[derive(Debug)]
pub struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BTreeMap<RunId, oneshot::Sender<Place>>,
}

/// A run's place, given to the next when it is dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<Places>>);

impl Places {
    /// So many.
    pub fn new(number: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: number, waiting: BTreeMap::new() })))
    }

    /// A place if one is free.
    pub fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Place(Some(self.clone())))
    }

    /// A place for a run, as soon as there is one for it. Whoever stops waiting loses nothing but its turn.
    pub async fn take(self: &Arc<Self>, run: RunId) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            let (sender, receiver) = oneshot::channel();
            {
                let mut state = self.lock();
                // One may have become free meanwhile.
                if state.free > 0 {
                    continue;
                }
                state.waiting.insert(run, sender);
            }
            if let Ok(place) = receiver.await {
                return place;
            }
        }
    }

    /// Whether there is a place that nobody waits for.
    pub fn has_spare(&self) -> bool {
        self.lock().free > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = places.lock();
                match state.waiting.pop_first() {
                    Some((_, next)) => next,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            match next.send(Self(Some(places.clone()))) {
                Ok(()) => return,
                // It does not wait any more: the one after it may.
                Err(mut back) => back.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_oldest_run_that_waits_gets_the_next_place() {
        let places = Places::new(1);
        let first = places.take(RunId(9)).await;
        let mut young = Box::pin(places.take(RunId(8)));
        let mut old = Box::pin(places.take(RunId(2)));
        assert!((&mut young).now_or_never().is_none() && (&mut old).now_or_never().is_none());
        drop(first);
        assert!((&mut young).now_or_never().is_none());
        let second = old.await;
        drop(second);
        young.await;
    }

    #[tokio::test]
    async fn a_place_is_spare_when_nobody_waits_for_it() {
        let places = Places::new(1);
        assert!(places.has_spare());
        let first = places.take(RunId(1)).await;
        let mut second = Box::pin(places.take(RunId(2)));
        assert!(!places.has_spare() && (&mut second).now_or_never().is_none());
        drop(first);
        assert!(!places.has_spare());
        drop(second.await);
        assert!(places.has_spare());
    }

    #[tokio::test]
    async fn a_place_is_not_lost_with_those_that_stop_waiting() {
        let places = Places::new(2);
        let taken = [places.take(RunId(1)).await, places.take(RunId(2)).await];
        let mut gone = Box::pin(places.take(RunId(3)));
        let mut given = Box::pin(places.take(RunId(4)));
        assert!((&mut gone).now_or_never().is_none() && (&mut given).now_or_never().is_none());
        drop(gone);
        let [one, two] = taken;
        // This one is sent to run 4, which does not live to see it.
        drop(one);
        drop(given);
        assert!(places.try_take().is_some());
        drop(two);
        let all = [places.try_take(), places.try_take()];
        assert!(all.iter().all(Option::is_some) && places.try_take().is_none());
    }
}
