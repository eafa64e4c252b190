//! Decides a run's next action: a pure function of the server's view, the runtime's view, and the time.
//!
//! ```text
//!              server: open                                           finished
//!   runtime:   absent → launch                                        nothing
//!              starting → report, wait (until a limit, then stop)     release
//!              running → report, wait (until the deadline, then stop) release
//!              stopped → report                                       release
//!              ended → collect and report                             release
//!              terminating with output → the same while its pod exists  release
//!              terminating → wait for its final state                 release
//!              failed → report, or relaunch if it was disrupted       release
//! ```

use jiff::Timestamp;
use vantage6_types::RunStatus;

use super::run_state::{self, Disruption, Failure, Limits, RunState};
use super::timeouts::{check_start, deadline_passed, format_duration};

/// The maximum number of launches of a run that the cluster disrupts each time.
const LAUNCHES: u32 = 10;

/// The server's view of a run, updated with what this node has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Whether the run has been reported (`finished_at`), or no longer exists at the server.
    pub finished: bool,
    /// The run's status.
    pub status: RunStatus,
    /// Whether this process has launched it.
    pub launched: bool,
    /// Whether a user requested to kill it.
    pub kill: bool,
    /// Whether the node has waited too long for an output that exists.
    pub late: bool,
    /// The failure that this node has decided on, until the server has its report.
    pub verdict: Option<Verdict>,
}

/// A failure that has not been reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The failure to report.
    pub failure: Failure,
    /// Whether the runtime must still stop the run.
    pub stop: Stop,
}

/// Whether a run that ends by this node's decision has been stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It may still be running.
    Due,
    /// It was stopped, or nothing had to be stopped.
    Done,
}

/// The next action of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Launch it.
    Launch,
    /// Report a new status to the server.
    ReportStatus(RunStatus),
    /// Do nothing until something changes, or until this time.
    Wait {
        /// When to decide again even if nothing has changed.
        until: Option<Timestamp>,
    },
    /// Upload the output to the server.
    Collect(run_state::Exit),
    /// Stop the run now, and report this failure. The algorithm stops at once, however long the report takes.
    Stop(Failure),
    /// Report a failure without an output.
    Report(Failure),
    /// Relaunch the run, which the cluster has disrupted.
    Relaunch(Failure),
    /// The server has the report: mark the run's objects as done, so that they are deleted.
    Release,
    /// Nothing remains to be done.
    Done,
}

/// Decides a run's next action. `image` is the task's image, for texts.
pub fn next_action(server: &ServerView, run_state: &RunState, limits: &Limits, image: &str, now: Timestamp) -> Action {
    if let (false, Some(Verdict { failure, stop })) = (server.finished, &server.verdict)
        && *run_state != RunState::Released
    {
        return match stop {
            Stop::Due => end(run_state, failure.clone()),
            Stop::Done => Action::Report(failure.clone()),
        };
    }
    match (server.finished, run_state) {
        (true, RunState::Absent | RunState::Released) | (false, RunState::Released) => Action::Done,
        (true, _) => Action::Release,
        // An output that can't be collected does not prevent a user from killing the run.
        (false, RunState::Ended(_) | RunState::TerminatingWithOutput { .. }) if server.kill && server.late => {
            Action::Stop(killed(run_state))
        }
        (false, RunState::TerminatingWithOutput { until: Some(until), failure, .. }) if now >= *until => {
            lost(failure, limits)
        }
        // A run that has ended is reported as it ended: a kill request after that does not replace its result.
        (false, RunState::Ended(exit) | RunState::TerminatingWithOutput { exit, .. }) => Action::Collect(exit.clone()),
        (false, _) if server.kill => end(run_state, killed(run_state)),
        (false, RunState::Failed(failure)) => lost(failure, limits),
        (false, RunState::Terminating { until: Some(until), failure }) if now >= *until => lost(failure, limits),
        (false, RunState::Terminating { until, .. }) => Action::Wait { until: *until },
        (false, RunState::Absent) => launch(server),
        (false, RunState::Starting(starting)) => match check_start(starting, limits, image, now) {
            Ok(_) if server.status != RunStatus::Initializing => Action::ReportStatus(RunStatus::Initializing),
            Ok(until) => Action::Wait { until },
            Err(failure) => Action::Stop(failure),
        },
        (false, RunState::Running { since }) => match running(*since, limits, now) {
            Ok(_) if server.status != RunStatus::Active => Action::ReportStatus(RunStatus::Active),
            Ok(until) => Action::Wait { until },
            Err(failure) => Action::Stop(failure),
        },
    }
}

