//! What this process knows about each run in the cluster: the facts from the watches, the state that derives from
//! them, and the commands and outputs that node and `return` container exchange.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use sextant_core::run_state::RunState;
use sextant_core::runtime::Output;
use tokio::sync::{oneshot, watch};
use vantage6_types::{RunId, TaskId};

use crate::data_port::protocol::Command;
use crate::decisions::facts::{JobFacts, PodFacts};
use crate::decisions::run_state::run_state;

/// All runs of this node in the cluster.
#[derive(Default)]
pub struct RunIndex {
    runs: Mutex<HashMap<RunId, Entry>>,
}

struct Entry {
    job: Option<JobFacts>,
    /// Whether the watch has reported the Job. A list that began earlier may lack a Job that was just created.
    job_seen: bool,
    pod: Option<PodFacts>,
    /// A pod whose Job has not been reported yet, since the two watches are not synchronized.
    early: Option<PodFacts>,
    /// The uid of a Job that this process has created, until its pod has received its token.
    unsupplied: Option<String>,
    run_state: watch::Sender<RunState>,
    command: watch::Sender<Command>,
    collector: Option<oneshot::Sender<Output>>,
    /// Why the input is refused, if it turned out to be wrong while it was streamed.
    refusal: Option<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            job: None,
            job_seen: false,
            pod: None,
            early: None,
            unsupplied: None,
            run_state: watch::Sender::new(RunState::Absent),
            command: watch::Sender::new(Command::Wait),
            collector: None,
            refusal: None,
        }
    }
}

impl Entry {
    /// Replaces the Job. A pod and a command that belong to another Job are dropped.
    fn replace(&mut self, job: JobFacts) {
        if self.pod.as_ref().is_some_and(|pod| pod.job_uid != job.uid) {
            self.pod = None;
        }
        if self.job.as_ref().is_none_or(|old| old.uid != job.uid) {
            self.command.send_replace(Command::Wait);
            self.refusal = None;
            self.collector = None;
        }
        if let Some(early) = self.early.take_if(|early| early.job_uid == job.uid) {
            self.pod = Some(early);
        }
        let supplied = self.unsupplied.as_ref() != Some(&job.uid);
        self.job = Some(JobFacts { supplied, ..job });
        self.slim();
    }

    /// Whether the run has been reported to the server.
    fn is_reported(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.reported)
    }

    /// Drops the pods of reported Jobs, which stay for an hour and may be many. They are no longer needed.
    fn slim(&mut self) {
        if self.is_reported() {
            self.pod = None;
            self.early = None;
        }
    }

    /// Updates the state after a change of the facts, and notifies the observer if the state changed.
    fn refresh(&self) {
        let new = run_state(self.job.as_ref(), self.pod.as_ref());
        self.run_state.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }

    /// Whether nothing is known about the run and nothing observes it, so that it can be removed.
    fn idle(&self) -> bool {
        self.job.is_none()
            && self.pod.is_none()
            && self.early.is_none()
            && self.run_state.receiver_count() == 0
            && self.command.receiver_count() == 0
    }
}

