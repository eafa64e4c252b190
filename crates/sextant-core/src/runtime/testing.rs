//! A runtime in memory, whose runs behave as a test specifies.

#![allow(clippy::disallowed_types, reason = "only tests use it, without another dependency")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, stream};

use super::*;
use crate::hub::testing::Journal;
use crate::run_identity::RunIdentity;
use crate::tail::Bounds;

/// The results of the next launches.
type Launches = Box<dyn FnMut() -> Result<(), LaunchError> + Send>;

/// What happens just before a launch is completed.
type OnComplete = Box<dyn FnOnce(&FakeRuntime) + Send>;

/// A runtime in memory.
pub struct FakeRuntime {
    journal: Journal,
    gate: watch::Sender<Gate>,
    runs: Mutex<HashMap<RunId, watch::Sender<RunState>>>,
    /// The identities of the runs, where a test has set them.
    owners: Mutex<HashMap<RunId, RunIdentity>>,
    launches: Mutex<Launches>,
    launched: Mutex<Vec<Assignment>>,
    on_log: Mutex<Box<dyn FnMut() + Send>>,
    on_complete: Mutex<Option<OnComplete>>,
    stops: Mutex<bool>,
    releases: Mutex<bool>,
    issue: Mutex<Option<PodIssue>>,
    log: Mutex<Vec<u8>>,
    /// What algorithms have printed so far, and what happens while somebody reads it.
    live: watch::Sender<HashMap<RunId, Vec<u8>>>,
    followers: Arc<()>,
    output: Mutex<Bytes>,
}

impl FakeRuntime {
    /// Creates an empty runtime with an open gate.
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            gate: watch::Sender::new(Gate::Open),
            runs: Mutex::default(),
            owners: Mutex::default(),
            launches: Mutex::new(Box::new(|| Ok(()))),
            launched: Mutex::default(),
            on_log: Mutex::new(Box::new(|| {})),
            on_complete: Mutex::default(),
            stops: Mutex::new(true),
            releases: Mutex::new(true),
            issue: Mutex::new(None),
            log: Mutex::new(b"the algorithm's words\n".to_vec()),
            output: Mutex::new(Bytes::from_static(b"result")),
            live: watch::Sender::default(),
            followers: Arc::default(),
        }
    }

    /// Sets the state of a run.
    pub fn set(&self, run: RunId, run_state: RunState) {
        self.sender(run).send_replace(run_state);
    }

    /// Adds a run that an earlier process has left in this state.
    pub fn leave(&self, assignment: &Assignment, run_state: RunState) {
        self.owners.lock().unwrap().insert(assignment.run, assignment.identity);
        self.set(assignment.run, run_state);
    }

    /// Sets whether runs may be launched.
    pub fn turn_gate(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    /// Sets the results of launches.
    pub fn launches(&self, result: impl FnMut() -> Result<(), LaunchError> + Send + 'static) {
        *self.launches.lock().unwrap() = Box::new(result);
    }

    /// The runs that were launched, including failed launches.
    pub fn launched(&self) -> Vec<Assignment> {
        self.launched.lock().unwrap().clone()
    }

    /// Sets what happens just before the next launch is completed.
    pub fn on_complete(&self, happens: impl FnOnce(&Self) + Send + 'static) {
        *self.on_complete.lock().unwrap() = Some(Box::new(happens));
    }

    /// Sets what happens while a log is being read.
    pub fn on_log(&self, happens: impl FnMut() + Send + 'static) {
        *self.on_log.lock().unwrap() = Box::new(happens);
    }

    /// Sets the log of algorithms.
    pub fn prints(&self, text: &[u8]) {
        *self.log.lock().unwrap() = text.to_vec();
    }

    /// An algorithm prints something more.
    pub fn prints_live(&self, run: RunId, text: &[u8]) {
        self.live.send_modify(|logs| logs.entry(run).or_default().extend_from_slice(text));
    }

    /// How many logs are followed at this moment.
    pub fn followed(&self) -> usize {
        Arc::strong_count(&self.followers) - 1
    }

    /// Sets the issue of runs that do not start.
    pub fn reports_issue(&self, issue: PodIssue) {
        *self.issue.lock().unwrap() = Some(issue);
    }

    /// Sets the output of algorithms.
    pub fn writes(&self, output: impl Into<Bytes>) {
        *self.output.lock().unwrap() = output.into();
    }

    /// Sets whether runs can be stopped.
    pub fn stops(&self, stops: bool) {
        *self.stops.lock().unwrap() = stops;
    }

    /// Sets whether runs can be released.
    pub fn releases(&self, releases: bool) {
        *self.releases.lock().unwrap() = releases;
    }

    fn sender(&self, run: RunId) -> watch::Sender<RunState> {
        let mut runs = self.runs.lock().unwrap();
        runs.entry(run).or_insert_with(|| watch::Sender::new(RunState::Absent)).clone()
    }
}

