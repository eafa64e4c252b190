//! A run's next step: a pure function of what the server says, what the runtime says, and the time.
//!
//! ```text
//!              server: open                                        finished
//!   runtime:   absent → launch                                     nothing
//!              starting → tell, wait (until a limit, then report)  let go
//!              running → tell, wait (until the deadline)           let go
//!              ended → collect and report                          let go
//!              failed → report                                     let go
//! ```

use jiff::{SignedDuration, Timestamp};
use vantage6::RunStatus;

use super::image;
use super::situation::{self, Failure, Limits, Situation, Starting, WaitsFor};

/// How long a container may fail to start: the kubelet tries again.
const CONTAINER: std::time::Duration = std::time::Duration::from_secs(120);

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
}

/// The next step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Claim it at the server and launch it.
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
    /// Report an end without output.
    Report(Failure),
    /// The server has the report: mark the run's things as done, so that they go away.
    Release,
    /// Nothing is left to be done, ever.
    Done,
}

/// Decides a run's next step. `image` is the task's, for texts.
pub fn decide(server: &ServerSide, situation: &Situation, limits: &Limits, image: &str, now: Timestamp) -> Step {
    match (server.finished, situation) {
        (true, Situation::Absent | Situation::Reported) | (false, Situation::Reported) => Step::Done,
        (true, _) => Step::Release,
        // What has ended is reported as it ended: killing what has just finished does not overwrite its result.
        (false, Situation::Ended(exit)) => Step::Collect(exit.clone()),
        (false, _) if server.kill => Step::Report(killed(situation)),
        (false, Situation::Failed(failure)) => Step::Report(failure.clone()),
        (false, Situation::Absent) => launch(server),
        (false, Situation::Starting(starting)) => match too_long(starting, limits, image, now) {
            Ok(_) if server.status != RunStatus::Initializing => Step::Tell(RunStatus::Initializing),
            Ok(until) => Step::Wait { until },
            Err(failure) => Step::Report(failure),
        },
        (false, Situation::Running { since }) => match running(*since, limits, now) {
            Ok(_) if server.status != RunStatus::Active => Step::Tell(RunStatus::Active),
            Ok(until) => Step::Wait { until },
            Err(failure) => Step::Report(failure),
        },
    }
}

/// A run that the runtime does not have: one to be launched, or one whose things somebody has taken away. The server is told
/// `initializing` only when they are there.
fn launch(server: &ServerSide) -> Step {
    if server.launched || matches!(server.status, RunStatus::Initializing | RunStatus::Active) {
        return Step::Report(Failure {
            status: RunStatus::Crashed,
            message: "The run was removed from the node before it ended.".into(),
            detail: "its Job (or process) is gone although the run has no report".into(),
            started: false,
        });
    }
    Step::Launch
}

fn killed(situation: &Situation) -> Failure {
    Failure {
        status: RunStatus::Killed,
        message: "The run was killed at a user's request.".into(),
        detail: "The run was killed at a user's request.".into(),
        started: matches!(situation, Situation::Running { .. }),
    }
}

/// Whether a run has waited too long to start; if not, when it will have.
fn too_long(starting: &Starting, limits: &Limits, image: &str, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let limit = match starting.waits_for {
        WaitsFor::Image if image::image_never_comes(&starting.detail).is_some() => {
            return Err(image::no_image(image, &starting.detail));
        }
        WaitsFor::Image => limits.image_pull,
        WaitsFor::Pod => limits.pending,
        WaitsFor::Container => CONTAINER,
    };
    match (over(starting.since, limit, now), starting.waits_for) {
        (Ok(until), _) => Ok(until),
        (Err(()), WaitsFor::Image) => Err(image::no_image(image, &starting.detail)),
        (Err(()), WaitsFor::Container) => Err(Failure {
            status: RunStatus::StartFailed,
            message: "The algorithm's container could not be started. The node's log says why.".into(),
            detail: starting.detail.clone(),
            started: false,
        }),
        (Err(()), WaitsFor::Pod) => Err(Failure {
            status: RunStatus::StartFailed,
            message: format!("The run could not be started within {}.", words(limit)),
            detail: format!("pending_timeout passed while waiting: {}", starting.detail),
            started: false,
        }),
    }
}

fn running(since: Option<Timestamp>, limits: &Limits, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    over(since, limits.deadline, now).map_err(|()| Failure {
        status: RunStatus::Crashed,
        message: format!(
            "The algorithm ran longer than this node allows ({}) and was stopped.",
            words(limits.deadline)
        ),
        detail: "deadline passed".into(),
        started: true,
    })
}

