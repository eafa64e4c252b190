//! The runs that this process drives: one task each, at most one per run.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use log_throttle::LogThrottle;
use sextant_core::hub::{RequestedDatabase, Run};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;
use vantage6_types::RunId;

use super::Context;
use super::drive::{Signal, drive};
use super::metrics;
use super::new_tasks::NewTasks;
use super::places::Place;
use super::turn::turn;

/// So many runs are driven at a time: each takes a few kilobytes, and the server decides how many are open. Those that are under
/// way already don't count.
pub const MOST: usize = 10_000;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It is driven.
    Driven,
    /// As many as can be are driven already: it is left to a later look.
    Full,
    /// It is another organization's.
    Foreign,
}

static FOREIGN: LogThrottle = LogThrottle::new();

/// A run that is driven.
struct Active {
    signal: watch::Sender<Signal>,
    assigned_at: Option<Timestamp>,
    /// Whether another run of the same number waits for its end.
    awaited: bool,
}

/// The runs under way.
pub struct Registry {
    /// What the drives need.
    pub context: Arc<Context>,
    active: Arc<Mutex<HashMap<RunId, Active>>>,
    /// The tasks that drive them, which end with this.
    drives: Mutex<JoinSet<()>>,
    /// The places of runs under way that have not been seen at the server yet.
    reserved: Mutex<HashMap<RunId, Option<Place>>>,
    begun: AtomicBool,
    /// How many drives have ended so far.
    ended: Arc<watch::Sender<u64>>,
    /// Runs whose drives have ended lately: a list that was begun before may still call them open.
    recent: Arc<Recent>,
    /// Runs of which there is something here and that the server has refused to show once.
    denied: Mutex<HashSet<RunId>>,
    /// Told when everything at the server is to be looked at.
    pub all: Arc<Notify>,
    /// The tasks that are to be looked at.
    pub new_tasks: NewTasks,
}

