//! A run's next step: a pure function of what the server says, what the runtime says, and the time.
//!
//! ```text
//!              server: open                                        finished
//!   runtime:   absent → launch                                     nothing
//!              starting → tell, wait (until a limit, then stop)    let go
//!              running → tell, wait (until the deadline, then stop) let go
//!              stopped → report                                    let go
//!              ended → collect and report                          let go
//!              leaving → the same, as long as its pod is there     let go
//!              ending → wait for its last word                     let go
//!              failed → report, or launch again if it was disrupted let go
//! ```

use jiff::Timestamp;
use vantage6_types::RunStatus;

use super::situation::{self, Disruption, Failure, Limits, Situation};
use super::waits::{over, too_long, words};

/// How often a run is launched at most, where the cluster takes it away each time before it gets anywhere.
const LAUNCHES: u32 = 10;

/// What the server says of a run, kept up to date with what this node has told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSide {
    /// Whether the run has its report (`finished_at`), or is gone from the server.
    pub finished: bool,
    /// The run's status.
    pub status: RunStatus,
    /// Whether this process has launched it.
    pub launched: bool,
    /// Whether somebody wants it killed.
    pub kill: bool,
    /// Whether an output that is there was waited for in vain.
    pub late: bool,
    /// The end that this node has decided on, as long as the server does not have it.
    pub verdict: Option<Verdict>,
}

/// An end that is not reported yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is to be reported.
    pub failure: Failure,
    /// Whether the runtime still has to be told to end the run.
    pub stop: Stop,
}

/// Whether a run that ends by this node's decision has been stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It may still be running.
    Due,
    /// It was told to end, or there was nothing to be ended.
    Done,
}

/// The next step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Launch it.
    Launch,
    /// Tell the server a new status.
    Tell(RunStatus),
    /// Nothing until something changes, or until this time.
    Wait {
        /// When to look again even if nothing changed.
        until: Option<Timestamp>,
    },
    /// Bring the output to the server.
    Collect(situation::Exit),
    /// End the run now, and report this end of it. The algorithm stops at once, however long the report takes.
    Stop(Failure),
    /// Report an end without output.
    Report(Failure),
    /// The cluster took it away, and it may be launched again.
    Relaunch(Failure),
    /// The server has the report: mark the run's things as done, so that they go away.
    Release,
    /// Nothing is left to be done, ever.
    Done,
}

/// Decides a run's next step. `image` is the task's, for texts.
pub fn decide(server: &ServerSide, situation: &Situation, limits: &Limits, image: &str, now: Timestamp) -> Step {
    if let (false, Some(Verdict { failure, stop })) = (server.finished, &server.verdict)
        && *situation != Situation::Reported
    {
        return match stop {
            Stop::Due => end(situation, failure.clone()),
            Stop::Done => Step::Report(failure.clone()),
        };
    }
    match (server.finished, situation) {
        (true, Situation::Absent | Situation::Reported) | (false, Situation::Reported) => Step::Done,
        (true, _) => Step::Release,
        // An output that does not come keeps nobody from killing the run.
        (false, Situation::Ended(_) | Situation::Leaving { .. }) if server.kill && server.late => {
            Step::Stop(killed(situation))
        }
        (false, Situation::Leaving { until: Some(until), failure, .. }) if now >= *until => lost(failure, limits),
        // What has ended is reported as it ended: killing what has just finished does not overwrite its result.
        (false, Situation::Ended(exit) | Situation::Leaving { exit, .. }) => Step::Collect(exit.clone()),
        (false, _) if server.kill => end(situation, killed(situation)),
        (false, Situation::Failed(failure)) => lost(failure, limits),
        (false, Situation::Ending { until: Some(until), failure }) if now >= *until => lost(failure, limits),
        (false, Situation::Ending { until, .. }) => Step::Wait { until: *until },
        (false, Situation::Absent) => launch(server),
        (false, Situation::Starting(starting)) => match too_long(starting, limits, image, now) {
            Ok(_) if server.status != RunStatus::Initializing => Step::Tell(RunStatus::Initializing),
            Ok(until) => Step::Wait { until },
            Err(failure) => Step::Stop(failure),
        },
        (false, Situation::Running { since }) => match running(*since, limits, now) {
            Ok(_) if server.status != RunStatus::Active => Step::Tell(RunStatus::Active),
            Ok(until) => Step::Wait { until },
            Err(failure) => Step::Stop(failure),
        },
    }
}