#[async_trait::async_trait]
impl Runtime for FakeRuntime {
    async fn list_existing(&self) -> Vec<(TaskId, RunId)> {
        self.unreported()
    }

    fn unreported(&self) -> Vec<(TaskId, RunId)> {
        let runs = self.runs.lock().unwrap();
        let there =
            runs.iter().filter(|(_, run_state)| !matches!(*run_state.borrow(), RunState::Absent | RunState::Released));
        there.map(|(run, _)| (TaskId(run.0 * 10), *run)).collect()
    }

    fn has_stale_job(&self, assignment: &Assignment) -> bool {
        let run_state = self.sender(assignment.run).borrow().clone();
        let owner = self.owners.lock().unwrap().get(&assignment.run).copied();
        !matches!(run_state, RunState::Absent | RunState::Released)
            && owner.is_some_and(|owner| owner != assignment.identity)
    }

    fn observe(&self, run: RunId) -> watch::Receiver<RunState> {
        self.sender(run).subscribe()
    }

    fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        self.journal.add("launch", assignment.run);
        self.launched.lock().unwrap().push(assignment.clone());
        self.owners.lock().unwrap().insert(assignment.run, assignment.identity);
        let launched = (self.launches.lock().unwrap())();
        // As in a real runtime, the entry of a released run now belongs to the new run.
        if launched.is_ok() && *self.sender(assignment.run).borrow() == RunState::Released {
            self.set(assignment.run, RunState::Running { since: None });
        }
        launched
    }

    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError> {
        self.journal.add("collect", run);
        let output = self.output.lock().unwrap().clone();
        let length = output.len() as u64;
        let bytes = stream::iter([Ok(output)]).boxed();
        let (taken, _) = oneshot::channel();
        Ok(Output { upload: Upload { length, bytes, problem: None }, taken })
    }

    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError> {
        self.journal.add("log", run);
        (self.on_log.lock().unwrap())();
        let mut tail = Tail::new(Bounds::LOG);
        tail.push(&self.log.lock().unwrap());
        Ok(tail)
    }

    fn follow_log(&self, run: RunId) -> BoxStream<'static, LogPart> {
        self.journal.add("follow", run);
        let begin = (self.live.subscribe(), self.followers.clone(), 0);
        stream::unfold(begin, move |(mut live, follower, read)| async move {
            let there = |logs: &HashMap<RunId, Vec<u8>>| logs.get(&run).is_some_and(|log| log.len() > read);
            let mut bytes = Bytes::copy_from_slice(&live.wait_for(there).await.ok()?.get(&run)?[read..]);
            bytes.truncate(16 * 1024);
            let read = read + bytes.len();
            Some((LogPart { bytes, at: None, after_gap: false }, (live, follower, read)))
        })
        .boxed()
    }

    async fn why_pending(&self, run: RunId, _image: &str) -> Option<PodIssue> {
        self.journal.add("explain", run);
        self.issue.lock().unwrap().clone()
    }

    async fn make_room(&self) {
        self.journal.add("make room", RunId(0));
    }

    async fn complete_launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        let happens = self.on_complete.lock().unwrap().take();
        if let Some(happens) = happens {
            happens(self);
        }
        if *self.sender(assignment.run).borrow() == RunState::Absent {
            return Err(LaunchError::Later("there is nothing of it any more".into()));
        }
        self.launch(assignment).await
    }

    async fn relaunch(&self, assignment: &Assignment, _: Disruption) -> Result<(), LaunchError> {
        self.journal.add("relaunch", assignment.run);
        self.launched.lock().unwrap().push(assignment.clone());
        self.set(assignment.run, RunState::Running { since: None });
        Ok(())
    }

    fn record_event(&self, _: RunId, _: &'static str, _: String) {}

    fn contains(&self, run: RunId) -> bool {
        *self.sender(run).borrow() != RunState::Absent
    }

    fn unsubscribe(&self, _: RunId) {}

    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError> {
        self.journal.add("stop", run);
        if !*self.stops.lock().unwrap() {
            return Err(RuntimeError("the API server is away".into()));
        }
        self.set(run, RunState::Failed(why.clone()));
        Ok(())
    }

    async fn release(&self, run: RunId, _: &RunStatus) -> Result<(), RuntimeError> {
        self.journal.add("release", run);
        if !*self.releases.lock().unwrap() {
            return Err(RuntimeError("its folder can't be removed".into()));
        }
        self.set(run, RunState::Released);
        Ok(())
    }
}
