//! The runs that this process reconciles: one task each, at most one per run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log_throttle::LogThrottle;
use parking_lot::{Mutex, MutexGuard};
use sextant_core::hub::Run;
use sextant_core::run_identity::RunIdentity;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;
use vantage6_types::RunId;

use super::Context;
use super::metrics;
use super::new_tasks::NewTasks;
use super::reconciler::reconcile;
use super::signal::{self, SignalSender};
use super::slots::Slot;
use super::slots::wait_for_slot;

/// The largest number of tracked runs. Each takes a few kilobytes, and the server decides how many are open. Existing runs are tracked
/// beyond this limit.
pub const MAX_TRACKED: usize = 10_000;

/// The outcome of an attempt to track a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// The run is tracked.
    Tracked,
    /// The limit is reached. A later poll may track the run.
    Full,
    /// The run belongs to another organization.
    Foreign,
}

static FOREIGN: LogThrottle = LogThrottle::new();

/// A tracked run.
struct Active {
    signal: SignalSender,
    identity: RunIdentity,
    /// Whether another run with the same id waits for the end of this one.
    successor_waiting: bool,
}

/// The runs that this process reconciles.
pub struct Registry {
    /// What the reconcilers need.
    pub context: Arc<Context>,
    active: Arc<Mutex<HashMap<RunId, Active>>>,
    /// The tasks of the reconcilers, which are aborted when the registry is dropped.
    reconcilers: Mutex<JoinSet<()>>,
    /// The slots of existing runs that have not been seen at the server yet.
    reserved: Mutex<HashMap<RunId, Option<Slot>>>,
    started: AtomicBool,
    /// How many reconcilers have ended so far.
    ended: Arc<watch::Sender<u64>>,
    /// Runs whose reconcilers ended recently. A list that was requested earlier may still show them as open.
    recent: Arc<Recent>,
    /// Existing runs that the server has denied access to once.
    denied: Mutex<HashSet<RunId>>,
    /// Notified to request a poll of all runs.
    pub poll_requested: Arc<Notify>,
    /// Tasks whose runs must be read.
    pub new_tasks: NewTasks,
}