/// Ends a run for a reason: what may still be running is stopped first.
fn end(situation: &Situation, failure: Failure) -> Step {
    match situation {
        Situation::Absent | Situation::Failed(_) | Situation::Reported => Step::Report(failure),
        Situation::Starting(_)
        | Situation::Running { .. }
        | Situation::Ended(_)
        | Situation::Leaving { .. }
        | Situation::Ending { .. } => Step::Stop(failure),
    }
}

/// A run that the runtime does not have: one to be launched, or one whose things somebody has taken away. The server is told
/// `initializing` only when they are there.
fn launch(server: &ServerSide) -> Step {
    if server.launched || matches!(server.status, RunStatus::Initializing | RunStatus::Active) {
        let message = "The run was removed from the node before it ended.";
        let detail = "its Job (or process) is gone although the run has no report";
        return Step::Report(Failure::new(RunStatus::Crashed, message, detail).because("Removed"));
    }
    Step::Launch
}

/// What was lost is reported, unless it may be launched again: always, where its algorithm had not started; else as often
/// as the node's owner allows.
fn lost(failure: &Failure, limits: &Limits) -> Step {
    match failure.disruption {
        Some(Disruption { executions, attempt })
            if attempt < LAUNCHES && (!failure.started || executions <= limits.retry_disrupted) =>
        {
            Step::Relaunch(failure.clone())
        }
        _ => Step::Report(failure.clone()),
    }
}

fn killed(situation: &Situation) -> Failure {
    let started = match situation {
        Situation::Running { .. } | Situation::Ended(_) | Situation::Leaving { .. } => true,
        Situation::Ending { failure, .. } | Situation::Failed(failure) => failure.started,
        Situation::Absent | Situation::Starting(_) | Situation::Reported => false,
    };
    let text = "The run was killed at a user's request.";
    Failure::new(RunStatus::Killed, text, text).started(started)
}

