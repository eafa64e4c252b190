//! Reconciles one run: reads the server's and the runtime's view, decides on the next action and performs it, until nothing is left to do.

mod admit;
mod ending;
mod full_assignment;
mod live_log;
mod relaunch;
mod retry_report;
mod server_view;

#[cfg(test)]
pub(crate) use self::admit::VERIFICATION_TIMEOUT;
use self::admit::{HELD, HELD_AGAIN};

use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use jiff::Timestamp;
use log_throttle::LogThrottle;
use printable::excerpt;
use sextant_core::assignment::Assignment;
use sextant_core::gate::Gate;
use sextant_core::hub::{Run, now};
use sextant_core::next_action::{Action, ServerView, next_action};
use sextant_core::run_identity::RunIdentity;
use sextant_core::run_state::{Failure, RunState};
use sextant_core::runtime::LaunchError;
use sextant_metrics::{Stage, TrackedRun};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use vantage6_types::RunStatus;

use super::database_parameters::Databases;
use super::live_log::{AtServer, Follower};
use super::pending::{LOG_AFTER, PendingDiagnosis, log_pull_duration};
use super::report::HeldLog;
use super::run_inputs::RunInput;
use super::signal::SignalReceiver;
use super::slots::Slot;
use super::{Context, metrics};

/// How long fetching a token ahead of time may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an admission stays valid.
const ADMISSION_VALID_FOR: Duration = Duration::from_secs(10);
/// The pauses after failures.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(64) };
/// After this time without a failure, the pauses start from the shortest one.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// The age of the server's view of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerViewAge {
    /// As in the server's last answer.
    Fresh,
    /// Stale: a refresh was requested, and the server has not answered yet.
    Stale,
}

/// The current action was abandoned because something changed or failed. The reconciler decides again.
struct Interrupted;

/// How a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// The state, the signal or the gate changed.
    Interrupted,
    Elapsed,
}

/// What blocks a run. Each run logs each kind once. Repetitions of all runs together are logged once a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Server,
    Verification,
    FirstTask,
    Launch,
    Output,
    Report,
    Marking,
}

impl Obstacle {
    const COUNT: usize = Self::Marking as usize + 1;
}

/// The reconciler of one run.
struct RunReconciler {
    context: Arc<Context>,
    /// The run's metrics.
    tracked: TrackedRun,
    run: Run,
    assignment: Assignment,
    /// The task's database parameters, kept until the launch.
    databases: Databases,
    server: ServerView,
    run_state: watch::Receiver<RunState>,
    signal: SignalReceiver,
    gate: watch::Receiver<Gate>,
    /// How many of the signal's refreshes have been done.
    refreshes: u32,
    /// Why the run's inline input can't be read.
    bad_input: Option<String>,
    /// Whether the server's view is newer than the last request to refresh it.
    view: ServerViewAge,
    /// How often the server has denied access to a run that its list lacks.
    denied: u32,
    /// The run's slot, which limits the number of concurrent runs.
    slot: Option<Slot>,
    /// Whether this process has admitted the run.
    admitted: bool,
    /// Since when the image can't be verified, because a registry or a store is unavailable.
    unverified_since: Option<Instant>,
    failures: u32,
    /// How often the server has failed to accept a report with a result.
    failed_result_reports: u32,
    /// The failure that has been logged.
    logged_failure: Option<Failure>,
    /// Whether the launch was logged.
    logged_start: bool,
    /// The obstacles that have been logged.
    logged_obstacles: Vec<Obstacle>,
    /// When the last failure occurred.
    failed_at: Option<Instant>,
    /// The log of a stopped run. The pod may be gone before the server accepts the report.
    log: Option<HeldLog>,
    /// Sends the log while the run is active.
    live_log: Option<Follower>,
    /// What the server has of the log.
    log_at_server: AtServer,
    /// Whether this process has seen all of the run's objects created.
    launched_fully: bool,
    /// Why this process could not create the objects of a run that was launched before. If the run does not start, this is the reason.
    refused: Option<Failure>,
    /// Why the run does not start.
    pending: PendingDiagnosis,
}