impl Registry {
    /// Creates an empty registry.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            active: Arc::default(),
            reconcilers: Mutex::default(),
            reserved: Mutex::default(),
            started: AtomicBool::new(false),
            ended: Arc::default(),
            recent: Arc::default(),
            denied: Mutex::default(),
            poll_requested: Arc::default(),
            new_tasks: NewTasks::default(),
        }
    }

    /// Reserves slots for the existing runs, before any other run gets one.
    pub fn start(&self, under_way: impl Iterator<Item = RunId>) {
        let slot = || self.context.slots.as_ref()?.try_acquire(None);
        *self.reserved() = under_way.map(|run| (run, slot())).collect();
        self.started.store(true, Ordering::Relaxed);
    }

    /// Releases the slots of existing runs that were not seen when the server was polled.
    pub fn release_reserved(&self) {
        self.reserved().clear();
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<RunId, Option<Slot>>> {
        self.reserved.lock()
    }

    /// Whether the existing runs are known.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// How many reconcilers have ended so far.
    pub fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Waits until the node could do more: until a slot is free or, without a limit of runs, until no run is tracked.
    pub async fn idle(&self) {
        let is_idle = || match &self.context.slots {
            Some(slots) => slots.has_free(),
            None => self.active().is_empty(),
        };
        // This can't fail, because `self` keeps the sender.
        let _ = self.ended.subscribe().wait_for(|_| is_idle()).await;
    }

    fn active(&self) -> MutexGuard<'_, HashMap<RunId, Active>> {
        self.active.lock()
    }

    /// Records that the server denies access to an existing run. Returns whether it did so before.
    pub fn was_denied_before(&self, run: RunId) -> bool {
        !self.denied.lock().insert(run)
    }

    /// Records that the server shows an existing run.
    pub fn is_seen(&self, run: RunId) {
        self.denied.lock().remove(&run);
    }

    /// Whether a run is for this node's organization. A server that reuses ids may return another one's.
    pub fn is_ours(&self, run: &Run) -> bool {
        run.organization == self.context.me.organization && run.task.collaboration == self.context.me.collaboration
    }

    /// Tracks a run, unless it is already tracked, belongs to another organization, or the limit is reached.
    pub fn track(&self, mut run: Run) -> Tracking {
        let id = run.id;
        let identity = RunIdentity::from(&run);
        if !self.is_ours(&run) {
            if let Some(times) = FOREIGN.happened() {
                warn!(run = %id, organization = %run.organization, times, "Ignoring a run of another organization, \
                    which the server lists");
            }
            return Tracking::Foreign;
        }
        // An existing run counts against the limit, but does not wait for a slot.
        let under_way = self.is_under_way(id);
        let mut receiver = {
            let mut active = self.active();
            if let Some(tracked) = active.get_mut(&id) {
                // A server that reuses an id has deleted the earlier run. Its reconciler finds out with a refresh.
                if tracked.identity != identity {
                    tracked.successor_waiting = true;
                    tracked.signal.refresh();
                }
                return Tracking::Tracked;
            }
            if active.len() >= MAX_TRACKED && !under_way {
                return Tracking::Full;
            }
            // A run that ended here recently is refreshed before anything else happens.
            let refreshes = u32::from(self.recent.has(id, identity));
            let (signal, receiver) = signal::channel(refreshes);
            active.insert(id, Active { signal, identity, successor_waiting: false });
            receiver
        };
        let context = self.context.clone();
        let guard = DeregisterGuard {
            context: context.clone(),
            id,
            identity,
            active: self.active.clone(),
            ended: self.ended.clone(),
            recent: self.recent.clone(),
            poll_requested: self.poll_requested.clone(),
        };
        let slot = self
            .reserved()
            .remove(&id)
            .unwrap_or_else(|| context.slots.as_ref().filter(|_| under_way).and_then(|slots| slots.try_acquire(None)))
            .map(|slot| slot.of_job(run.task.job));
        let databases = context.databases.keep(&mut run, &context.masks);
        let tracked = metrics::track(&context.metrics, &run, under_way);
        if !under_way && run.started_at.is_none() {
            context.early_starts.add(id);
        }
        let mut reconcilers = self.reconcilers.lock();
        while let Some(ended) = reconcilers.try_join_next() {
            if let Err(error) = ended {
                warn!("The task of a run ended early: {error}; the next poll finds the run again");
            }
        }
        reconcilers.spawn(async move {
            let context = &guard.context;
            // An existing run continues at once, with or without a slot. So does a run that already has its slot.
            let slot = match slot {
                None if !under_way => wait_for_slot(context, &mut run, &databases, &mut receiver).await,
                slot => slot,
            };
            Box::pin(reconcile(context.clone(), run, databases, receiver, slot, tracked)).await;
            drop(guard);
        });
        Tracking::Tracked
    }

    /// Whether the runtime has anything of a run.
    pub fn is_under_way(&self, run: RunId) -> bool {
        self.context.runtime.contains(run)
    }

    /// Whether this very run is tracked, rather than an earlier one with the same id.
    pub fn tracks_same(&self, run: &Run) -> bool {
        self.active().get(&run.id).is_some_and(|tracked| tracked.identity == RunIdentity::from(run))
    }

    /// Whether a run with this id is tracked.
    pub fn contains(&self, run: RunId) -> bool {
        self.active().contains_key(&run)
    }

    /// Marks runs as killed; `None` means all. Returns how many were not marked before.
    pub fn kill(&self, runs: Option<&HashSet<RunId>>) -> usize {
        let active = self.active();
        let meant = active.iter().filter(|(id, _)| runs.is_none_or(|runs| runs.contains(id)));
        meant.filter(|(_, tracked)| tracked.signal.kill()).count()
    }

    /// The ids of the tracked runs.
    pub fn ids(&self) -> HashSet<RunId> {
        self.active().keys().copied().collect()
    }

    /// Requests that a run's reconciler refreshes its view of the server.
    pub fn request_refresh(&self, run: RunId) {
        if let Some(tracked) = self.active().get(&run) {
            tracked.signal.refresh();
        }
    }
}

/// How old a server's list of open runs may be.
const RECENT: Duration = Duration::from_secs(600);
/// The largest number of remembered runs.
const MAX_RECENT: usize = 20_000;

/// The runs whose reconcilers ended recently: their identity and the time of the end.
#[derive(Default)]
struct Recent(Mutex<HashMap<RunId, (RunIdentity, Instant)>>);

impl Recent {
    fn add(&self, run: RunId, identity: RunIdentity) {
        let mut runs = self.0.lock();
        if runs.len() >= MAX_RECENT {
            runs.retain(|_, (_, ended)| ended.elapsed() < RECENT);
        }
        if runs.len() >= MAX_RECENT {
            runs.clear();
        }
        runs.insert(run, (identity, Instant::now()));
    }

    fn has(&self, run: RunId, identity: RunIdentity) -> bool {
        let runs = self.0.lock();
        runs.get(&run).is_some_and(|(known, ended)| *known == identity && ended.elapsed() < RECENT)
    }
}

/// Removes a run from the registry when its reconciler ends, even by a panic.
struct DeregisterGuard {
    context: Arc<Context>,
    id: RunId,
    identity: RunIdentity,
    active: Arc<Mutex<HashMap<RunId, Active>>>,
    ended: Arc<watch::Sender<u64>>,
    recent: Arc<Recent>,
    poll_requested: Arc<Notify>,
}

impl Drop for DeregisterGuard {
    fn drop(&mut self) {
        self.context.early_starts.forget(self.id);
        self.recent.add(self.id, self.identity);
        let left = self.active.lock().remove(&self.id);
        self.ended.send_modify(|ended| *ended += 1);
        if left.is_some_and(|tracked| tracked.successor_waiting) {
            self.poll_requested.notify_one();
        }
    }
}
