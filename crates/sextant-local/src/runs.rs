//! The states of the node's runs. Follows their supervisors until they end.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use sextant_core::run_state::{Failure, RunState};
use tokio::sync::watch;
use vantage6_types::{RunId, RunStatus};

use super::folder::Folder;
use super::process;

/// The runs of a node.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<RunId, watch::Sender<RunState>>,
    followed: HashMap<RunId, Followed>,
    follows: u64,
}

/// A run whose supervisor is followed.
#[derive(Debug)]
struct Followed {
    /// Distinguishes it from a later run with the same id.
    which: u64,
    folder: Folder,
}

impl Runs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Observes a run's state: the current one and each change.
    pub fn observe(&self, run: RunId) -> watch::Receiver<RunState> {
        self.state().sender(run).subscribe()
    }

    /// Whether anything of a run exists.
    pub fn knows(&self, run: RunId) -> bool {
        self.state().known.get(&run).is_some_and(|run_state| *run_state.borrow() != RunState::Absent)
    }

    /// Sets a run's state.
    pub fn set(&self, run: RunId, run_state: RunState) {
        self.state().sender(run).send_replace(run_state);
    }

    /// Drops a run's state if it is absent and has no observer.
    pub fn forget(&self, run: RunId) {
        let mut state = self.state();
        let is_over = |known: &watch::Sender<_>| known.receiver_count() == 0 && *known.borrow() == RunState::Absent;
        if state.known.get(&run).is_some_and(is_over) {
            state.known.remove(&run);
        }
    }

    /// Records that nothing is left of a run.
    pub fn released(&self, run: RunId) {
        let mut state = self.state();
        state.followed.remove(&run);
        // The release may concern an earlier run with this id; observers of the new one stay.
        match state.known.get(&run).filter(|known| known.receiver_count() > 0) {
            Some(known) => {
                known.send_replace(RunState::Absent);
            }
            None => {
                state.known.remove(&run);
            }
        }
    }

    /// Returns the folder of a run whose supervisor is followed, whether the folder still exists or not.
    pub fn folder(&self, run: RunId) -> Option<Folder> {
        self.state().followed.get(&run).map(|followed| followed.folder.clone())
    }

    /// Follows a run's supervisor until it ends.
    pub fn follow(&self, folder: Folder) {
        // Not in the task, so that a launched run never counts as absent.
        let which = self.begin(&folder);
        // Not in the task either: an algorithm may remove its folder.
        let supervisor = folder.read_pid().ok();
        let runs = self.clone();
        tokio::spawn(async move {
            if let Some(supervisor) = supervisor {
                process::gone(&supervisor).await;
            }
            let end = match folder.run_state() {
                RunState::Absent => RunState::Failed(removed()),
                run_state => run_state,
            };
            // Without its supervisor the algorithm would continue, and its end would go unnoticed.
            if matches!(end, RunState::Failed(_)) && runs.state().follows(folder.run, which) {
                process::stop(&folder).await;
            }
            runs.end(folder.run, which, end);
        });
    }

    fn begin(&self, folder: &Folder) -> u64 {
        let mut state = self.state();
        state.follows += 1;
        let which = state.follows;
        state.followed.insert(folder.run, Followed { which, folder: folder.clone() });
        state.sender(folder.run).send_replace(RunState::Running { since: folder.started() });
        which
    }

    /// Sets a run's final state, unless the run was released meanwhile: another run may have its id.
    fn end(&self, run: RunId, which: u64, end: RunState) {
        let mut state = self.state();
        if state.follows(run, which) {
            state.followed.remove(&run);
            state.sender(run).send_replace(end);
        }
    }
}

impl State {
    /// Whether the followed supervisor still belongs to this run, and not to a later one with the same id.
    fn follows(&self, run: RunId, which: u64) -> bool {
        self.followed.get(&run).is_some_and(|followed| followed.which == which)
    }

    fn sender(&mut self, run: RunId) -> &watch::Sender<RunState> {
        self.known.entry(run).or_insert_with(|| watch::Sender::new(RunState::Absent))
    }
}

fn removed() -> Failure {
    let message = "The folder of the run was removed while its algorithm ran, and its output with it.";
    Failure::new(RunStatus::Crashed, message, "the run's folder is gone, or the file with its supervisor's process id")
        .because("Removed")
        .started(true)
}
