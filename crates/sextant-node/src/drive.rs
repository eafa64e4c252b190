//! The story of one run: look at what the server and the runtime say, decide, do that step; until nothing is
//! left to be done.

mod again;
mod failing;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use jiff::Timestamp;
use log_throttle::LogThrottle;
use printable::excerpt;
use sextant_core::assignment::Assignment;
use sextant_core::decide::{ServerSide, Step, Stop, Verdict, decide};
use sextant_core::gate::Gate;
use sextant_core::hub::{HubError, Run, now};
use sextant_core::runtime::LaunchError;
use sextant_core::situation::{Failure, Situation};
use sextant_metrics::{Stage, TrackedRun};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use vantage6_types::RunStatus;

use super::admission::admit;
use super::kept::Databases;
use super::places::Place;
use super::supplies::Supply;
use super::waiting::{LASTS, Waiting, pulled};
use super::{Context, metrics, report, report::HeldLog, report::Reported};

/// How long fetching a token ahead of time may take.
const TOKEN: Duration = Duration::from_secs(5);
/// After so long it is worth a warning that an output does not come.
const OUTPUT_IS_LATE: Duration = Duration::from_secs(120);

/// For how long an admission is good.
const RECENT: Duration = Duration::from_secs(10);
/// The pauses after failures.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(64) };
/// After so long without a failure the pauses begin anew.
const CALM: Duration = Duration::from_secs(120);

/// What others have to say to a drive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signal {
    /// Somebody wants the run killed.
    pub kill: bool,
    /// Counts how often the drive was asked to look at the server's view of its run.
    pub look: u32,
}

/// What is known of a run at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// What the server said when it was last asked.
    Fresh,
    /// Older: it was to be asked, and has not answered yet.
    Stale,
}

/// One run on its way.
struct Drive {
    context: Arc<Context>,
    /// What the metrics are told of it.
    tracked: TrackedRun,
    run: Run,
    assignment: Assignment,
    /// What its task says of databases, until it is launched.
    databases: Databases,
    server: ServerSide,
    situation: watch::Receiver<Situation>,
    signal: watch::Receiver<Signal>,
    gate: watch::Receiver<Gate>,
    /// How many of the signal's looks were taken.
    looked: u32,
    /// Why its input, as far as it came along with the run, can't be read.
    bad_input: Option<String>,
    /// Whether the server's last word on it is newer than the last time that this was asked for.
    view: View,
    /// How often the server has refused to show a run that its list lacks.
    denied: u32,
    /// Its place among the runs that may be under way at once.
    place: Option<Place>,
    failures: u32,
    /// How often the server has failed at a report with the result.
    failed_results: u32,
    /// The end that the log was told of.
    told: Option<Failure>,
    /// What the log was last told that it waits for.
    last_why: Option<String>,
    /// When something last went wrong.
    failed_at: Option<Instant>,
    /// The log of a run that was stopped: its pod may be gone before the server takes the report.
    log: Option<HeldLog>,
    /// Whether this process has seen all of the run's things made.
    launched_whole: bool,
    /// Why they could not be, in this process, of a run that had been launched before: the reason why it does not start, if it doesn't.
    refused: Option<Failure>,
    /// What is known of its not starting.
    waiting: Waiting,
}

/// Drives a run to its end.
pub async fn drive(
    context: Arc<Context>,
    mut run: Run,
    databases: Databases,
    signal: watch::Receiver<Signal>,
    place: Option<Place>,
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
    context.supplies.add(id, Supply { task: run.task.id, image: run.task.image.clone(), input, token: None });
    let situation = context.runtime.observe(id);
    let mut drive = Drive {
        situation,
        bad_input,
        assignment: Assignment::from(&run),
        databases,
        server: ServerSide {
            finished: run.finished_at.is_some(),
            status: run.status.clone(),
            launched: false,
            kill: false,
            late: false,
            verdict: None,
        },
        signal,
        gate: context.runtime.gate(),
        looked: 0,
        view: View::Fresh,
        denied: 0,
        place,
        failures: 0,
        failed_results: 0,
        told: None,
        last_why: None,
        failed_at: None,
        log: None,
        launched_whole: false,
        refused: None,
        waiting: Waiting::default(),
        context: context.clone(),
        tracked,
        run,
    };
    drive.run_its_course().await;
    // Nobody looks at the run any more.
    drop(drive);
    context.runtime.forget(id);
    context.supplies.remove(id);
}

