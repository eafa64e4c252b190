//! `sextant runs`: which runs are in progress or waiting, and why. It shows the cluster's view and, if the server answers, the server's
//! view.

use jiff::Timestamp;
use printable::excerpt_of;
use vantage6_types::{RunId, RunStatus, TaskId};

use super::hub::Run;
use super::run_state::{Exit, RunState};

/// A run that exists on the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The run's ID.
    pub run: RunId,
    /// The run's task.
    pub task: TaskId,
    /// The task's name, as the researcher wrote it.
    pub name: String,
    /// Its state.
    pub run_state: RunState,
    /// Since when it exists on the runtime.
    pub since: Option<Timestamp>,
    /// Where its output is: a pod or a folder.
    pub place: String,
}

/// The server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The node's open runs.
    Open(Vec<Run>),
    /// Some of the node's open runs; the list could not be read completely, for this reason.
    Partly(Vec<Run>, String),
    /// No answer, for this reason.
    Silent(String),
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The run's ID.
    pub run: RunId,
    /// The run's task.
    pub task: TaskId,
    /// Its state in one word.
    pub state: &'static str,
    /// The server's status; empty if the server did not answer.
    pub server: String,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// The task's name.
    pub name: String,
    /// What it waits for.
    pub why: String,
}

/// All runs except those that have been reported, sorted by ID.
pub fn lines(here: Vec<Here>, server: &Server) -> Vec<Line> {
    let open = |run: RunId| match server {
        Server::Open(runs) => Some(runs.iter().find(|each| each.id == run)),
        Server::Partly(runs, _) => runs.iter().find(|each| each.id == run).map(Some),
        Server::Silent(_) => None,
    };
    let mut lines: Vec<Line> = Vec::new();
    let mut known = Vec::new();
    for each in here {
        known.push(each.run);
        let there = open(each.run);
        if let Some((state, why)) = under_way(&each, there) {
            let server = there.map_or(String::new(), |run| run.map_or("ended".into(), |run| run.status.to_string()));
            let Here { run, task, name, since, .. } = each;
            let since = started(&each.run_state).or(since);
            lines.push(Line { run, task, state, server, since, name, why });
        }
    }
    if let Server::Open(runs) | Server::Partly(runs, _) = server {
        lines.extend(runs.iter().filter(|run| !known.contains(&run.id)).map(not_here));
    }
    lines.sort_by_key(|line| line.run);
    lines
}

/// A run's state and what it waits for. `there` is the server's run; `None` if the server's answer is unknown.
fn under_way(here: &Here, there: Option<Option<&Run>>) -> Option<(&'static str, String)> {
    let ended = matches!(there, Some(None));
    let killed = there.flatten().is_some_and(|run| run.status == RunStatus::Killed);
    Some(match &here.run_state {
        RunState::Released | RunState::Absent => return None,
        _ if ended => ("to end", "it has ended at the server; the node will clean it up".into()),
        RunState::Ended(exit) | RunState::TerminatingWithOutput { exit, .. } => {
            ("waits", output(here, exit, there.is_some()))
        }
        _ if killed => ("to end", "a user requested to kill it".into()),
        RunState::Starting(starting) => ("starting", starting.detail.clone()),
        RunState::Running { .. } => ("running", String::new()),
        RunState::Terminating { failure, .. } => ("ending", failure.detail.clone()),
        RunState::Failed(failure) => {
            ("waits", format!("the node will report it as {}: {}", failure.status, failure.detail))
        }
    })
}

fn output(here: &Here, exit: &Exit, heard: bool) -> String {
    let for_whom = if heard { "the node to upload it to the server" } else { "the server" };
    format!("ended with exit code {}; the output waits in {} for {for_whom}", exit.code, here.place)
}

/// A run that is open at the server and does not exist on the runtime.
fn not_here(run: &Run) -> Line {
    let why = match run.status {
        RunStatus::Killed => "a user requested to kill it",
        RunStatus::Initializing | RunStatus::Active => {
            "it started before, but nothing of it exists here: the node will report that"
        }
        _ => {
            "not started yet: the node is not running, has no free slot (max_concurrent_runs), has not confirmed the \
             network isolation, or waits for a registry or store that its policies need; its log says which"
        }
    };
    Line {
        run: run.id,
        task: run.task.id,
        state: "open",
        server: run.status.to_string(),
        since: run.assigned_at,
        name: run.task.name.clone().unwrap_or_default(),
        why: why.into(),
    }
}

fn started(run_state: &RunState) -> Option<Timestamp> {
    match run_state {
        RunState::Running { since } => *since,
        _ => None,
    }
}

/// The maximum number of characters of a task's name and of the server's status in the table.
const NAME: usize = 24;
/// The maximum number of characters of what a run waits for.
const WHY: usize = 200;

