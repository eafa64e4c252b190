//! Whether this process is the leader among the processes of its node. Two processes with one API key would each launch, kill and report
//! the other's runs. A Lease (Kubernetes) or a locked file (local) makes one of them the leader while the others stand by.
//!
//! Before each action on a run, the process checks the clock against the time until which it leads, so a process that was frozen or cut
//! off for a while does not act on outdated knowledge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::timeout;

/// The part of the node's health for leadership.
pub const PART: &str = "lease";
/// How long releasing may take. A process that exits does not wait for an unreachable API server.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether, and until when, this process leads.
#[derive(Debug)]
pub struct Leadership {
    /// Milliseconds of [`now`].
    until: AtomicU64,
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Another process leads, or no process.
    Standby,
    /// This process leads, or will again once its lease is renewed.
    Leading,
    /// Another process leads, with this name.
    Superseded(String),
    /// This process exits, and the task that renews the lease must release it.
    Releasing,
    Released,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { until: AtomicU64::new(0), phase: watch::Sender::new(Phase::Standby) }
    }
}

/// A clock that also counts while the process is frozen or the machine sleeps.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Leadership {
    /// Extends leadership until `until` (a time of [`now`]). It has no effect once leadership was superseded or is being released.
    pub fn extend(&self, until: Duration) {
        self.phase.send_if_modified(|phase| {
            if !matches!(phase, Phase::Standby | Phase::Leading) {
                return false;
            }
            self.until.store(millis(until), Ordering::Relaxed);
            *phase = Phase::Leading;
            // Notify in any case: `wait_until_leader` may be waiting for a renewal.
            true
        });
    }

    /// Records that another process leads.
    pub fn step_down(&self, to: String) {
        self.phase.send_modify(|phase| {
            self.until.store(0, Ordering::Relaxed);
            if *phase == Phase::Leading {
                *phase = Phase::Superseded(to);
            }
        });
    }

    /// Whether this process leads now.
    pub fn is_leader(&self) -> bool {
        millis(now()) < self.until.load(Ordering::Relaxed)
    }

    /// Waits until this process leads.
    pub async fn wait_until_leader(&self) {
        let mut phase = self.phase.subscribe();
        while !self.is_leader() {
            // Can't fail: the sender is in `self`.
            let _ = phase.changed().await;
        }
    }

    /// Waits until another process leads, and returns its name.
    pub async fn superseded(&self) -> String {
        let mut phase = self.phase.subscribe();
        loop {
            if let Phase::Superseded(to) = &*phase.borrow_and_update() {
                return to.clone();
            }
            let _ = phase.changed().await;
        }
    }

    /// Stops leading and requests the release of the lease, so that other processes need not wait until it expires.
    pub async fn release(&self) {
        self.until.store(0, Ordering::Relaxed);
        let was_leading = self.phase.send_if_modified(|phase| {
            let was_leading = *phase == Phase::Leading;
            if was_leading {
                *phase = Phase::Releasing;
            }
            was_leading
        });
        if was_leading {
            let mut phase = self.phase.subscribe();
            // If it takes too long, the other processes wait for the lease to expire.
            let _ = timeout(RELEASE_TIMEOUT, phase.wait_for(|phase| *phase == Phase::Released)).await;
        }
    }

    /// For the task that renews the lease: waits until the lease must be released.
    pub async fn release_requested(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Releasing).await;
    }

    /// For the task that renews the lease: records that the lease was released.
    pub fn mark_released(&self) {
        self.phase.send_replace(Phase::Released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn leads_for_as_long_as_granted() {
        let leadership = Arc::new(Leadership::default());
        assert!(!leadership.is_leader());
        let waiting = tokio::spawn({
            let leadership = leadership.clone();
            async move { leadership.wait_until_leader().await }
        });
        leadership.extend(now() + Duration::from_millis(30));
        assert!(leadership.is_leader());
        waiting.await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert!(!leadership.is_leader());
        leadership.extend(now() + Duration::from_secs(60));
        assert!(leadership.is_leader());
    }

    #[tokio::test]
    async fn a_superseded_process_never_leads_again() {
        let leadership = Leadership::default();
        leadership.extend(now() + Duration::from_secs(60));
        leadership.step_down("another".into());
        leadership.extend(now() + Duration::from_secs(60));
        assert!(!leadership.is_leader());
        assert_eq!(leadership.superseded().await, "another");
    }

    #[tokio::test]
    async fn released_by_whoever_renews_it() {
        let leadership = Arc::new(Leadership::default());
        // No task renews the lease, so there is nothing to wait for.
        leadership.release().await;
        leadership.extend(now() + Duration::from_secs(60));
        tokio::spawn({
            let leadership = leadership.clone();
            async move {
                leadership.release_requested().await;
                assert!(!leadership.is_leader());
                leadership.mark_released();
            }
        });
        leadership.release().await;
        assert_eq!(*leadership.phase.borrow(), Phase::Released);
        leadership.extend(now() + Duration::from_secs(60));
        assert!(!leadership.is_leader());
    }
}