/// `Err` when `limit` has passed since `since`; else when it will have passed.
fn over(since: Option<Timestamp>, limit: std::time::Duration, now: Timestamp) -> Result<Option<Timestamp>, ()> {
    let Some(since) = since else { return Ok(None) };
    let Some(until) = SignedDuration::try_from(limit).ok().and_then(|limit| since.checked_add(limit).ok()) else {
        return Ok(None);
    };
    if now >= until { Err(()) } else { Ok(Some(until)) }
}

fn words(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s >= 3_600 && s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use situation::Exit;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        pending: Duration::from_secs(3600),
        image_pull: Duration::from_secs(600),
        deadline: Duration::from_secs(86_400),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn open(status: RunStatus) -> ServerSide {
        ServerSide { finished: false, status, launched: false, kill: false }
    }

    fn starting(waits_for: WaitsFor, detail: &str) -> Situation {
        Situation::Starting(Starting { since: Some(at(0)), waits_for, detail: detail.into() })
    }

    fn failure() -> Failure {
        Failure { status: RunStatus::Crashed, message: "m".into(), detail: "d".into(), started: true }
    }

    fn ended() -> Situation {
        Situation::Ended(Exit { code: 0, note: None })
    }

    /// A step in a word: reports by their status.
    fn word(step: &Step) -> String {
        match step {
            Step::Launch => "launch".into(),
            Step::Tell(status) => format!("tell {status}"),
            Step::Wait { until: None } => "wait".into(),
            Step::Wait { until: Some(until) } => format!("wait until {}", until.as_second()),
            Step::Collect(_) => "collect".into(),
            Step::Report(failure) => format!("report {}", failure.status),
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
        let pod = || starting(WaitsFor::Pod, "");
        let image = || starting(WaitsFor::Image, "i/o timeout");
        for (server, situation, now, expected) in [
            // A run's way when all is well.
            (open(Pending), Situation::Absent, 0, "launch"),
            (open(Initializing), pod(), 0, "wait until 3600"),
            (open(Initializing), running.clone(), 0, "tell active"),
            (open(Active), running.clone(), 1, "wait until 86400"),
            (open(Active), timeless, 1, "wait"),
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
            (open(Initializing), pod(), 3600, "report start failed"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 119, "wait until 120"),
            (open(Initializing), starting(WaitsFor::Container, "x"), 120, "report start failed"),
            (open(Initializing), image(), 599, "wait until 600"),
            (open(Initializing), image(), 600, "report non-existing Docker image"),
            (open(Initializing), starting(WaitsFor::Image, "manifest unknown"), 1, "report non-existing Docker image"),
            (open(Active), running.clone(), 86_400, "report crashed"),
            // Killing.
            (kill(Active), running, 1, "report killed by user"),
            (kill(Pending), Situation::Absent, 1, "report killed by user"),
            (kill(Initializing), pod(), 1, "report killed by user"),
            (kill(Active), ended(), 1, "collect"),
            (ServerSide { kill: true, ..finished }, Situation::Absent, 1, "done"),
        ] {
            let step = decide(&server, &situation, &LIMITS, "img", at(now));
            assert_eq!(word(&step), expected, "{server:?} {situation:?} at {now}");
        }
    }

    #[test]
    fn durations_are_told_as_people_do() {
        for (seconds, expected) in [(5, "5 s"), (60, "1 min"), (90, "90 s"), (7200, "2 h"), (604_800, "7 d")] {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
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
            (0i64..200_000).prop_map(|s| Situation::Running { since: Some(at(s)) }),
            (0i64..200_000, prop_oneof![Just(WaitsFor::Pod), Just(WaitsFor::Image)]).prop_map(|(s, waits_for)| {
                Situation::Starting(Starting { since: Some(at(s)), waits_for, detail: String::new() })
            }),
        ]
    }

    proptest! {
        /// The promises that everything else rests on.
        #[test]
        fn promises(status in statuses(), finished: bool, launched: bool, kill: bool, situation in situations(), now in 0i64..300_000) {
            let server = ServerSide { finished, status, launched, kill };
            let step = decide(&server, &situation, &LIMITS, "img", at(now));
            // What has a report is never reported or launched again.
            if finished {
                prop_assert!(matches!(step, Step::Release | Step::Done), "{step:?}");
            }
            // Only what the runtime has nothing of is launched, and not twice.
            if step == Step::Launch {
                prop_assert!(situation == Situation::Absent && !launched);
            }
            // An output that can be had is brought to the server whatever else is true.
            if !finished && situation == ended() {
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