/// Formats the lines as a table. Any text may come from others, so it is kept inside its cell.
pub fn table(lines: &[Line], now: Timestamp) -> String {
    let row = |line: &Line| {
        let since = line.since.map_or(String::new(), |since| age(now.duration_since(since).as_secs()));
        let server = if line.server.is_empty() { "?" } else { &line.server };
        [
            line.run.to_string(),
            line.task.to_string(),
            excerpt_of(&line.name, NAME),
            line.state.into(),
            excerpt_of(server, NAME),
            since,
            excerpt_of(line.why.replace('\n', " ").trim(), WHY),
        ]
    };
    let head = ["RUN", "TASK", "NAME", "STATE", "AT SERVER", "FOR", "WHY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(lines.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..7).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}

fn age(seconds: i64) -> String {
    match seconds {
        ..0 => "0 s".into(),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Task;
    use crate::hub::testing::pending;
    use crate::run_state::{Failure, Starting, WaitsFor};

    fn here(run: u64, run_state: RunState) -> Here {
        Here { run: RunId(run), task: TaskId(1), name: "average".into(), run_state, since: None, place: "pod p".into() }
    }

    fn there(run: u64, status: &str) -> Run {
        Run {
            status: RunStatus::from(status),
            task: Task { id: TaskId(1), name: Some("average".into()), ..pending(run).task },
            ..pending(run)
        }
    }

    #[test]
    fn all_cases() {
        let starting = || {
            RunState::Starting(Starting {
                since: None,
                waits_for: WaitsFor::Machine,
                detail: "no machine has room".into(),
            })
        };
        let running = || RunState::Running { since: None };
        let ended = || RunState::Ended(Exit::with_code(0));
        let failed = || RunState::Failed(Failure::new(RunStatus::Crashed, "m", "its pod was evicted"));
        let heard = |status: &str| Server::Open(vec![there(7, status)]);
        let silent = || Server::Silent("it is away".into());
        let away = || Server::Open(vec![]);
        for (run_state, server, state, at_server, why) in [
            (starting(), heard("initializing"), "starting", "initializing", "no machine has room"),
            (running(), heard("active"), "running", "active", ""),
            (running(), silent(), "running", "", ""),
            (running(), heard("killed by user"), "to end", "killed by user", "requested to kill it"),
            (running(), away(), "to end", "ended", "has ended at the server"),
            (ended(), heard("active"), "waits", "active", "in pod p for the node"),
            (ended(), silent(), "waits", "", "in pod p for the server"),
            (failed(), silent(), "waits", "", "the node will report it as crashed: its pod was evicted"),
            (RunState::Absent, heard("pending"), "", "", ""),
        ] {
            let lines = lines(vec![here(7, run_state.clone())], &server);
            if state.is_empty() {
                assert!(lines.is_empty(), "{lines:?}");
                continue;
            }
            let [line] = &lines[..] else { panic!("{lines:?}") };
            assert_eq!((line.state, line.server.as_str()), (state, at_server), "{run_state:?}");
            assert!(line.why.contains(why), "{line:?}");
        }
        for (status, why) in
            [("pending", "not started yet"), ("active", "nothing of it exists here"), ("killed by user", "to kill it")]
        {
            let lines = lines(vec![], &heard(status));
            assert_eq!(lines[0].state, "open");
            assert!(lines[0].why.contains(why), "{lines:?}");
        }
        assert!(lines(vec![here(7, RunState::Released)], &heard("active")).is_empty());
    }

    #[test]
    fn a_table_that_can_be_read() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let mut line =
            lines(vec![here(7, RunState::Running { since: None })], &Server::Silent(String::new())).remove(0);
        line.since = Timestamp::from_second(1_000_000 - 300).ok();
        let text = table(&[line], now);
        assert_eq!(
            text,
            "RUN  TASK  NAME     STATE    AT SERVER  FOR    WHY\n7    1     average  running  ?          5 min\n"
        );
    }

    #[test]
    fn nobodys_text_leaves_its_cell() {
        let mut line =
            lines(vec![here(7, RunState::Running { since: None })], &Server::Silent(String::new())).remove(0);
        line.name = "a\u{1b}[2J\nb\u{202e}".into();
        line.server = format!("pending\u{1b}]0;owned\u{7}{}", "x".repeat(1000));
        line.why = format!("mount /var/lib\r\n\u{9b}2J{}", "/x".repeat(1000));
        let text = table(&[line], Timestamp::UNIX_EPOCH);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.replace('\n', "").chars().any(printable::is_deceptive), "{text:?}");
        assert!(text.contains(r"a\u{1b}[2J\nb\u{202e}") && text.contains(r"mount /var/lib\r \u{9b}2J/x/x"), "{text}");
        assert!(text.lines().all(|row| row.chars().count() < 320), "{text}");
    }

    #[test]
    fn ages_are_told_as_people_do() {
        for (seconds, expected) in [(-3, "0 s"), (5, "5 s"), (150, "2 min"), (7_300, "2 h"), (200_000, "2 d")] {
            assert_eq!(age(seconds), expected);
        }
    }
}