impl Registry {
    /// None yet.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            active: Arc::default(),
            drives: Mutex::default(),
            reserved: Mutex::default(),
            begun: AtomicBool::new(false),
            ended: Arc::default(),
            recent: Arc::default(),
            denied: Mutex::default(),
            all: Arc::default(),
            new_tasks: NewTasks::default(),
        }
    }

    /// What is under way already is known now: it has its places before anything else gets one.
    pub fn begin(&self, under_way: impl Iterator<Item = RunId>) {
        let place = || self.context.places.as_ref()?.try_take();
        *self.reserved() = under_way.map(|run| (run, place())).collect();
        self.begun.store(true, Ordering::Relaxed);
    }

    /// The server has been looked at: what is under way and was not seen there needs no place.
    pub fn release_reserved(&self) {
        self.reserved().clear();
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<RunId, Option<Place>>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is known what is under way.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many drives have ended so far.
    pub fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// Waits until there is less to do than could be done: until a place is free, or, where there may be any number of runs, until
    /// none is driven.
    pub async fn idle(&self) {
        let is_idle = || match &self.context.places {
            Some(places) => places.has_spare(),
            None => self.active().is_empty(),
        };
        // It can't fail: the sender is here.
        let _ = self.ended.subscribe().wait_for(|_| is_idle()).await;
    }

    fn active(&self) -> MutexGuard<'_, HashMap<RunId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server refuses to show a run of which there is something here; whether it has done so before.
    pub fn was_denied_before(&self, run: RunId) -> bool {
        !self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(run)
    }

    /// The server shows a run of which there is something here.
    pub fn is_seen(&self, run: RunId) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Whether a run is for this node's organization. A server whose numbers are used again may answer with another one's.
    pub fn is_ours(&self, run: &Run) -> bool {
        run.organization == self.context.me.organization && run.task.collaboration == self.context.me.collaboration
    }

    /// Drives a run, unless it is driven already, or not this organization's, or as many are as can be.
    pub fn adopt(&self, mut run: Run) -> Adopted {
        let id = run.id;
        if !self.is_ours(&run) {
            if let Some(times) = FOREIGN.happened() {
                warn!(run = %id, organization = %run.organization, times, "the server offers a run of another organization; it is left alone");
            }
            return Adopted::Foreign;
        }
        // What is under way already counts among the runs that may be, but does not wait for a place.
        let under_way = self.is_under_way(id);
        let mut receiver = {
            let mut active = self.active();
            if let Some(driven) = active.get_mut(&id) {
                // A server that uses a number again has deleted the run that had it: its drive will see that.
                if driven.assigned_at != run.assigned_at {
                    driven.awaited = true;
                    driven.signal.send_modify(|signal| signal.look = signal.look.wrapping_add(1));
                }
                return Adopted::Driven;
            }
            if active.len() >= MOST && !under_way {
                return Adopted::Full;
            }
            // One that has ended here lately is asked about before anything is done.
            let look = u32::from(self.recent.has(&run));
            let (signal, receiver) = watch::channel(Signal { kill: false, look });
            active.insert(id, Active { signal, assigned_at: run.assigned_at, awaited: false });
            receiver
        };
        let leave = Leave {
            id,
            assigned_at: run.assigned_at,
            active: self.active.clone(),
            ended: self.ended.clone(),
            recent: self.recent.clone(),
            all: self.all.clone(),
        };
        let context = self.context.clone();
        let place = self
            .reserved()
            .remove(&id)
            .unwrap_or_else(|| context.places.as_ref().filter(|_| under_way).and_then(|places| places.try_take()));
        let known = context.masks.known(run.task.databases.iter().map(|database| &*database.label));
        let databases = context.databases.keep(&mut run);
        // Which of the node's it gets, its log is masked by.
        run.task.databases = known.into_iter().map(RequestedDatabase::named).collect();
        let tracked = metrics::track(&context.metrics, &run, under_way);
        let mut drives = self.drives.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = drives.try_join_next() {
            if let Err(error) = ended {
                warn!("a run's task did not come to its end: {error}; the next look at all runs finds the run again");
            }
        }
        drives.spawn(async move {
            // What is under way goes on at once, with a place or without; so does what has its place already.
            let place = match place {
                None if !under_way => turn(&context, &mut run, &databases, &mut receiver).await,
                place => place,
            };
            Box::pin(drive(context, run, databases, receiver, place, tracked)).await;
            drop(leave);
        });
        Adopted::Driven
    }

    /// Whether the runtime has something of a run.
    pub fn is_under_way(&self, run: RunId) -> bool {
        self.context.runtime.knows(run)
    }

    /// Whether this very run is driven, and not one that had its number before.
    pub fn drives(&self, run: &Run) -> bool {
        self.active().get(&run.id).is_some_and(|driven| driven.assigned_at == run.assigned_at)
    }

    /// Whether a run of this number is driven.
    pub fn has(&self, run: RunId) -> bool {
        self.active().contains_key(&run)
    }

    /// Somebody wants these runs killed; all, if `runs` is `None`. Tells of how many that is new.
    pub fn kill(&self, runs: Option<&HashSet<RunId>>) -> usize {
        let active = self.active();
        let meant = active.iter().filter(|(id, _)| runs.is_none_or(|runs| runs.contains(id)));
        let is_new =
            |driven: &Active| driven.signal.send_if_modified(|signal| !std::mem::replace(&mut signal.kill, true));
        meant.filter(|(_, driven)| is_new(driven)).count()
    }

    /// The runs that are driven now.
    pub fn ids(&self) -> HashSet<RunId> {
        self.active().keys().copied().collect()
    }

    /// The server may have changed its mind about a run: its drive is to look.
    pub fn look(&self, run: RunId) {
        if let Some(driven) = self.active().get(&run) {
            driven.signal.send_modify(|signal| signal.look = signal.look.wrapping_add(1));
        }
    }
}

/// How long a list may have been on its way.
const RECENT: Duration = Duration::from_secs(600);
/// How many runs are remembered at most.
const MOST_RECENT: usize = 20_000;

/// The runs whose drives have ended lately: when they were assigned, and when they ended.
#[derive(Default)]
struct Recent(Mutex<HashMap<RunId, (Option<Timestamp>, Instant)>>);

impl Recent {
    fn add(&self, run: RunId, assigned_at: Option<Timestamp>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= MOST_RECENT {
            runs.retain(|_, (_, ended)| ended.elapsed() < RECENT);
        }
        if runs.len() >= MOST_RECENT {
            runs.clear();
        }
        runs.insert(run, (assigned_at, Instant::now()));
    }

    fn has(&self, run: &Run) -> bool {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(&run.id)
            .is_some_and(|(assigned_at, ended)| *assigned_at == run.assigned_at && ended.elapsed() < RECENT)
    }
}

/// Takes a run off the registry when its drive ends, however it ends.
struct Leave {
    id: RunId,
    assigned_at: Option<Timestamp>,
    active: Arc<Mutex<HashMap<RunId, Active>>>,
    ended: Arc<watch::Sender<u64>>,
    recent: Arc<Recent>,
    all: Arc<Notify>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.recent.add(self.id, self.assigned_at);
        let left = self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.ended.send_modify(|ended| *ended += 1);
        if left.is_some_and(|driven| driven.awaited) {
            self.all.notify_one();
        }
    }
}