impl Drive {
    async fn run_its_course(&mut self) {
        while self.context.runtime.holds_another(&self.assignment) {
            self.context.hold.good().await;
            info!(run = %self.run.id, "another run had this number and was deleted at the server; what is left of it is ended");
            if let Err(error) = self.context.runtime.release(self.run.id, &RunStatus::UnknownError).await {
                self.later(&error.to_string()).await;
            }
        }
        loop {
            // Another process of this node may act meanwhile: what is true is looked at afterwards.
            self.context.hold.good().await;
            let signal = *self.signal.borrow_and_update();
            if signal.look != self.looked {
                self.catch_up(signal.look).await;
            }
            // The server itself marks the runs that it wants killed: whoever missed the event sees it so.
            self.server.kill = signal.kill || self.server.status == RunStatus::Killed;
            let situation = self.situation.borrow().clone();
            let now = Timestamp::now();
            // A launch that was cut off, in this process or an earlier one, is made whole: it is harmless to launch twice.
            if matches!(situation, Situation::Starting(_))
                && !self.launched_whole
                && !self.server.finished
                && !self.server.kill
                && self.server.verdict.is_none()
                && self.may_launch()
            {
                self.start(true).await;
            }
            let situation = self.situation.borrow_and_update().clone();
            let situation = self.waiting.refine(situation, now);
            if self.waiting.has_pulled(&situation) {
                tokio::spawn(pulled(self.context.clone(), self.run.id));
            }
            self.tracked.enter(metrics::stage(&self.server, &situation));
            match decide(&self.server, &situation, &self.context.limits, &self.assignment.image, now) {
                // An end can be reported whatever the server says of the run; nothing is begun without its word.
                Step::Launch | Step::Relaunch(_) if self.view == View::Stale => {
                    self.is_still_open().await;
                }
                Step::Wait { .. } if signal.look != self.looked => {
                    self.later("the server does not say whether the run is still open").await;
                }
                Step::Launch => self.launch().await,
                Step::Tell(status) => self.tell(status).await,
                Step::Wait { until } => {
                    // All that was due has been done.
                    if self.launched_whole || !matches!(situation, Situation::Starting(_)) {
                        self.failures = 0;
                    }
                    self.wait(&situation, until.map(|until| until.duration_since(now))).await;
                }
                Step::Collect(exit) => self.collect(&exit).await,
                Step::Stop(failure) => self.stop(failure).await,
                Step::Report(failure) => {
                    self.report_failure(&failure).await;
                }
                Step::Relaunch(failure) => self.relaunch(&failure).await,
                Step::Release if !self.context.hold.is_good() => {}
                Step::Release => match self.context.runtime.release(self.run.id, &self.server.status).await {
                    Ok(()) => return,
                    Err(error) => self.later(&format!("the run's things could not be marked as done: {error}")).await,
                },
                Step::Done if self.server.finished => return,
                Step::Done => self.namesake().await,
            }
        }
    }

    /// Lets the run in, and has the runtime make its things.
    async fn launch(&mut self) {
        if !self.admit().await {
            return;
        }
        let admitted = Instant::now();
        if !self.take_place().await || !self.pass_gate().await {
            return;
        }
        // They may have taken hours, and what the server says of the task's owners may be another thing now.
        if admitted.elapsed() > RECENT && !self.admit().await {
            return;
        }
        // Begun before, maybe long ago, and nothing of it is here: the server has the last word.
        if self.run.started_at.is_some() && !self.is_still_open().await {
            return;
        }
        info!(run = %self.run.id, task = %self.run.task.id, image = excerpt(&self.run.task.image), "starting");
        self.context.metrics.admitted();
        self.tracked.enter(Stage::Launching);
        self.start(false).await;
    }

    /// Asks the policies; a refusal is reported. Tells whether the run is let in.
    async fn admit(&mut self) -> bool {
        match admit(&self.context, &self.run, &self.databases, self.bad_input.as_deref()).await {
            Ok(Ok(())) => return true,
            Ok(Err(failure)) => self.report_failure(&failure).await,
            Err(error) => self.later(&error.to_string()).await,
        }
        false
    }

