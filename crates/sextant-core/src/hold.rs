//! Whether this process is the one of its node that acts. Two processes with one API key would each launch, kill and report the
//! other's runs; a Lease (Kubernetes) or a locked file (local) lets one of them act while the others stand by.
//!
//! Before each step of a run, the process looks at the clock: is what it was granted still good? So one that was frozen or cut
//! off for a while does not act on what was true before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::timeout;

/// The part of the node's health that says whether it acts or stands by.
pub const PART: &str = "lease";
/// How long giving back may take: a process that is to end has no time for an API server that is away.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The right to act.
#[derive(Debug)]
pub struct Hold {
    /// In milliseconds of [`now`].
    until: AtomicU64,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Somebody else may act, or nobody.
    Waiting,
    /// This process may, or might soon again.
    Held,
    /// Another one acts now: who, in words.
    Lost(String),
    /// This process ends, and whoever keeps its right is to give it back.
    GivingBack,
    /// Done.
    GivenBack,
}

impl Default for Hold {
    fn default() -> Self {
        Self { until: AtomicU64::new(0), state: watch::Sender::new(State::Waiting) }
    }
}

/// A time that goes on while the process is frozen or the machine sleeps.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Hold {
    /// This process may act until then (a time of [`now`]); not any more if it has lost its right or gives it back.
    pub fn extend(&self, until: Duration) {
        self.state.send_if_modified(|state| {
            if !matches!(state, State::Waiting | State::Held) {
                return false;
            }
            self.until.store(millis(until), Ordering::Relaxed);
            *state = State::Held;
            // Also when it was held before: somebody may wait for it to be good again.
            true
        });
    }

    /// Another process acts from now on.
    pub fn lose(&self, to: String) {
        self.state.send_modify(|state| {
            self.until.store(0, Ordering::Relaxed);
            if *state == State::Held {
                *state = State::Lost(to);
            }
        });
    }

    /// Whether this process may act at this moment.
    pub fn is_good(&self) -> bool {
        millis(now()) < self.until.load(Ordering::Relaxed)
    }

    /// Waits until it may.
    pub async fn good(&self) {
        let mut state = self.state.subscribe();
        while !self.is_good() {
            // An error can't be: this end lives.
            let _ = state.changed().await;
        }
    }

    /// Waits until another process acts; who, in words.
    pub async fn lost(&self) -> String {
        let mut state = self.state.subscribe();
        loop {
            if let State::Lost(to) = &*state.borrow_and_update() {
                return to.clone();
            }
            let _ = state.changed().await;
        }
    }

    /// Acts no more, and lets whoever keeps the right tell the others, so that they need not wait.
    pub async fn give_back(&self) {
        self.until.store(0, Ordering::Relaxed);
        let held = self.state.send_if_modified(|state| {
            let held = *state == State::Held;
            if held {
                *state = State::GivingBack;
            }
            held
        });
        if held {
            let mut state = self.state.subscribe();
            // If it takes too long, they wait a little.
            let _ = timeout(GIVE_BACK, state.wait_for(|state| *state == State::GivenBack)).await;
        }
    }

    /// For whoever keeps the right: waits until it is to be given back.
    pub async fn to_be_given_back(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| *state == State::GivingBack).await;
    }

    /// For whoever keeps the right: it is given back.
    pub fn given_back(&self) {
        self.state.send_replace(State::GivenBack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn good_for_as_long_as_granted() {
        let hold = Arc::new(Hold::default());
        assert!(!hold.is_good());
        let waiting = tokio::spawn({
            let hold = hold.clone();
            async move { hold.good().await }
        });
        hold.extend(now() + Duration::from_millis(30));
        assert!(hold.is_good());
        waiting.await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(!hold.is_good());
        hold.extend(now() + Duration::from_secs(60));
        assert!(hold.is_good());
    }

    #[tokio::test]
    async fn what_is_lost_stays_lost() {
        let hold = Hold::default();
        hold.extend(now() + Duration::from_secs(60));
        hold.lose("another".into());
        hold.extend(now() + Duration::from_secs(60));
        assert!(!hold.is_good());
        assert_eq!(hold.lost().await, "another");
    }

    #[tokio::test]
    async fn given_back_by_whoever_keeps_it() {
        let hold = Arc::new(Hold::default());
        // Nobody keeps it: nothing to wait for.
        hold.give_back().await;
        hold.extend(now() + Duration::from_secs(60));
        tokio::spawn({
            let hold = hold.clone();
            async move {
                hold.to_be_given_back().await;
                assert!(!hold.is_good());
                hold.given_back();
            }
        });
        hold.give_back().await;
        assert_eq!(*hold.state.borrow(), State::GivenBack);
        hold.extend(now() + Duration::from_secs(60));
        assert!(!hold.is_good());
    }
}