/// Ends a run with this failure. A run that may still be running is stopped first.
fn end(run_state: &RunState, failure: Failure) -> Action {
    match run_state {
        RunState::Absent | RunState::Failed(_) | RunState::Released => Action::Report(failure),
        RunState::Starting(_)
        | RunState::Running { .. }
        | RunState::Ended(_)
        | RunState::TerminatingWithOutput { .. }
        | RunState::Terminating { .. } => Action::Stop(failure),
    }
}

/// Decides on a run that does not exist on the runtime: it must be launched, or its objects were deleted. The server gets the status
/// `initializing` only once they exist.
fn launch(server: &ServerView) -> Action {
    if server.launched || matches!(server.status, RunStatus::Initializing | RunStatus::Active) {
        let message = "The run was removed from the node before it ended.";
        let detail = "its Job (or process) is gone although the run has no report";
        return Action::Report(Failure::new(RunStatus::Crashed, message, detail).because("Removed"));
    }
    Action::Launch
}

/// Decides on a run that was lost. If it was disrupted, it is relaunched: always if its algorithm had not started, otherwise as often as
/// the node's owner allows. All other runs are reported.
fn lost(failure: &Failure, limits: &Limits) -> Action {
    match failure.disruption {
        Some(Disruption { executions, attempt })
            if attempt < LAUNCHES && (!failure.started || executions <= limits.retry_disrupted) =>
        {
            Action::Relaunch(failure.clone())
        }
        _ => Action::Report(failure.clone()),
    }
}

fn killed(run_state: &RunState) -> Failure {
    let started = match run_state {
        RunState::Running { .. } | RunState::Ended(_) | RunState::TerminatingWithOutput { .. } => true,
        RunState::Terminating { failure, .. } | RunState::Failed(failure) => failure.started,
        RunState::Absent | RunState::Starting(_) | RunState::Released => false,
    };
    let text = "The run was killed at a user's request.";
    Failure::new(RunStatus::Killed, text, text).started(started)
}

