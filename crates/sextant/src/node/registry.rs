//! The runs that this process drives: one task each, at most one per run.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use vantage6::{Run, RunId};

use super::Context;
use super::drive::{Signal, drive};

/// The runs under way.
pub struct Registry {
    /// What the drives need.
    pub context: Arc<Context>,
    active: Arc<Mutex<HashMap<RunId, watch::Sender<Signal>>>>,
    begun: AtomicBool,
}

impl Registry {
    /// None yet.
    pub fn new(context: Context) -> Self {
        Self { context: Arc::new(context), active: Arc::default(), begun: AtomicBool::new(false) }
    }

    /// The first look at everything is done.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn active(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<Signal>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives a run, unless it is driven already.
    pub fn adopt(&self, run: Run) {
        let id = run.id;
        let receiver = {
            let mut active = self.active();
            if active.contains_key(&id) {
                return;
            }
            let (sender, receiver) = watch::channel(Signal::default());
            active.insert(id, sender);
            receiver
        };
        let leave = Leave { id, active: self.active.clone() };
        let context = self.context.clone();
        tokio::spawn(async move {
            drive(context, run, receiver).await;
            drop(leave);
        });
    }

    /// Whether a run is driven.
    pub fn has(&self, run: RunId) -> bool {
        self.active().contains_key(&run)
    }

    /// Somebody wants these runs killed; all, if `runs` is `None`.
    pub fn kill(&self, runs: Option<&HashSet<RunId>>) {
        for (id, signal) in self.active().iter() {
            if runs.is_none_or(|runs| runs.contains(id)) {
                signal.send_modify(|signal| signal.kill = true);
            }
        }
    }

    /// The runs that are driven now.
    pub fn ids(&self) -> HashSet<RunId> {
        self.active().keys().copied().collect()
    }

    /// The server may have changed its mind about a run: its drive is to look.
    pub fn look(&self, run: RunId) {
        if let Some(signal) = self.active().get(&run) {
            signal.send_modify(|signal| signal.look = signal.look.wrapping_add(1));
        }
    }
}

/// Takes a run off the registry when its drive ends, however it ends.
struct Leave {
    id: RunId,
    active: Arc<Mutex<HashMap<RunId, watch::Sender<Signal>>>>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