    /// Has the runtime make the run's things. The server hears of it afterwards: making them is harmless, and those of a run that
    /// has ended meanwhile are released.
    async fn start(&mut self, again: bool) {
        if !self.knows_first_task().await || !self.context.hold.is_good() {
            return;
        }
        let context = self.context.clone();
        let Some(whole) = self.whole_assignment().await else { return };
        let (launched, _) = tokio::join!(
            context.runtime.launch(&whole.assignment),
            timeout(TOKEN, context.supplies.fetch_token(self.run.id)),
        );
        drop(whole);
        self.server.launched |= launched.is_ok();
        match launched {
            Ok(()) => {
                self.launched_whole = true;
                self.databases.launched();
                self.waiting.has_room();
            }
            // What is there already goes its way, whatever the configuration says now.
            Err(LaunchError::Failed(failure)) if again => {
                warn!(run = %self.run.id, "was launched before, and could not be launched now: {}", failure.detail);
                self.launched_whole = true;
                self.refused = Some(failure);
            }
            Err(LaunchError::Later(why)) => self.later(&why).await,
            Err(LaunchError::Full(failure)) => self.full(&failure).await,
            Err(LaunchError::Failed(failure)) => {
                self.report_failure(&failure).await;
            }
        }
    }

    /// Learns the first task of the run's job, where that names a folder; `false` while the server does not answer. Only subtasks cost a
    /// question, and those of one parent one a minute.
    async fn knows_first_task(&mut self) -> bool {
        if self.run.task.parent.is_none() || !self.context.shares_tmp {
            return true;
        }
        match self.context.origins.first(&self.run.task).await {
            Ok(first) => {
                self.assignment.first = first;
                true
            }
            Err(error) => {
                self.later(&format!("the first task of the run's job is not known: {error}")).await;
                false
            }
        }
    }

    /// Waits for a place among the runs under way; `false` when something else must be looked at first.
    async fn take_place(&mut self) -> bool {
        let Some(places) = self.context.places.clone() else { return true };
        if self.place.is_none() {
            tokio::select! {
                place = places.take(self.run.id) => self.place = Some(place),
                _ = self.signal.changed() => return false,
            }
        }
        true
    }

    fn may_launch(&mut self) -> bool {
        *self.gate.borrow_and_update() == Gate::Open
    }

    /// Waits until runs may be launched; `false` when something else must be looked at first.
    async fn pass_gate(&mut self) -> bool {
        let lasts = Instant::now() + LASTS;
        while !self.may_launch() {
            if Instant::now() >= lasts {
                self.waiting.at_the_gate(self.run.id, &self.gate.borrow());
            }
            tokio::select! {
                () = sleep_until(lasts), if Instant::now() < lasts => {}
                // It can't fail while the process lives: the end of the gate's task is the process's.
                open = self.gate.changed() => if open.is_err() { return std::future::pending().await },
                _ = self.signal.changed() => return false,
                _ = self.situation.changed() => return false,
            }
        }
        true
    }

    async fn tell(&mut self, status: RunStatus) {
        if !self.context.hold.is_good() {
            return;
        }
        let begins = self.run.started_at.is_none().then(now);
        match self.context.hub.set_status(self.run.id, &status, begins).await {
            Ok(()) => {
                self.run.started_at = self.run.started_at.or(begins);
                self.context.announcer.status(&self.run, &status).await;
                self.server.status = status;
            }
            Err(error) => self.refused(&error).await,
        }
    }

    /// Brings the output to the server, unless the situation changes first.
    async fn collect(&mut self, exit: &sextant_core::situation::Exit) {
        let context = self.context.clone();
        // Before the output is asked for: the connection that brings it must not wait for anything but the server.
        let log = report::log(&context, &self.run, true).await;
        let output = tokio::select! {
            output = context.runtime.collect(self.run.id) => output,
            _ = self.situation.changed() => return,
            _ = self.signal.changed() => return,
            () = sleep(OUTPUT_IS_LATE) => {
                self.server.late = true;
                warn!(
                    run = %self.run.id,
                    "the algorithm has ended, but its pod does not bring the output: can it reach this node's data port? It is waited for."
                );
                return;
            }
        };
        match output {
            // It is asked for again.
            Ok(_) if !context.hold.is_good() => {}
            Ok(output) => {
                let size = output.upload.length;
                self.tracked.enter(Stage::Delivering);
                let reported = report::with_output(&context, &self.run, exit, output, log).await;
                self.reported(reported, Some(size)).await;
            }
            Err(error) => self.later(&format!("the output could not be collected: {error}")).await,
        }
    }

