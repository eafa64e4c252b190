//! The life of one run: read the server's and the runtime's view, decide, do that action; until nothing is
//! left to be done.

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
use super::slots::Slot;
use super::{Context, metrics};

/// How long fetching a token ahead of time may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long an admission is good.
const ADMISSION_VALID_FOR: Duration = Duration::from_secs(10);
/// The pauses after failures.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(64) };
/// After this long without a failure the pauses start from the shortest one.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// What others have to say to a reconciler.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signal {
    /// Somebody wants the run killed.
    pub kill: bool,
    /// Counts the requests to refresh the server's view of the run.
    pub refreshes: u32,
}

/// What is known of a run at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerViewAge {
    /// What the server said when it was last asked.
    Fresh,
    /// Stale: a refresh was requested, and the server has not answered yet.
    Stale,
}

/// The current action is abandoned: something changed or failed meanwhile, so the next action is decided again.
struct Interrupted;

/// How a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Something changed.
    Interrupted,
    Elapsed,
}

/// What blocks a run. Each run logs each kind once; repetitions of all runs together are logged once a minute.
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
    /// Its metrics.
    tracked: TrackedRun,
    run: Run,
    assignment: Assignment,
    /// What its task says of databases, until it is launched.
    databases: Databases,
    server: ServerView,
    run_state: watch::Receiver<RunState>,
    signal: watch::Receiver<Signal>,
    gate: watch::Receiver<Gate>,
    /// How many of the signal's looks were taken.
    refreshes: u32,
    /// Why its inline input can't be read.
    bad_input: Option<String>,
    /// Whether the server's view is newer than the last request to refresh it.
    view: ServerViewAge,
    /// How often the server has refused to show a run that its list lacks.
    denied: u32,
    /// Its slot, which limits the number of concurrent runs.
    slot: Option<Slot>,
    /// Whether this process has let it in.
    admitted: bool,
    /// Since when somebody who must be asked about its image is away.
    unverified_since: Option<Instant>,
    failures: u32,
    /// How often the server has failed at a report with the result.
    failed_result_reports: u32,
    /// The end that was logged.
    logged_failure: Option<Failure>,
    /// Whether the launch was logged.
    logged_start: bool,
    /// The wait that was logged last.
    logged_obstacles: Vec<Obstacle>,
    /// When something last went wrong.
    failed_at: Option<Instant>,
    /// The log of a run that was stopped: its pod may be gone before the server takes the report.
    log: Option<HeldLog>,
    /// Sends its log while it runs.
    live_log: Option<Follower>,
    /// What the server has of the log.
    log_at_server: AtServer,
    /// Whether this process has seen all of the run's things made.
    launched_fully: bool,
    /// Why they could not be, in this process, of a run that had been launched before: the reason why it does not start, if it doesn't.
    refused: Option<Failure>,
    /// What is known of its not starting.
    pending: PendingDiagnosis,
}

/// Drives a run to its end.
pub async fn reconcile(
    context: Arc<Context>,
    mut run: Run,
    databases: Databases,
    signal: watch::Receiver<Signal>,
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
    // Not before: what is left of another run of this number may ask for its input.
    context.run_inputs.add(id, inputs);
    reconciler.run().await;
    // Nobody observes the run any more.
    drop(reconciler);
    context.runtime.unsubscribe(id);
    context.run_inputs.remove(id);
}

impl RunReconciler {
    /// Ends what is left of another run of this number.
    async fn release_stale(&mut self) {
        while self.context.runtime.has_stale_job(&self.assignment) {
            self.context.leadership.wait_until_leader().await;
            info!(run = %self.run.id, "Cleaning up an earlier run with this id, which was deleted at the server");
            if let Err(error) = self.context.runtime.release(self.run.id, &RunStatus::UnknownError).await {
                // That may never succeed: meanwhile the slot is another run's.
                self.slot = None;
                self.back_off(Obstacle::Server, &error.to_string()).await;
            }
        }
    }