/// Reconciles a run until its end.
pub async fn reconcile(
    context: Arc<Context>,
    mut run: Run,
    databases: Databases,
    signal: SignalReceiver,
    slot: Option<Slot>,
    tracked: TrackedRun,
) {
    let id = run.id;
    let (input, bad_input) = match run.input.take() {
        Some(input) => match context.hub.read_input(&input).await {
            Ok(input) => (Some(input), None),
            Err(error) => (None, Some(error.to_string())),
        },
        None => (None, None),
    };
    let inputs = RunInput {
        task: run.task.id,
        image: run.task.image.clone(),
        identity: RunIdentity::from(&run),
        input,
        token: None,
        patience: context.limits.pending,
    };
    let run_state = context.runtime.observe(id);
    let mut reconciler = RunReconciler {
        run_state,
        bad_input,
        assignment: Assignment::from(&run),
        databases,
        server: ServerView {
            finished: run.finished_at.is_some(),
            status: run.status.clone(),
            launched: false,
            kill: false,
            late: false,
            verdict: None,
        },
        signal,
        gate: context.runtime.gate(),
        refreshes: 0,
        view: ServerViewAge::Fresh,
        denied: 0,
        slot,
        admitted: false,
        unverified_since: None,
        failures: 0,
        failed_result_reports: 0,
        logged_failure: None,
        logged_start: false,
        logged_obstacles: Vec::new(),
        failed_at: None,
        log: None,
        live_log: None,
        log_at_server: AtServer::Unknown,
        launched_fully: false,
        refused: None,
        pending: PendingDiagnosis::default(),
        context: context.clone(),
        tracked,
        run,
    };
    reconciler.release_stale().await;
    // Not earlier, because a stale pod of another run with this id may request its input.
    context.run_inputs.add(id, inputs);
    reconciler.run().await;
    // No receiver of the run's state is left now.
    drop(reconciler);
    context.runtime.unsubscribe(id);
    context.run_inputs.remove(id);
}

impl RunReconciler {
    /// Releases a stale Job of another run with this id.
    async fn release_stale(&mut self) {
        while self.context.runtime.has_stale_job(&self.assignment) {
            self.context.leadership.wait_until_leader().await;
            info!(run = %self.run.id, "Cleaning up an earlier run with this id, which was deleted at the server");
            if let Err(error) = self.context.runtime.release(self.run.id, &RunStatus::UnknownError).await {
                // The release may never succeed, so another run gets the slot meanwhile.
                self.slot = None;
                self.back_off(Obstacle::Server, &error.to_string()).await;
            }
        }
    }

    async fn run(&mut self) {
        loop {
            // Another process of this node may act during the wait, so the state is read afterwards.
            self.context.leadership.wait_until_leader().await;
            let signal = self.signal.see();
            if signal.refreshes != self.refreshes {
                self.refresh_if_requested(signal.refreshes).await;
            }
            // The server itself marks the runs to kill, so a missed event does no harm.
            self.server.kill = signal.kill || self.server.status == RunStatus::Killed;
            let run_state = self.run_state.borrow().clone();
            let now = Timestamp::now();
            // Complete a launch that was interrupted, in this process or an earlier one. Launching twice is harmless.
            if matches!(run_state, RunState::Starting(_))
                && !self.launched_fully
                && !self.server.finished
                && !self.server.kill
                && self.server.verdict.is_none()
                && self.is_gate_open()
            {
                let _ = self.start(true).await;
            }
            let run_state = self.run_state.borrow_and_update().clone();
            let run_state = self.pending.refine(run_state, now);
            if self.pending.has_pulled(&run_state) {
                tokio::spawn(log_pull_duration(self.context.clone(), self.run.id, self.assignment.image.clone()));
            }
            self.tracked.enter(metrics::stage(&self.server, &run_state));
            let action = next_action(&self.server, &run_state, &self.context.limits, &self.assignment.image, now);
            self.mind_live_log(&run_state, &action);
            match action {
                // A final status may be reported whatever the server's view is, but a launch needs the server's confirmation.
                Action::Launch | Action::Relaunch(_) if self.view == ServerViewAge::Stale => {
                    let _ = self.confirm_open().await;
                }
                Action::Wait { .. } if signal.refreshes != self.refreshes => {
                    self.back_off(Obstacle::Server, "the server does not say whether the run is still open").await;
                }
                Action::Launch => {
                    let _ = self.launch().await;
                }
                Action::ReportStatus(status) => self.report_status(status).await,
                Action::Wait { until } => {
                    // Everything that was due has been done.
                    if self.launched_fully || !matches!(run_state, RunState::Starting(_)) {
                        self.failures = 0;
                    }
                    self.wait(&run_state, until.map(|until| until.duration_since(now))).await;
                }
                Action::Collect(exit) => self.collect(&exit).await,
                Action::Stop(failure) => self.stop(failure).await,
                Action::Report(failure) => {
                    self.report_failure(&failure).await;
                }
                Action::Relaunch(failure) => {
                    let _ = self.relaunch(&failure).await;
                }
                Action::Release if !self.context.leadership.is_leader() => {}
                Action::Release => match self.context.runtime.release(self.run.id, &self.server.status).await {
                    Ok(()) => return,
                    Err(error) => {
                        // The run has been reported. Of an ended run, only the removal is left, which may never succeed.
                        if matches!(run_state, RunState::Ended(_) | RunState::Failed(_)) {
                            self.slot = None;
                        }
                        self.back_off(Obstacle::Marking, &format!("the run could not be released: {error}")).await;
                    }
                },
                Action::Done if self.server.finished => return,
                Action::Done => self.handle_reused_id().await,
            }
        }
    }