    /// Ends the run now, and reports it then: an algorithm that was killed, or ran for too long, does not go on because the server or
    /// room for its log is not to be had.
    async fn stop(&mut self, failure: Failure) {
        if !self.context.hold.is_good() {
            return;
        }
        let failure = self.with_reason(failure);
        let stop = match self.context.runtime.stop(self.run.id, &failure).await {
            Ok(()) => Stop::Done,
            Err(error) => {
                warn!(run = %self.run.id, "the run can't be stopped: {error}; it is tried again");
                Stop::Due
            }
        };
        self.server.verdict = Some(Verdict { failure: failure.clone(), stop });
        if self.log.is_none() {
            self.log = Some(report::log_of_stopped(&self.context, &self.run, failure.started).await);
        }
        self.report_failure(&failure).await;
    }

    /// Of a run that did not start, why its things could not be made: that it took too long says less.
    fn with_reason(&self, failure: Failure) -> Failure {
        match &self.refused {
            Some(refused) if failure.status == RunStatus::StartFailed && !failure.started => {
                if failure.detail.contains(&refused.detail) {
                    return failure;
                }
                Failure { detail: format!("{}; {}", refused.detail, failure.detail), ..refused.clone() }
            }
            _ => failure,
        }
    }

    /// Reports an end without output; what the server does not take now is reported again.
    async fn report_failure(&mut self, failure: &Failure) {
        let failure = &self.with_reason(failure.clone());
        self.tracked.enter(Stage::Reporting);
        self.server.verdict.get_or_insert_with(|| Verdict { failure: failure.clone(), stop: Stop::Done });
        if self.told.as_ref() != Some(failure) {
            report::tell(&self.run, failure);
            self.told = Some(failure.clone());
        }
        let reported = report::without_output(&self.context, &self.run, failure, self.log.as_ref()).await;
        self.reported(reported, None).await;
    }

    /// `size` is that of the output, if there was one.
    async fn reported(&mut self, reported: Reported, size: Option<u64>) {
        match reported {
            Reported::Yes(status) => {
                self.server.finished = true;
                self.server.status = status;
            }
            Reported::Already => {
                if self.is_still_open().await {
                    self.later("the server says both that the run has ended and that it is open").await;
                }
            }
            Reported::Later => self.report_again().await,
            Reported::Failing => self.failing_with(size).await,
            Reported::Never(why) => self.report_less(&why, size).await,
        }
    }

    /// A report is refused for good: the run is closed with what can be said. First without the output, then without the log.
    async fn report_less(&mut self, why: &str, size: Option<u64>) {
        let refused =
            |message| Failure::new(RunStatus::Failed, message, "the report was refused").because("ReportRefused");
        let failure = match (size, &self.log) {
            (Some(size), _) => {
                refused(format!("The result ({size} bytes) could not be delivered. {why}")).started(true)
            }
            (None, Some(log)) if log.is_left_out() => {
                return self.later("the server refuses every report of this run").await;
            }
            (None, _) => {
                self.log = Some(HeldLog::left_out());
                match &self.server.verdict {
                    Some(verdict) => verdict.failure.clone(),
                    None => refused(why.to_owned()),
                }
            }
        };
        self.server.verdict = Some(Verdict { failure, stop: Stop::Done });
        // Others need not wait until the server takes it.
        self.place = None;
    }

    /// Asks the server about a run that its list lacks, or that others have the number of: `asked` is how often that was wanted.
    async fn catch_up(&mut self, asked: u32) {
        match self.look().await {
            Ok(()) => {
                self.looked = asked;
                self.denied = 0;
            }
            // It is asked again at once, after the pause that follows.
            Err(error) if error.is_passing() => {}
            Err(error) => {
                // The same answer comes each time: it is asked again after the next look at everything.
                self.looked = asked;
                // A run that the node may not see any more is not this node's. Twice, because a server says 401 in passing, too.
                self.denied += u32::from(error.is_denied());
                if self.denied > 1 {
                    info!(run = %self.run.id, "is not in the server's list, and is none that this node may see: {error}");
                    self.server.finished = true;
                    self.view = View::Fresh;
                }
            }
        }
    }