    async fn run(&mut self) {
        loop {
            // Another process of this node may act meanwhile: the state is read afterwards.
            self.context.leadership.wait_until_leader().await;
            let signal = *self.signal.borrow_and_update();
            if signal.refreshes != self.refreshes {
                self.refresh_if_requested(signal.refreshes).await;
            }
            // The server itself marks the runs to kill, so a missed event does no harm.
            self.server.kill = signal.kill || self.server.status == RunStatus::Killed;
            let run_state = self.run_state.borrow().clone();
            let now = Timestamp::now();
            // A launch that was cut off, in this process or an earlier one, is made whole: it is harmless to launch twice.
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
                // An end can be reported whatever the server says of the run; nothing is launched without its confirmation.
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
                    // All that was due has been done.
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
                        // It is reported: of what has ended, only the removal is left, which may never succeed.
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

    /// Lets the run in, and has the runtime make its things.
    async fn launch(&mut self) -> Result<(), Interrupted> {
        let mut held = HELD;
        loop {
            Box::pin(self.admit(held)).await?;
            let admitted = Instant::now();
            self.wait_for_slot().await?;
            self.pass_gate().await?;
            // They may have taken hours, and what the server says of the task's owners may be another thing now.
            if admitted.elapsed() <= ADMISSION_VALID_FOR {
                break;
            }
            // It was admitted, so from now on it keeps its slot while those who are asked are merely slow.
            held = HELD_AGAIN;
        }
        // It started before, maybe long ago, and nothing of it exists here: the server decides.
        if self.run.started_at.is_some() {
            self.confirm_open().await?;
        }
        // It may be tried many times.
        if !std::mem::replace(&mut self.logged_start, true) {
            let image = self.assignment.image_to_run();
            info!(run = %self.run.id, task = %self.run.task.id, image = excerpt(&image), "Launching run");
            self.context.metrics.admitted();
        }
        self.tracked.enter(Stage::Launching);
        self.start(false).await
    }

    /// Has the runtime make the run's things. The server hears of it afterwards: making them is harmless, and those of a run that
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

    /// Learns the first task of the run's job, where that names a folder. Only subtasks cost a request, and those of one parent one a
    /// minute.
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

    /// Waits until runs may be launched.
    async fn pass_gate(&mut self) -> Result<(), Interrupted> {
        let log_at = Instant::now() + LOG_AFTER;
        while !self.is_gate_open() {
            if Instant::now() >= log_at {
                self.pending.note_gate(self.run.id, &self.gate.borrow());
            }
            tokio::select! {
                () = sleep_until(log_at), if Instant::now() < log_at => {}
                // It can't fail while the process lives: the end of the gate's task is the process's.
                open = self.gate.changed() => if open.is_err() { return std::future::pending().await },
                _ = self.signal.changed() => return Err(Interrupted),
                _ = self.run_state.changed() => return Err(Interrupted),
            }
        }
        Ok(())
    }

    /// Learns whether the server knows of the start. Called before each report that may carry it.
    async fn learn_start(&mut self) {
        if self.run.started_at.is_none() {
            self.run.started_at = self.context.early_starts.take(self.run.id).await;
        }
    }

    async fn report_status(&mut self, status: RunStatus) {
        if !self.context.leadership.is_leader() {
            return;
        }
        // What it sends must not arrive after this, which empties the log at the server.
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

    /// Waits for a change, or for a time. A run that does not start is looked after meanwhile, and what of it is not made yet
    /// waits for the gate.
    async fn wait(&mut self, run_state: &RunState, time: Option<jiff::SignedDuration>) {
        let at_the_gate = !self.launched_fully && matches!(run_state, RunState::Starting(_)) && !self.is_gate_open();
        let max_wait = self.pending.max_wait(run_state);
        let mut time = time.and_then(|time| Duration::try_from(time).ok()).map_or(max_wait, |time| time.min(max_wait));
        // What passes soon is not worth a line.
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
        // The answer may take long, of many that ask at once.
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

    /// Waits for this long, or until something changes.
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

    /// Something did not work and may work later: pauses, longer each time, unless something changes.
    async fn back_off(&mut self, obstacle: Obstacle, why: &str) {
        // What went wrong long ago has nothing to do with this.
        if self.failed_at.is_some_and(|at| at.elapsed() > FAILURES_FORGOTTEN_AFTER) {
            self.failures = 0;
        }
        self.failures += 1;
        let pause = PAUSES.random(self.failures);
        // The words are the server's or the cluster's, and may be others each time.
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