    /// Admits the run, waits for its slot and the launch gate, and launches it.
    async fn launch(&mut self) -> Result<(), Interrupted> {
        let mut held = HELD;
        loop {
            Box::pin(self.admit(held)).await?;
            let admitted = Instant::now();
            self.wait_for_slot().await?;
            self.pass_gate().await?;
            // The waits may have taken hours, and the server's data about the task's creators may have changed.
            if admitted.elapsed() <= ADMISSION_VALID_FOR {
                break;
            }
            // The run was admitted, so from now on it keeps its slot while a registry or store is only slow.
            held = HELD_AGAIN;
        }
        // The run started before, maybe long ago, and nothing of it exists here, so the server decides.
        if self.run.started_at.is_some() {
            self.confirm_open().await?;
        }
        // The launch may be tried many times, but is logged once.
        if !std::mem::replace(&mut self.logged_start, true) {
            let image = self.assignment.image_to_run();
            info!(run = %self.run.id, task = %self.run.task.id, image = excerpt(&image), "Launching run");
            self.context.metrics.admitted();
        }
        self.tracked.enter(Stage::Launching);
        self.start(false).await
    }

    /// Has the runtime create the run's objects. The server is told afterwards: creating them is harmless, and the objects of a run that
    /// has ended meanwhile are released.
    async fn start(&mut self, again: bool) -> Result<(), Interrupted> {
        self.learn_first_task().await?;
        if !self.context.leadership.is_leader() {
            return Err(Interrupted);
        }
        let context = self.context.clone();
        let full = self.full_assignment().await?;
        let launch = async {
            match again && !self.admitted {
                true => context.runtime.complete_launch(&full.assignment).await,
                false => context.runtime.launch(&full.assignment).await,
            }
        };
        let (launched, _) = tokio::join!(launch, timeout(TOKEN_TIMEOUT, context.run_inputs.fetch_token(self.run.id)),);
        drop(full);
        self.server.launched |= launched.is_ok();
        match launched {
            Ok(()) => {
                self.launched_fully = true;
                self.databases.launched();
                self.pending.capacity_available();
            }
            // An existing Job continues, whatever the configuration says now.
            Err(LaunchError::Failed(failure)) if again => {
                warn!(run = %self.run.id, "Run was launched before, and could not be launched now: {}", failure.detail);
                self.launched_fully = true;
                self.refused = Some(failure);
            }
            Err(LaunchError::Later(why)) => self.back_off(Obstacle::Launch, &why).await,
            Err(LaunchError::Full(failure)) => self.wait_for_capacity(&failure).await,
            Err(LaunchError::Failed(failure)) => {
                self.report_failure(&failure).await;
            }
        }
        Ok(())
    }

    /// Finds the first task of the run's job if the job's shared folder is named after it. Only subtasks cost a request, and subtasks
    /// with the same parent share one for a short time.
    async fn learn_first_task(&mut self) -> Result<(), Interrupted> {
        if self.run.task.parent.is_none() || !self.context.shares_tmp {
            return Ok(());
        }
        match self.context.origins.first(&self.run.task).await {
            Ok(first) => {
                self.assignment.first = first;
                Ok(())
            }
            Err(error) => {
                self.back_off(Obstacle::FirstTask, &format!("the first task of the run's job is not known: {error}"))
                    .await;
                Err(Interrupted)
            }
        }
    }

    /// Waits for a slot.
    async fn wait_for_slot(&mut self) -> Result<(), Interrupted> {
        let Some(slots) = self.context.slots.clone() else { return Ok(()) };
        if self.slot.is_none() {
            tokio::select! {
                slot = slots.acquire(self.run.id, self.run.task.job) => self.slot = Some(slot),
                _ = self.signal.changed() => return Err(Interrupted),
                _ = self.run_state.changed() => return Err(Interrupted),
            }
        }
        Ok(())
    }

    fn is_gate_open(&mut self) -> bool {
        *self.gate.borrow_and_update() == Gate::Open
    }