    /// Asks the server how the run stands there: somebody else may have ended it.
    async fn look(&mut self) -> Result<(), HubError> {
        self.view = View::Stale;
        match self.context.hub.run(self.run.id).await {
            Ok(run) if run.assigned_at != self.run.assigned_at || run.organization != self.run.organization => {
                info!(run = %self.run.id, "was deleted at the server, which uses its number for another run");
                self.server.finished = true;
            }
            Ok(run) => {
                self.server.finished = run.finished_at.is_some();
                self.server.status = run.status;
                if self.server.finished && self.server.status == RunStatus::Killed {
                    self.context.announcer.status(&self.run, &RunStatus::Killed).await;
                }
            }
            Err(error) if error.is_deleted_run() => self.server.finished = true,
            Err(error) => {
                warn!(run = %self.run.id, "the run can't be looked at: {error}");
                return Err(error);
            }
        }
        self.view = View::Fresh;
        Ok(())
    }

    /// The server refused a change of the run.
    async fn refused(&mut self, error: &HubError) {
        if error.is_over() {
            info!(run = %self.run.id, "has ended at the server: {error}");
            // How, it says when it is asked; if it doesn't now, it has ended all the same.
            let _ = self.look().await;
            self.view = View::Fresh;
            self.server.finished = true;
        } else {
            self.later(&error.to_string()).await;
        }
    }

    /// The runtime has a run of this number that has its report, but the server calls it open. Mostly the server's list was
    /// read just before the report; else it is a namesake, of a server that uses numbers again, and is launched as well.
    async fn namesake(&mut self) {
        if self.is_still_open().await {
            self.launch().await;
        }
    }

    /// Whether the server says that the run is open; without an answer, it is to be asked again after a pause.
    async fn is_still_open(&mut self) -> bool {
        if self.look().await.is_err() {
            self.later("the server does not say whether the run is still open").await;
            return false;
        }
        !self.server.finished
    }

    /// Waits for a change, or for a time. A run that does not start is looked after meanwhile, and what of it is not made yet
    /// waits for the gate.
    async fn wait(&mut self, situation: &Situation, time: Option<jiff::SignedDuration>) {
        let at_the_gate = !self.launched_whole && matches!(situation, Situation::Starting(_)) && !self.may_launch();
        let longest = self.waiting.longest(situation);
        let mut time = time.and_then(|time| Duration::try_from(time).ok()).map_or(longest, |time| time.min(longest));
        // What passes soon is not worth a line.
        if let Some(lasts) = self.waiting.tell(self.run.id, situation)
            && lasts < time
        {
            if self.changes_within(lasts, at_the_gate).await {
                return;
            }
            self.waiting.tell(self.run.id, situation);
            time -= lasts;
        }
        if self.changes_within(time, at_the_gate).await || !matches!(situation, Situation::Starting(_)) {
            return;
        }
        // The answer may take long, of many that ask at once.
        let (runtime, image) = (self.context.runtime.as_ref(), &self.assignment.image);
        let found = tokio::select! {
            found = self.waiting.look_after(runtime, self.run.id, image, situation) => found,
            _ = self.situation.changed() => return,
            _ = self.signal.changed() => return,
        };
        if let Some(failure) = found {
            self.stop(failure).await;
        }
    }

    /// Whether something changes within a time.
    async fn changes_within(&mut self, time: Duration, at_the_gate: bool) -> bool {
        let change = async {
            tokio::select! {
                _ = self.situation.changed() => {}
                _ = self.signal.changed() => {}
                _ = self.gate.changed(), if at_the_gate => {}
            }
        };
        timeout(time, change).await.is_ok()
    }

    /// Something did not work and may work later: pauses, longer each time, unless something changes.
    async fn later(&mut self, why: &str) {
        // What went wrong long ago has nothing to do with this.
        if self.failed_at.is_some_and(|at| at.elapsed() > CALM) {
            self.failures = 0;
        }
        self.failures += 1;
        let pause = PAUSES.random(self.failures);
        static AGAIN: LogThrottle = LogThrottle::new();
        let times = if self.last_why.as_deref() == Some(why) { AGAIN.happened() } else { Some(1) };
        if let Some(times) = times {
            warn!(run = %self.run.id, times, "{why}; going on in {} s", pause.as_secs().max(1));
            self.last_why = Some(why.to_owned());
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.signal.changed() => {}
            _ = self.situation.changed() => {}
        }
        self.failed_at = Some(Instant::now());
    }
}