fn running(since: Option<Timestamp>, limits: &Limits, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    deadline_passed(since, limits.deadline, now).map_err(|_| {
        let limit = format_duration(limits.deadline);
        let message = format!("The algorithm ran longer than this node allows ({limit}) and was stopped.");
        Failure::new(RunStatus::Crashed, message, "deadline passed").because("DeadlineExceeded").started(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use run_state::{Exit, Starting, WaitsFor};
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        pending: Duration::from_secs(3600),
        image_pull: Duration::from_secs(600),
        deadline: Duration::from_secs(86_400),
        retry_disrupted: 1,
        output: None,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn open(status: RunStatus) -> ServerView {
        ServerView { finished: false, status, launched: false, kill: false, late: false, verdict: None }
    }

    fn starting(waits_for: WaitsFor, detail: &str) -> RunState {
        RunState::Starting(Starting { since: Some(at(0)), waits_for, detail: detail.into() })
    }

    fn failure() -> Failure {
        Failure::new(RunStatus::Crashed, "m", "d").started(true)
    }

    /// A run that the cluster disrupted: the nth launch, with this many executions.
    fn disrupted(attempt: u32, executions: u32, started: bool) -> Failure {
        Failure { disruption: Some(Disruption { attempt, executions }), ..failure().started(started) }
    }

    fn ended() -> RunState {
        RunState::Ended(Exit { code: 0, note: None, reason: "AlgorithmEnded" })
    }

    /// An action in one word; a report by its status.
    fn word(step: &Action) -> String {
        match step {
            Action::Launch => "launch".into(),
            Action::ReportStatus(status) => format!("tell {status}"),
            Action::Wait { until: None } => "wait".into(),
            Action::Wait { until: Some(until) } => format!("wait until {}", until.as_second()),
            Action::Collect(_) => "collect".into(),
            Action::Stop(failure) => format!("stop {}", failure.status),
            Action::Report(failure) => format!("report {}", failure.status),
            Action::Relaunch(_) => "relaunch".into(),
            Action::Release => "release".into(),
            Action::Done => "done".into(),
        }
    }

    #[test]
    fn all_cases() {
        use RunStatus::{Active, Completed, Initializing, Pending};
        let finished = ServerView { finished: true, ..open(Completed) };
        let launched = ServerView { launched: true, ..open(Initializing) };
        let kill = |status| ServerView { kill: true, ..open(status) };
        let running = RunState::Running { since: Some(at(0)) };
        let timeless = RunState::Running { since: None };
        let pod = || starting(WaitsFor::Machine, "");
        let image = || starting(WaitsFor::Image, "i/o timeout");
        let run_inputs = || starting(WaitsFor::Inputs, "");
        let lost = |attempt, executions, started| RunState::Failed(disrupted(attempt, executions, started));
        let ending = || RunState::Terminating { until: Some(at(70)), failure: disrupted(1, 1, true) };
        let leaving = |attempt| {
            let RunState::Ended(exit) = ended() else { unreachable!() };
            RunState::TerminatingWithOutput { exit, until: Some(at(70)), failure: disrupted(attempt, attempt, true) }
        };
        let late = |kill| ServerView { late: true, kill, ..open(Active) };
        let verdict = |stop| ServerView { verdict: Some(Verdict { failure: failure(), stop }), ..open(Active) };
        for (server, run_state, now, expected) in [
            // The life of a run without failures.
            (open(Pending), RunState::Absent, 0, "launch"),
            (open(Initializing), pod(), 0, "wait until 3600"),
            (open(Initializing), running.clone(), 0, "tell active"),
            (open(Active), running.clone(), 1, "wait until 86400"),
            (open(Active), timeless.clone(), 1, "wait"),
            (open(Active), ended(), 1, "collect"),
            (finished.clone(), ended(), 1, "release"),
            (finished.clone(), RunState::Released, 1, "done"),
            // Restarts.
            (open(Initializing), RunState::Absent, 0, "report crashed"),
            (open(Pending), pod(), 0, "tell initializing"),
            (open(Pending), ended(), 0, "collect"),
            (finished.clone(), running.clone(), 0, "release"),
            (finished.clone(), RunState::Absent, 0, "done"),
            (open(Active), RunState::Released, 0, "done"),
            // Its objects were deleted.
            (open(Active), RunState::Absent, 0, "report crashed"),
            (launched, RunState::Absent, 0, "report crashed"),
            (open(Active), RunState::Failed(failure()), 0, "report crashed"),
            // Limits.
            (open(Initializing), pod(), 3600, "stop start failed"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 119, "wait until 120"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 120, "stop start failed"),
            (open(Initializing), image(), 599, "wait until 600"),
            (open(Initializing), image(), 600, "stop non-existing Docker image"),
            (open(Initializing), starting(WaitsFor::Image, "manifest unknown"), 1, "stop non-existing Docker image"),
            (open(Active), running.clone(), 86_400, "stop crashed"),
            // The node or the server was unavailable: the run has waited, and continues.
            (open(Initializing), run_inputs(), 200_000, "wait"),
            // Disrupted by the cluster: relaunched if the algorithm had not started, or as often as allowed (here once).
            (open(Initializing), lost(1, 0, false), 0, "relaunch"),
            (open(Initializing), lost(9, 0, false), 0, "relaunch"),
            (open(Initializing), lost(10, 0, false), 0, "report crashed"),
            (open(Active), lost(1, 1, true), 0, "relaunch"),
            (open(Active), lost(2, 2, true), 0, "report crashed"),
            (open(Initializing), lost(3, 2, false), 0, "relaunch"),
            (finished.clone(), lost(1, 1, true), 0, "release"),
            (open(Active), ending(), 69, "wait until 70"),
            (open(Active), ending(), 70, "relaunch"),
            // Its pod is being terminated: the output is collected as long as that is possible; then it is lost.
            (open(Active), leaving(1), 69, "collect"),
            (open(Active), leaving(1), 70, "relaunch"),
            (open(Active), leaving(2), 70, "report crashed"),
            (finished.clone(), leaving(1), 70, "release"),
            // Killing.
            (kill(Active), running, 1, "stop killed by user"),
            (kill(Pending), RunState::Absent, 1, "report killed by user"),
            (kill(Initializing), pod(), 1, "stop killed by user"),
            (kill(Initializing), image(), 1, "stop killed by user"),
            (kill(Initializing), run_inputs(), 1, "stop killed by user"),
            (kill(Active), ended(), 1, "collect"),
            (kill(Active), leaving(1), 1, "collect"),
            (late(false), ended(), 1, "collect"),
            (late(true), ended(), 1, "stop killed by user"),
            (late(true), leaving(1), 1, "stop killed by user"),
            (kill(Active), lost(1, 1, true), 1, "report killed by user"),
            (kill(Active), ending(), 1, "stop killed by user"),
            (ServerView { kill: true, ..finished.clone() }, RunState::Absent, 1, "done"),
            // A verdict is reported until the server has it, and the run is stopped until the runtime has confirmed it.
            (verdict(Stop::Done), timeless.clone(), 1, "report crashed"),
            (verdict(Stop::Done), ended(), 1, "report crashed"),
            (verdict(Stop::Done), RunState::Absent, 1, "report crashed"),
            (verdict(Stop::Due), timeless, 1, "stop crashed"),
            (verdict(Stop::Due), ended(), 1, "stop crashed"),
            (verdict(Stop::Due), RunState::Absent, 1, "report crashed"),
            (ServerView { finished: true, ..verdict(Stop::Due) }, ended(), 1, "release"),
            (verdict(Stop::Done), RunState::Released, 1, "done"),
        ] {
            let step = next_action(&server, &run_state, &LIMITS, "img", at(now));
            assert_eq!(word(&step), expected, "{server:?} {run_state:?} at {now}");
        }
    }

    fn statuses() -> impl Strategy<Value = RunStatus> {
        prop_oneof![
            Just(RunStatus::Pending),
            Just(RunStatus::Initializing),
            Just(RunStatus::Active),
            Just(RunStatus::Completed),
            Just(RunStatus::Crashed),
        ]
    }

    fn run_states() -> impl Strategy<Value = RunState> {
        prop_oneof![
            Just(RunState::Absent),
            Just(RunState::Released),
            Just(ended()),
            Just(RunState::Failed(failure())),
            (1u32..20, 0u32..5, any::<bool>())
                .prop_map(|(attempt, executions, started)| RunState::Failed(disrupted(attempt, executions, started))),
            (0i64..200_000).prop_map(|s| RunState::Running { since: Some(at(s)) }),
            (0i64..200_000, prop_oneof![Just(WaitsFor::Machine), Just(WaitsFor::Image)]).prop_map(|(s, waits_for)| {
                RunState::Starting(Starting { since: Some(at(s)), waits_for, detail: String::new() })
            }),
        ]
    }

    proptest! {
        /// The invariants that everything else depends on.
        #[test]
        fn promises(
            status in statuses(), flags in any::<[bool; 4]>(), run_state in run_states(), now in 0i64..300_000,
        ) {
            let [finished, launched, kill, late] = flags;
            let server = ServerView { finished, status, launched, kill, late, verdict: None };
            let step = next_action(&server, &run_state, &LIMITS, "img", at(now));
            // A reported run is never reported or launched again.
            if finished {
                prop_assert!(matches!(step, Action::Release | Action::Done), "{step:?}");
            }
            // A run is launched only if it does not exist on the runtime, and not twice.
            if step == Action::Launch {
                prop_assert!(run_state == RunState::Absent && !launched);
            }
            // A run is relaunched only if the cluster disrupted it, and once it had started, no more often than allowed.
            if let Action::Relaunch(failure) = &step {
                prop_assert!(!kill && !finished);
                let disruption = failure.disruption.unwrap();
                prop_assert!(!failure.started || disruption.executions <= LIMITS.retry_disrupted);
            }
            // An available output is collected in every state, unless it is long overdue and a user has killed the run.
            let given_up = kill && late;
            if !finished && !given_up && run_state == ended() {
                prop_assert!(matches!(step, Action::Collect(_)), "{step:?}");
            }
            // Reporting a status makes progress: the same action is not decided again.
            if let Action::ReportStatus(told) = &step {
                let server = ServerView { status: told.clone(), ..server };
                prop_assert!(!matches!(next_action(&server, &run_state, &LIMITS, "img", at(now)), Action::ReportStatus(_)));
            }
            // A wait ends in the future.
            if let Action::Wait { until: Some(until) } = step {
                prop_assert!(until > at(now));
            }
        }
    }
}