    /// Waits until the launch gate is open.
    async fn pass_gate(&mut self) -> Result<(), Interrupted> {
        let log_at = Instant::now() + LOG_AFTER;
        while !self.is_gate_open() {
            if Instant::now() >= log_at {
                self.pending.note_gate(self.run.id, &self.gate.borrow());
            }
            tokio::select! {
                () = sleep_until(log_at), if Instant::now() < log_at => {}
                // The sender lives as long as the process. Should it end, the process ends too.
                open = self.gate.changed() => if open.is_err() { return std::future::pending().await },
                _ = self.signal.changed() => return Err(Interrupted),
                _ = self.run_state.changed() => return Err(Interrupted),
            }
        }
        Ok(())
    }

    /// Finds out whether the server already has the run's start. Called before each report that may carry it.
    async fn learn_start(&mut self) {
        if self.run.started_at.is_none() {
            self.run.started_at = self.context.early_starts.take(self.run.id).await;
        }
    }

    async fn report_status(&mut self, status: RunStatus) {
        if !self.context.leadership.is_leader() {
            return;
        }
        // This status empties the log at the server, so no live log event may arrive after it.
        self.end_live_log().await;
        self.learn_start().await;
        let begins = self.run.started_at.is_none().then(now);
        match self.context.hub.set_status(self.run.id, &status, begins).await {
            Ok(()) => {
                self.run.started_at = self.run.started_at.or(begins);
                self.log_at_server = AtServer::Nothing;
                self.context.status_publisher.status(&self.run, &status).await;
                self.server.status = status;
            }
            Err(error) => self.on_rejected(&error).await,
        }
    }

    /// Waits for a change, or for a time. Meanwhile diagnoses a run that does not start. An incomplete launch also waits for the gate.
    async fn wait(&mut self, run_state: &RunState, time: Option<jiff::SignedDuration>) {
        let at_the_gate = !self.launched_fully && matches!(run_state, RunState::Starting(_)) && !self.is_gate_open();
        let max_wait = self.pending.max_wait(run_state);
        let mut time = time.and_then(|time| Duration::try_from(time).ok()).map_or(max_wait, |time| time.min(max_wait));
        // A short wait is not worth a log line.
        if let Some(log_at) = self.pending.log(self.run.id, run_state)
            && log_at < time
        {
            if self.pause(log_at, at_the_gate).await == Pause::Interrupted {
                return;
            }
            self.pending.log(self.run.id, run_state);
            time -= log_at;
        }
        if self.pause(time, at_the_gate).await == Pause::Interrupted || !matches!(run_state, RunState::Starting(_)) {
            return;
        }
        // The answer may take long if many runs ask at once.
        let (runtime, image) = (self.context.runtime.as_ref(), &self.assignment.image);
        let found = tokio::select! {
            found = self.pending.diagnose(runtime, self.run.id, image, run_state) => found,
            _ = self.run_state.changed() => return,
            _ = self.signal.changed() => return,
        };
        if let Some(failure) = found {
            self.stop(failure).await;
        }
    }

    /// Waits for this time, or until something changes.
    async fn pause(&mut self, time: Duration, at_the_gate: bool) -> Pause {
        let change = async {
            tokio::select! {
                _ = self.run_state.changed() => {}
                _ = self.signal.changed() => {}
                _ = self.gate.changed(), if at_the_gate => {}
            }
        };
        timeout(time, change).await.map_or(Pause::Elapsed, |()| Pause::Interrupted)
    }

    /// Pauses after a failure that may pass, longer each time, unless something changes.
    async fn back_off(&mut self, obstacle: Obstacle, why: &str) {
        // An old failure has nothing to do with this one.
        if self.failed_at.is_some_and(|at| at.elapsed() > FAILURES_FORGOTTEN_AFTER) {
            self.failures = 0;
        }
        self.failures += 1;
        let pause = PAUSES.random(self.failures);
        // The text is the server's or the cluster's and may differ each time, so the obstacle decides what is a repetition.
        static AGAIN: [LogThrottle; Obstacle::COUNT] = [const { LogThrottle::new() }; Obstacle::COUNT];
        let times =
            if self.logged_obstacles.contains(&obstacle) { AGAIN[obstacle as usize].happened() } else { Some(1) };
        if let Some(times) = times {
            warn!(run = %self.run.id, times, "Run is retried: {why}; next attempt in {} s", pause.as_secs().max(1));
        }
        if !self.logged_obstacles.contains(&obstacle) {
            self.logged_obstacles.push(obstacle);
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.signal.changed() => {}
            _ = self.run_state.changed() => {}
        }
        self.failed_at = Some(Instant::now());
    }
}
