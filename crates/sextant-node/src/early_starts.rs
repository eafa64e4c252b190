//! Reports the start of runs that wait for a decision, a slot or the launch gate.
//!
//! Since 4.14, a server fails all runs of a task that have not started as soon as one of them fails (`Run.patch` in
//! `server/resource/run.py`). A regular node reports the start of a run before anything else (`set_task_start_time` in
//! `node/__init__.py`). Sextant's first status report carries the start; only a waiting run needs a request of its own. Only one request
//! is in flight at a time, as in a regular node.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sextant_core::hub::{Hub, now};
use sextant_core::leadership::Leadership;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use vantage6_types::RunId;

/// A run that is launched within this time needs no separate request.
const REPORTED_AFTER: Duration = Duration::from_secs(1);

/// The pause after a failed request, because thousands of runs may wait.
const PAUSE: Duration = Duration::from_secs(5);

/// What the server knows about the start of a waiting run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing so far.
    Unreported,
    /// Unknown, because a request is in flight.
    Sending,
    /// The start at this time.
    Reported(Timestamp),
}

/// The waiting runs.
pub struct EarlyStarts {
    hub: Arc<dyn Hub>,
    leadership: Arc<Leadership>,
    starts: Mutex<HashMap<RunId, Start>>,
    /// When the start of each run is due. Runs that no longer wait are skipped.
    due: Mutex<VecDeque<(Instant, RunId)>>,
    added: Notify,
    sent: Notify,
}

impl EarlyStarts {
    /// Creates an empty set.
    pub fn new(hub: Arc<dyn Hub>, leadership: Arc<Leadership>) -> Self {
        let (starts, due) = (Mutex::default(), Mutex::default());
        Self { hub, leadership, starts, due, added: Notify::new(), sent: Notify::new() }
    }

    /// Adds a run that begins to wait.
    pub fn add(&self, run: RunId) {
        self.starts.lock().insert(run, Start::Unreported);
        self.due.lock().push_back((Instant::now() + REPORTED_AFTER, run));
        self.added.notify_one();
    }

    /// Removes a run that no longer waits, and returns the time of its start if the server has it. It is called before each report that
    /// may carry the start, so it waits for a request in flight.
    pub async fn take(&self, run: RunId) -> Option<Timestamp> {
        loop {
            let sent = self.sent.notified();
            let start = self.starts.lock().get(&run).copied();
            match start {
                Some(Start::Sending) => sent.await,
                Some(Start::Reported(at)) => {
                    self.forget(run);
                    return Some(at);
                }
                Some(Start::Unreported) | None => {
                    self.forget(run);
                    return None;
                }
            }
        }
    }

    /// Removes a run that is no longer tracked.
    pub fn forget(&self, run: RunId) {
        self.starts.lock().remove(&run);
    }

    /// Reports the starts that are due. Never returns.
    pub async fn run(&self) -> Infallible {
        loop {
            let Some((at, run)) = self.due.lock().pop_front() else {
                self.added.notified().await;
                continue;
            };
            sleep_until(at).await;
            self.leadership.wait_until_leader().await;
            if self.replace(run, Start::Unreported, Start::Sending) {
                let at = now();
                let reported = self.hub.report_start(run, at).await;
                // If it fails, the first status carries the start.
                let start = if matches!(reported, Ok(true)) { Start::Reported(at) } else { Start::Unreported };
                self.replace(run, Start::Sending, start);
                self.sent.notify_waiters();
                if reported.is_err() {
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn replace(&self, run: RunId, from: Start, to: Start) -> bool {
        self.starts.lock().get_mut(&run).filter(|start| **start == from).map(|start| *start = to).is_some()
    }
}