fn running(since: Option<Timestamp>, limits: &Limits, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    over(since, limits.deadline, now).map_err(|_| {
        let limit = words(limits.deadline);
        let message = format!("The algorithm ran longer than this node allows ({limit}) and was stopped.");
        Failure::new(RunStatus::Crashed, message, "deadline passed").because("DeadlineExceeded").started(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use situation::{Exit, Starting, WaitsFor};
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

    fn open(status: RunStatus) -> ServerSide {
        ServerSide { finished: false, status, launched: false, kill: false, late: false, verdict: None }
    }

    fn starting(waits_for: WaitsFor, detail: &str) -> Situation {
        Situation::Starting(Starting { since: Some(at(0)), waits_for, detail: detail.into() })
    }

    fn failure() -> Failure {
        Failure::new(RunStatus::Crashed, "m", "d").started(true)
    }

    /// Taken away by the cluster: the nth launch, with so many executions.
    fn disrupted(attempt: u32, executions: u32, started: bool) -> Failure {
        Failure { disruption: Some(Disruption { attempt, executions }), ..failure().started(started) }
    }

    fn ended() -> Situation {
        Situation::Ended(Exit { code: 0, note: None, reason: "AlgorithmEnded" })
    }

    /// A step in a word: reports by their status.
    fn word(step: &Step) -> String {
        match step {
            Step::Launch => "launch".into(),
            Step::Tell(status) => format!("tell {status}"),
            Step::Wait { until: None } => "wait".into(),
            Step::Wait { until: Some(until) } => format!("wait until {}", until.as_second()),
            Step::Collect(_) => "collect".into(),
            Step::Stop(failure) => format!("stop {}", failure.status),
            Step::Report(failure) => format!("report {}", failure.status),
            Step::Relaunch(_) => "relaunch".into(),
            Step::Release => "release".into(),
            Step::Done => "done".into(),
        }
    }

    #[test]
    fn all_cases() {
        use RunStatus::{Active, Completed, Initializing, Pending};
        let finished = ServerSide { finished: true, ..open(Completed) };
        let launched = ServerSide { launched: true, ..open(Initializing) };
        let kill = |status| ServerSide { kill: true, ..open(status) };
        let running = Situation::Running { since: Some(at(0)) };
        let timeless = Situation::Running { since: None };
        let pod = || starting(WaitsFor::Machine, "");
        let image = || starting(WaitsFor::Image, "i/o timeout");
        let supplies = || starting(WaitsFor::Supplies, "");
        let lost = |attempt, executions, started| Situation::Failed(disrupted(attempt, executions, started));
        let ending = || Situation::Ending { until: Some(at(70)), failure: disrupted(1, 1, true) };
        let leaving = |attempt| {
            let Situation::Ended(exit) = ended() else { unreachable!() };
            Situation::Leaving { exit, until: Some(at(70)), failure: disrupted(attempt, attempt, true) }
        };
        let late = |kill| ServerSide { late: true, kill, ..open(Active) };
        let verdict = |stop| ServerSide { verdict: Some(Verdict { failure: failure(), stop }), ..open(Active) };
        for (server, situation, now, expected) in [
            // A run's way when all is well.
            (open(Pending), Situation::Absent, 0, "launch"),
            (open(Initializing), pod(), 0, "wait until 3600"),
            (open(Initializing), running.clone(), 0, "tell active"),
            (open(Active), running.clone(), 1, "wait until 86400"),
            (open(Active), timeless.clone(), 1, "wait"),
            (open(Active), ended(), 1, "collect"),
            (finished.clone(), ended(), 1, "release"),
            (finished.clone(), Situation::Reported, 1, "done"),
            // Restarts.
            (open(Initializing), Situation::Absent, 0, "report crashed"),
            (open(Pending), pod(), 0, "tell initializing"),
            (open(Pending), ended(), 0, "collect"),
            (finished.clone(), running.clone(), 0, "release"),
            (finished.clone(), Situation::Absent, 0, "done"),
            (open(Active), Situation::Reported, 0, "done"),
            // Somebody took it away.
            (open(Active), Situation::Absent, 0, "report crashed"),
            (launched, Situation::Absent, 0, "report crashed"),
            (open(Active), Situation::Failed(failure()), 0, "report crashed"),
            // Limits.
            (open(Initializing), pod(), 3600, "stop start failed"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 119, "wait until 120"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 120, "stop start failed"),
            (open(Initializing), image(), 599, "wait until 600"),
            (open(Initializing), image(), 600, "stop non-existing Docker image"),
            (open(Initializing), starting(WaitsFor::Image, "manifest unknown"), 1, "stop non-existing Docker image"),
            (open(Active), running.clone(), 86_400, "stop crashed"),
            // The node or the server was away: the run has waited for them, and goes on.
            (open(Initializing), supplies(), 200_000, "wait"),
            // Taken away by the cluster: again, if the algorithm had not started, or as often as allowed (here once).
            (open(Initializing), lost(1, 0, false), 0, "relaunch"),
            (open(Initializing), lost(9, 0, false), 0, "relaunch"),
            (open(Initializing), lost(10, 0, false), 0, "report crashed"),
            (open(Active), lost(1, 1, true), 0, "relaunch"),
            (open(Active), lost(2, 2, true), 0, "report crashed"),
            (open(Initializing), lost(3, 2, false), 0, "relaunch"),
            (finished.clone(), lost(1, 1, true), 0, "release"),
            (open(Active), ending(), 69, "wait until 70"),
            (open(Active), ending(), 70, "relaunch"),
            // Its pod is to end: the output is brought as long as that is possible, and then it is lost.
            (open(Active), leaving(1), 69, "collect"),
            (open(Active), leaving(1), 70, "relaunch"),
            (open(Active), leaving(2), 70, "report crashed"),
            (finished.clone(), leaving(1), 70, "release"),
            // Killing.
            (kill(Active), running, 1, "stop killed by user"),
            (kill(Pending), Situation::Absent, 1, "report killed by user"),
            (kill(Initializing), pod(), 1, "stop killed by user"),
            (kill(Initializing), image(), 1, "stop killed by user"),
            (kill(Initializing), supplies(), 1, "stop killed by user"),
            (kill(Active), ended(), 1, "collect"),
            (kill(Active), leaving(1), 1, "collect"),
            (late(false), ended(), 1, "collect"),
            (late(true), ended(), 1, "stop killed by user"),
            (late(true), leaving(1), 1, "stop killed by user"),
            (kill(Active), lost(1, 1, true), 1, "report killed by user"),
            (kill(Active), ending(), 1, "stop killed by user"),
            (ServerSide { kill: true, ..finished.clone() }, Situation::Absent, 1, "done"),
            // What was decided is reported until the server has it, and stopped until the runtime has heard of it.
            (verdict(Stop::Done), timeless.clone(), 1, "report crashed"),
            (verdict(Stop::Done), ended(), 1, "report crashed"),
            (verdict(Stop::Done), Situation::Absent, 1, "report crashed"),
            (verdict(Stop::Due), timeless, 1, "stop crashed"),
            (verdict(Stop::Due), ended(), 1, "stop crashed"),
            (verdict(Stop::Due), Situation::Absent, 1, "report crashed"),
            (ServerSide { finished: true, ..verdict(Stop::Due) }, ended(), 1, "release"),
            (verdict(Stop::Done), Situation::Reported, 1, "done"),
        ] {
            let step = decide(&server, &situation, &LIMITS, "img", at(now));
            assert_eq!(word(&step), expected, "{server:?} {situation:?} at {now}");
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

    fn situations() -> impl Strategy<Value = Situation> {
        prop_oneof![
            Just(Situation::Absent),
            Just(Situation::Reported),
            Just(ended()),
            Just(Situation::Failed(failure())),
            (1u32..20, 0u32..5, any::<bool>())
                .prop_map(|(attempt, executions, started)| Situation::Failed(disrupted(attempt, executions, started))),
            (0i64..200_000).prop_map(|s| Situation::Running { since: Some(at(s)) }),
            (0i64..200_000, prop_oneof![Just(WaitsFor::Machine), Just(WaitsFor::Image)]).prop_map(|(s, waits_for)| {
                Situation::Starting(Starting { since: Some(at(s)), waits_for, detail: String::new() })
            }),
        ]
    }

    proptest! {
        /// The promises that everything else rests on.
        #[test]
        fn promises(
            status in statuses(), flags in any::<[bool; 4]>(), situation in situations(), now in 0i64..300_000,
        ) {
            let [finished, launched, kill, late] = flags;
            let server = ServerSide { finished, status, launched, kill, late, verdict: None };
            let step = decide(&server, &situation, &LIMITS, "img", at(now));
            // What has a report is never reported or launched again.
            if finished {
                prop_assert!(matches!(step, Step::Release | Step::Done), "{step:?}");
            }
            // Only what the runtime has nothing of is launched, and not twice.
            if step == Step::Launch {
                prop_assert!(situation == Situation::Absent && !launched);
            }
            // Only what the cluster took away is launched again, and no more often than allowed once it had started.
            if let Step::Relaunch(failure) = &step {
                prop_assert!(!kill && !finished);
                let disruption = failure.disruption.unwrap();
                prop_assert!(!failure.started || disruption.executions <= LIMITS.retry_disrupted);
            }
            // An output that can be had is brought to the server whatever else is true, unless it is long overdue and nobody wants it.
            let given_up = kill && late;
            if !finished && !given_up && situation == ended() {
                prop_assert!(matches!(step, Step::Collect(_)), "{step:?}");
            }
            // Telling a status leads on: the same step is not decided again.
            if let Step::Tell(told) = &step {
                let server = ServerSide { status: told.clone(), ..server };
                prop_assert!(!matches!(decide(&server, &situation, &LIMITS, "img", at(now)), Step::Tell(_)));
            }
            // A wait ends in the future.
            if let Step::Wait { until: Some(until) } = step {
                prop_assert!(until > at(now));
            }
        }
    }
}