impl RunIndex {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        // Every change leaves the map consistent, so a panic in another thread does no harm.
        self.runs.lock()
    }

    /// Records a Job that the watch reports as new or changed.
    pub fn job(&self, facts: JobFacts) {
        let mut runs = self.lock();
        let entry = runs.entry(facts.run).or_default();
        // Ignore an older Job: it belongs to an earlier launch, or to an earlier run, if the server reuses run IDs.
        let age = |job: &JobFacts| (job.created, job.attempt);
        if entry.job.as_ref().is_some_and(|job| job.uid != facts.uid && age(job) > age(&facts)) {
            return;
        }
        entry.replace(facts);
        entry.job_seen = true;
        entry.refresh();
    }

    /// Records a Job that this process has created or found. What the watch has reported since is newer.
    pub fn launched(&self, facts: JobFacts) {
        let mut runs = self.lock();
        let entry = runs.entry(facts.run).or_default();
        if !facts.supplied {
            entry.unsupplied = Some(facts.uid.clone());
            // The watch may have reported the Job first.
            if let Some(job) = entry.job.as_mut().filter(|job| job.uid == facts.uid) {
                job.supplied = false;
            }
        }
        if entry.job.as_ref().is_none_or(|job| job.uid != facts.uid) {
            entry.replace(facts);
            entry.job_seen = false;
            entry.refresh();
        }
    }

    /// Records that the run's pod gets its token, so its algorithm may start.
    pub fn supplied(&self, run: RunId) {
        self.change(run, |entry| {
            entry.unsupplied = None;
            if let Some(job) = &mut entry.job {
                job.supplied = true;
            }
        });
    }

    /// Records a new or changed pod.
    pub fn pod(&self, run: RunId, facts: PodFacts) {
        let mut runs = self.lock();
        let entry = runs.entry(run).or_default();
        let newer = |pod: &PodFacts| pod.job_uid == facts.job_uid || pod.created <= facts.created;
        let belongs = match &entry.job {
            Some(job) => job.uid == facts.job_uid && !job.reported,
            // The Job has not been reported yet. Of several pods, the newest may be the right one.
            None => entry.pod.as_ref().is_none_or(newer),
        };
        if belongs {
            entry.pod = Some(match &entry.pod {
                Some(before) => facts.after(before),
                None => facts,
            });
            entry.refresh();
        } else if entry.job.as_ref().is_some_and(|job| job.uid != facts.job_uid && job.created <= facts.created) {
            entry.early = Some(facts);
        }
    }

    /// Records that a Job is gone. A newer Job with the same name stays.
    pub fn job_gone(&self, run: RunId, uid: &str) {
        self.change(run, |entry| {
            if entry.job.as_ref().is_some_and(|job| job.uid == uid) {
                entry.job = None;
            }
        });
    }

    /// Records that a pod is gone. Its last facts are kept, marked as deleted, until its Job is gone too, because they show
    /// what happened to the run.
    pub fn pod_gone(&self, run: RunId, name: &str, now: Timestamp) {
        self.change(run, |entry| {
            entry.early.take_if(|early| early.name == name);
            match &mut entry.pod {
                Some(pod) if pod.name == name && entry.job.is_some() => {
                    if !pod.over {
                        pod.gone = Some(now);
                    }
                    pod.deleting = true;
                    pod.over = true;
                }
                Some(pod) if pod.name == name => entry.pod = None,
                _ => {}
            }
        });
    }

    /// Removes Jobs that a restarted watch did not list: after a complete list, they are gone.
    pub fn retain_jobs(&self, seen: &HashSet<String>) {
        for (run, uid) in self.known(|entry| entry.job.as_ref().filter(|_| entry.job_seen).map(|job| job.uid.clone())) {
            if !seen.contains(&uid) {
                self.job_gone(run, &uid);
            }
        }
    }

    /// Removes pods that a restarted watch did not list, by name.
    pub fn retain_pods(&self, seen: &HashSet<String>, now: Timestamp) {
        let name = |pod: &Option<PodFacts>| pod.as_ref().map(|pod| pod.name.clone());
        for (run, name) in
            self.known(|entry| name(&entry.pod)).into_iter().chain(self.known(|entry| name(&entry.early)))
        {
            if !seen.contains(&name) {
                self.pod_gone(run, &name, now);
            }
        }
    }

    fn known(&self, what: impl Fn(&Entry) -> Option<String>) -> Vec<(RunId, String)> {
        self.lock().iter().filter_map(|(run, entry)| Some((*run, what(entry)?))).collect()
    }

    fn change(&self, run: RunId, change: impl FnOnce(&mut Entry)) {
        let mut runs = self.lock();
        let Some(entry) = runs.get_mut(&run) else { return };
        change(entry);
        entry.refresh();
        // Facts about a pod mean nothing without its Job.
        if entry.job.is_none() && entry.pod.as_ref().is_some_and(|pod| pod.over || pod.deleting) {
            entry.pod = None;
        }
        if entry.idle() {
            runs.remove(&run);
        }
    }

    /// Whether a Job or pod of the run is known.
    pub fn knows(&self, run: RunId) -> bool {
        self.lock().get(&run).is_some_and(|entry| *entry.run_state.borrow() != RunState::Absent)
    }

    /// Observes a run's state.
    pub fn observe(&self, run: RunId) -> watch::Receiver<RunState> {
        self.lock().entry(run).or_default().run_state.subscribe()
    }

    /// Records that the run has been reported, before the watch shows it.
    pub fn reported(&self, run: RunId, uid: &str) {
        self.change(run, |entry| {
            if let Some(job) = entry.job.as_mut().filter(|job| job.uid == uid) {
                job.reported = true;
            }
            entry.slim();
        });
    }

    /// The commands for `return`.
    pub fn commands(&self, run: RunId) -> watch::Receiver<Command> {
        self.lock().entry(run).or_default().command.subscribe()
    }

    /// Tells `return` to exit.
    pub fn dismiss(&self, run: RunId) {
        if let Some(entry) = self.lock().get(&run) {
            entry.command.send_replace(Command::Exit);
        }
    }

    /// Tells `return` to upload the output, and receives it.
    pub fn collect(&self, run: RunId) -> oneshot::Receiver<Output> {
        let (sender, receiver) = oneshot::channel();
        let mut runs = self.lock();
        let entry = runs.entry(run).or_default();
        entry.collector = Some(sender);
        entry.command.send_replace(Command::Upload);
        receiver
    }

    /// Passes an output to its collector, or returns it if there is none.
    pub fn deliver(&self, run: RunId, output: Output) -> Result<(), Output> {
        match self.lock().get_mut(&run).and_then(|entry| entry.collector.take()) {
            Some(collector) => collector.send(output),
            None => Err(output),
        }
    }

    /// Records that an input turned out to be wrong while it was streamed.
    pub fn refuse(&self, run: RunId, why: String) {
        self.lock().entry(run).or_default().refusal = Some(why);
    }

    /// Why the input is refused; `None` if it is not.
    pub fn refusal(&self, run: RunId) -> Option<String> {
        self.lock().get(&run)?.refusal.clone()
    }

    /// Removes a run that nothing observes any more, if nothing else is known about it.
    pub fn forget(&self, run: RunId) {
        self.change(run, |_| {});
    }

    /// The run's Job.
    pub fn job_of(&self, run: RunId) -> Option<JobFacts> {
        self.lock().get(&run)?.job.clone()
    }

    /// The run's pod, if it exists.
    pub fn pod_of(&self, run: RunId) -> Option<PodFacts> {
        self.lock().get(&run)?.pod.clone()
    }

    /// The Jobs of reported runs whose pods still run.
    pub fn lingering(&self) -> Vec<JobFacts> {
        let runs = self.lock();
        let jobs = runs.values().filter_map(|entry| entry.job.as_ref());
        jobs.filter(|job| job.reported && job.lingers && job.failed.is_none() && !job.deleting).cloned().collect()
    }

    /// The runs whose Job is not marked as reported.
    pub fn unreported(&self) -> Vec<(TaskId, RunId)> {
        let runs = self.lock();
        runs.values()
            .filter_map(|entry| entry.job.as_ref())
            .filter(|job| !job.reported)
            .map(|job| (job.task, job.run))
            .collect()
    }
}

#[cfg(test)]
mod tests;
