//! Tests the node between a server and a runtime that fail on demand, in paused time. Each failure takes about thirty lines.

mod inputs;
mod large;
mod lines;
mod live;
mod memory;
mod metrics;
mod oversized;
mod policies;
mod reused;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use sextant_core::hub::testing::{ASKING, FakeHub, Fault, me, pending};
use sextant_core::hub::{RequestedDatabase, Run};
use sextant_core::leadership::Leadership;
use sextant_core::masks::{Masks, Secrets};
use sextant_core::pod_issue::{IssueKind, PodIssue};
use sextant_core::policies::Policies;
use sextant_core::registries::testing::FakeRegistries;
use sextant_core::run_state::{Exit, Failure, Limits, RunState, Starting, WaitsFor};
use sextant_core::runtime::LaunchError;
use sextant_core::runtime::testing::FakeRuntime;
use sextant_metrics::Metrics;
use tokio::time::sleep;
use vantage6_types::{OrganizationId, RunId, RunStatus};

use super::registry::Registry;
use super::report::{KEPT_LOGS, LOGS};
use super::{Context, Parts, RunInputs, Settings, sync};

const RUN: RunId = RunId(7);

/// A node with its two ports.
struct Node {
    hub: Arc<FakeHub>,
    runtime: Arc<FakeRuntime>,
    registries: Arc<FakeRegistries>,
    registry: Arc<Registry>,
    metrics: Metrics,
}

impl Node {
    fn new() -> Self {
        Self::with(&[], None)
    }

    /// With tasks of these organizations only, unless there are none, and so many runs at once.
    fn with(allowed_organizations: &[&str], max_concurrent_runs: Option<usize>) -> Self {
        let allowed_organizations = allowed_organizations.iter().map(ToString::to_string).collect();
        Self::under(Policies { allowed_organizations, ..Policies::default() }, max_concurrent_runs)
    }

    /// With these policies.
    fn under(policies: Policies, max_concurrent_runs: Option<usize>) -> Self {
        Self::sharing(policies, max_concurrent_runs, true)
    }

    /// Whose owner does not share logs.
    fn that_shares_no_logs() -> Self {
        Self::sharing(Policies::default(), None, false)
    }

    fn sharing(policies: Policies, max_concurrent_runs: Option<usize>, share_algorithm_logs: bool) -> Self {
        let hub = Arc::new(FakeHub::default());
        let runtime = Arc::new(FakeRuntime::new(hub.journal.clone()));
        let registries = Arc::new(FakeRegistries::default());
        let leadership = Arc::new(Leadership::default());
        leadership.extend(Duration::MAX);
        let metrics = Metrics::default();
        let parts = Parts {
            hub: hub.clone(),
            events: futures::stream::pending().boxed(),
            me: me(),
            runtime: runtime.clone(),
            registries: registries.clone(),
            run_inputs: Arc::new(RunInputs::new(hub.clone())),
            settings: Settings {
                policies,
                share_algorithm_logs,
                report_metrics: Some(Duration::from_secs(45)),
                shares_tmp: true,
                info: None,
                limits: Limits {
                    pending: Duration::from_secs(3600),
                    image_pull: Duration::from_secs(600),
                    deadline: Duration::from_secs(86_400),
                    retry_disrupted: 0,
                    output: None,
                },
                max_concurrent_runs: max_concurrent_runs.and_then(NonZeroUsize::new),
                masks: Masks::new(secrets()).unwrap(),
            },
            health: Arc::default(),
            metrics: metrics.node(|| true),
            leadership,
        };
        let (context, _) = Context::new(parts);
        let registry = Arc::new(Registry::new(context));
        Self { hub, runtime, registries, registry, metrics }
    }

    /// Has a run of this node that is there already, in this state.
    fn track(&self, run_state: RunState) {
        let mut run = pending(RUN.0);
        if run_state != RunState::Absent {
            run.status = RunStatus::Active;
            run.started_at = Some(Timestamp::UNIX_EPOCH);
        }
        self.runtime.set(RUN, run_state);
        self.hub.put(run.clone());
        self.registry.track(run);
    }

    async fn wait_for(&self, call: &str) {
        self.hub.journal.wait_for(call).await;
    }

    fn count(&self, call: &str) -> usize {
        self.hub.journal.count(call)
    }

    fn all(&self) -> Vec<String> {
        self.hub.journal.all()
    }

    /// The run's reconciler has ended.
    async fn done(&self) {
        for _ in 0..10_000 {
            if !self.registry.contains(RUN) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("the run goes on: {:?}", self.all());
    }
}

/// Of one of the node's databases.
fn secrets() -> Secrets {
    Secrets { common: vec![], of_databases: [("omop".to_owned(), vec!["hunter-2".to_owned()])].into() }
}

fn running() -> RunState {
    RunState::Running { since: Some(Timestamp::now()) }
}

fn ended() -> RunState {
    RunState::Ended(Exit { code: 0, note: None, reason: "AlgorithmEnded" })
}

fn starting() -> RunState {
    let since = Some(Timestamp::now());
    RunState::Starting(Starting { since, waits_for: WaitsFor::Container, detail: String::new() })
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_cluster_does_not_allow_is_reported_within_seconds() {
    let node = Node::new();
    let text = "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: return";
    let failure = Failure::new(RunStatus::StartFailed, "The cluster's rules do not allow the run.", text);
    let kind = IssueKind::Permanent(failure);
    node.runtime.reports_issue(PodIssue { text: text.into(), kind, at: None });
    let since = Some(Timestamp::now());
    node.track(RunState::Starting(Starting { since, waits_for: WaitsFor::Pod, detail: "made".into() }));
    sleep(Duration::from_secs(4)).await;
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.status, RunStatus::StartFailed);
    assert!(report.log.contains("rules do not allow the run") && !report.log.contains("quota: q"), "{}", report.log);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_has_that_made_which_nobody_needs() {
    for (waits_for, made) in [(WaitsFor::Machine, true), (WaitsFor::Quota, true), (WaitsFor::Pull, false)] {
        let node = Node::new();
        let since = Some(Timestamp::now());
        node.track(RunState::Starting(Starting { since, waits_for, detail: "full".into() }));
        sleep(Duration::from_secs(20)).await;
        assert_eq!(node.count("make room 0") > 0, made, "{waits_for:?} {:?}", node.all());
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_stops_the_algorithm_although_the_server_is_away() {
    let node = Node::new();
    node.hub.fail("finish", Fault::Away);
    node.hub.fail("run", Fault::Away);
    node.track(running());
    sleep(Duration::from_secs(1)).await;
    node.registry.kill(None);
    node.wait_for("stop 7").await;
    assert_eq!(node.all()[0], "stop 7");
    sleep(Duration::from_secs(600)).await;
    assert!(node.hub.report(RUN).is_none());
    node.hub.heal("finish");
    node.hub.heal("run");
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.status, RunStatus::Killed);
    // Read at once, and kept: the pod is gone long since.
    assert!(report.log.starts_with("the algorithm's words\n"), "{}", report.log);
    assert_eq!((node.count("stop 7"), node.count("log 7")), (1, 1));
    node.wait_for("release 7").await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_and_the_deadline_stop_the_algorithm_although_others_logs_take_all_memory() {
    for (run_state, status) in
        [(running(), RunStatus::Killed), (RunState::Running { since: Some(Timestamp::UNIX_EPOCH) }, RunStatus::Crashed)]
    {
        let node = Node::new();
        let logs = node.registry.context.logs.clone();
        let _taken = logs.acquire_many_owned(u32::try_from(LOGS).unwrap()).await.unwrap();
        node.track(run_state);
        if status == RunStatus::Killed {
            node.registry.kill(None);
        }
        node.wait_for("stop 7").await;
        let report = node.hub.reported(RUN).await;
        assert_eq!(report.status, status);
        assert!(report.log.contains("The algorithm's log could not be read."), "{}", report.log);
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_stopped_now_is_reported_and_stopped_again() {
    let node = Node::new();
    node.runtime.stops(false);
    node.hub.fail("finish", Fault::Away);
    node.track(running());
    node.registry.kill(None);
    sleep(Duration::from_secs(300)).await;
    assert!(node.count("stop 7") > 2 && node.count("finish 7") > 2, "{:?}", node.all());
    node.hub.heal("finish");
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Killed);
    node.wait_for("release 7").await;
}

#[tokio::test(start_paused = true)]
async fn another_organizations_run_is_never_launched_whatever_its_number() {
    let theirs = || Run { organization: OrganizationId(99), ..pending(RUN.0) };
    // What is left of ours that was deleted, and its number is theirs now.
    let node = Node::new();
    node.runtime.set(RUN, running());
    node.hub.put(theirs());
    sync::release_orphan(&node.registry, theirs().task.id, RUN).await;
    assert_eq!(node.all(), ["run 7", "release 7"]);
    // A server that lists it, for whatever reason.
    let node = Node::new();
    node.hub.put(theirs());
    node.registry.track(theirs());
    sleep(Duration::from_secs(60)).await;
    assert!(node.all().is_empty(), "{:?}", node.all());
    // Ours is under way, is deleted, and its number becomes theirs, assigned in the same moment.
    let node = Node::new();
    node.track(running());
    sleep(Duration::from_secs(1)).await;
    node.hub.put(Run { status: RunStatus::Active, ..theirs() });
    node.registry.request_refresh(RUN);
    node.done().await;
    assert_eq!((node.count("release 7"), node.count("launch 7"), node.count("finish 7")), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_before_the_output_is_asked_for() {
    let node = Node::new();
    let logs = node.registry.context.logs.clone();
    let taken = logs.clone().acquire_many_owned(u32::try_from(LOGS).unwrap()).await.unwrap();
    node.track(ended());
    sleep(Duration::from_secs(300)).await;
    // No pod holds a connection open meanwhile.
    assert_eq!(node.count("collect 7"), 0);
    drop(taken);
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
    let order: Vec<String> =
        node.all().into_iter().filter(|call| call.starts_with("log") || call.starts_with("collect")).collect();
    assert_eq!(order, ["log 7", "collect 7"]);
    assert_eq!(logs.available_permits(), LOGS);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_taken_over_while_it_reads_a_log_reports_nothing() {
    let node = Node::new();
    let leadership = node.registry.context.leadership.clone();
    node.runtime.on_log(move || leadership.step_down("another process".into()));
    node.track(ended());
    node.wait_for("log 7").await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!((node.count("finish 7"), node.count("release 7")), (0, 0), "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_server_can_not_describe_any_more_is_reported_all_the_same() {
    let node = Node::with(&[], Some(1));
    node.hub.fail("run", Fault::Broken);
    node.track(running());
    sleep(Duration::from_secs(1)).await;
    node.registry.request_refresh(RUN);
    sleep(Duration::from_secs(300)).await;
    // It is asked again after the next poll of all runs, not before.
    assert_eq!(node.count("run 7"), 1, "{:?}", node.all());
    node.runtime.set(RUN, ended());
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
    node.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_this_node_may_not_see_any_more_is_released() {
    let node = Node::with(&[], Some(1));
    node.hub.fail("run", Fault::Status(401, true));
    node.track(running());
    for _ in 0..2 {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(node.count("release 7"), 0);
        node.registry.request_refresh(RUN);
    }
    node.done().await;
    assert_eq!((node.count("release 7"), node.count("run 7")), (1, 2));
    // Something before the server says so, too, while that is being replaced: this means nothing.
    let node = Node::new();
    node.hub.fail("run", Fault::Status(403, false));
    node.track(running());
    for _ in 0..5 {
        sleep(Duration::from_secs(60)).await;
        node.registry.request_refresh(RUN);
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.count("release 7"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_read_before_the_report_launches_nothing() {
    let node = Node::new();
    node.track(ended());
    node.done().await;
    // As with `keep_finished: 0s`, or in the local runtime: nothing is left of it.
    node.runtime.set(RUN, RunState::Absent);
    node.registry.track(pending(RUN.0));
    node.done().await;
    assert_eq!(node.count("launch 7"), 0, "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn why_a_launch_failed_is_kept_until_the_server_has_it() {
    let node = Node::new();
    node.hub.fail("finish", Fault::Away);
    node.runtime.launches(|| {
        let why = "What the task says of its databases is too large.";
        Err(LaunchError::Failed(Failure::new(RunStatus::StartFailed, why, "the API server refused the run's Secret")))
    });
    node.track(RunState::Absent);
    node.wait_for("finish 7").await;
    // Its Job was made, and waits for the Secret.
    node.runtime.set(RUN, starting());
    sleep(Duration::from_secs(60)).await;
    node.hub.heal("finish");
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.status, RunStatus::StartFailed);
    assert_eq!(report.log, "[sextant] What the task says of its databases is too large.");
}

/// The process that launched it was killed before the server took the report.
#[tokio::test(start_paused = true)]
async fn why_a_launch_failed_is_reported_by_the_next_process_too() {
    let why = "The cluster does not take the run's Secret.";
    for (starts, status, log) in [
        (false, RunStatus::StartFailed, "[sextant] The cluster does not take the run's Secret."),
        // Of what has started all the same it is no reason.
        (true, RunStatus::Completed, "the algorithm's words\n"),
    ] {
        let node = Node::new();
        node.runtime.launches(move || {
            let detail = "the API server refused the run's Secret: no";
            Err(LaunchError::Failed(Failure::new(RunStatus::StartFailed, why, detail).because("Forbidden")))
        });
        let since = Some(if starts { Timestamp::now() } else { Timestamp::UNIX_EPOCH });
        let waits = Starting { since, waits_for: WaitsFor::OwnContainer, detail: "secret \"x\" not found".into() };
        node.track(RunState::Starting(waits));
        node.wait_for("launch 7").await;
        if starts {
            sleep(Duration::from_secs(1)).await;
            node.runtime.set(RUN, ended());
        }
        let report = node.hub.reported(RUN).await;
        assert_eq!((report.status, report.log.as_str()), (status, log));
    }
}

fn subtask() -> Run {
    let mut run = pending(RUN.0);
    run.task.parent = Some(vantage6_types::TaskId(4));
    run
}

#[tokio::test(start_paused = true)]
async fn the_first_task_of_a_subtask_is_known_before_its_folder_is_made() {
    let node = Node::new();
    node.hub.fail("task_origin", Fault::Away);
    node.hub.put(subtask());
    node.registry.track(subtask());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.count("launch 7"), 0, "the server is waited for: {:?}", node.all());
    node.hub.heal("task_origin");
    node.wait_for("launch 7").await;
    assert_eq!(node.runtime.launched()[0].first.task, vantage6_types::TaskId(4));
    // A first task costs no question.
    let node = Node::new();
    node.track(RunState::Absent);
    node.wait_for("launch 7").await;
    assert_eq!(node.runtime.launched()[0].first.task, pending(RUN.0).task.id);
    assert_eq!(node.count("task_origin 4"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_left_a_list_without_end_is_asked_about() {
    let node = Node::new();
    node.track(running());
    sleep(Duration::from_secs(1)).await;
    node.hub.put(Run { finished_at: Some(Timestamp::now()), ..pending(RUN.0) });
    node.hub.fail("list", Fault::Away);
    assert_eq!(sync::sync_runs(&node.registry, None).await.unwrap(), sync::Coverage::Partial);
    node.done().await;
    assert_eq!(node.count("release 7"), 1, "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_when_something_changes_and_old_failures_are_forgotten() {
    let node = Node::new();
    node.hub.fail("status", Fault::Away);
    node.track(starting());
    // The pauses have become long.
    sleep(Duration::from_secs(1800)).await;
    let tries = node.count("status 7");
    assert!(tries < 100, "{tries}");
    node.runtime.set(RUN, ended());
    sleep(Duration::from_secs(2)).await;
    assert!(node.hub.report(RUN).is_some(), "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_after_a_success_does_not_wait_as_long_as_what_went_wrong_before() {
    let node = Node::new();
    node.hub.fail("status", Fault::Away);
    node.track(starting());
    sleep(Duration::from_secs(1800)).await;
    node.hub.heal("status");
    // The longest pause, and less than what has nothing to do with it any more.
    sleep(Duration::from_secs(70)).await;
    node.hub.fail("finish", Fault::Away);
    node.runtime.set(RUN, ended());
    sleep(Duration::from_secs(3)).await;
    assert!(node.hub.report(RUN).is_none());
    node.hub.heal("finish");
    sleep(Duration::from_secs(5)).await;
    assert!(node.hub.report(RUN).is_some(), "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waited_for_a_slot_is_admitted_again_when_it_has_one() {
    let node = Node::with(&["Trusted"], Some(1));
    node.hub.name(ASKING, "Trusted");
    let slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None);
    node.track(RunState::Absent);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.count("launch 7"), 0);
    node.hub.name(ASKING, "Somebody else");
    drop(slot);
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::NotAllowed);
    assert_eq!(node.count("launch 7"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_while_a_run_waits_for_a_slot_changes_nothing() {
    let node = Node::with(&["Trusted"], Some(1));
    node.hub.name(ASKING, "Trusted");
    node.hub.fail("organization", Fault::Away);
    let slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None);
    node.track(RunState::Absent);
    sleep(Duration::from_secs(60)).await;
    node.hub.heal("organization");
    drop(slot);
    node.wait_for("launch 7").await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_for_what_is_before_the_server_closes_its_run() {
    let node = Node::with(&[], Some(1));
    node.hub.limit(27);
    node.track(ended());
    sleep(Duration::from_secs(600)).await;
    // Neither with the result, nor with the log, nor with the reason: its slot is free all the same.
    assert!(node.hub.report(RUN).is_none());
    assert!(node.registry.context.slots.as_ref().unwrap().has_free());
    assert!(node.count("finish 7") < 40, "{}", node.count("finish 7"));
    node.hub.limit(1000);
    let report = node.hub.reported(RUN).await;
    assert_eq!((report.status, report.result), (RunStatus::Failed, None));
    assert!(report.log.contains("The result (6 bytes) could not be delivered."), "{}", report.log);
    assert!(report.log.contains("HTTP 413"), "{}", report.log);
    node.done().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_does_not_answer_at_all_keeps_nothing_from_being_stopped() {
    let node = Node::new();
    node.hub.fail("run", Fault::Silent);
    node.track(running());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.count("stop 7"), 0);
    node.registry.kill(None);
    node.wait_for("stop 7").await;
}

#[tokio::test(start_paused = true)]
async fn logs_of_stopped_runs_that_the_server_does_not_take_keep_no_result_from_being_reported() {
    let node = Node::new();
    node.runtime.prints(&b"a line of many, and longer than most of them are\n".repeat(30_000));
    node.hub.fail("finish", Fault::Status(500, true));
    let stopped = 100..130;
    for id in stopped.clone() {
        let run = Run { status: RunStatus::Active, started_at: Some(Timestamp::UNIX_EPOCH), ..pending(id) };
        node.runtime.set(RunId(id), RunState::Running { since: Some(Timestamp::UNIX_EPOCH) });
        node.hub.put(run.clone());
        node.registry.track(run);
    }
    sleep(Duration::from_secs(300)).await;
    assert!(stopped.clone().all(|id| node.count(&format!("stop {id}")) == 1));
    // Of others' failed reports it knows nothing.
    node.track(ended());
    node.wait_for("finish 7").await;
    node.hub.heal("finish");
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
    let mut whole = 0;
    for id in stopped {
        let report = node.hub.reported(RunId(id)).await;
        assert_eq!(report.status, RunStatus::Crashed);
        whole += usize::from(report.log.contains("a line of many"));
        assert!(report.log.contains("longer than this node allows"), "{}", report.log);
    }
    assert!((10..30).contains(&whole), "as many as there is memory for: {whole}");
    assert_eq!(node.registry.context.kept_logs.available_permits(), KEPT_LOGS);
    assert_eq!(node.registry.context.logs.available_permits(), LOGS);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_is_launched_after_an_odd_answer_about_it() {
    for fault in [Fault::Status(404, false), Fault::Status(401, true), Fault::Broken, Fault::Away] {
        let node = Node::with(&[], Some(1));
        let slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None);
        node.track(RunState::Absent);
        sleep(Duration::from_secs(1)).await;
        // A list lacked it, because the pages had shifted.
        node.hub.fail("run", fault);
        node.registry.request_refresh(RUN);
        drop(slot);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(node.count("launch 7"), 0, "nothing is begun without the server's word");
        node.hub.heal("run");
        node.wait_for("launch 7").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_passing_now_and_then_ends_no_run() {
    let node = Node::new();
    node.track(running());
    for _ in 0..5 {
        sleep(Duration::from_secs(60)).await;
        node.hub.fail("run", Fault::Status(401, true));
        node.registry.request_refresh(RUN);
        sleep(Duration::from_secs(60)).await;
        node.hub.heal("run");
        node.registry.request_refresh(RUN);
    }
    assert_eq!(node.count("release 7"), 0, "{:?}", node.all());
    // Nor is what an earlier process left released at the first.
    let node = Node::new();
    node.runtime.set(RUN, running());
    node.hub.fail("run", Fault::Status(403, true));
    sync::release_orphan(&node.registry, pending(RUN.0).task.id, RUN).await;
    assert_eq!(node.all(), ["run 7"]);
    sync::release_orphan(&node.registry, pending(RUN.0).task.id, RUN).await;
    assert_eq!(node.all(), ["run 7", "run 7", "release 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_its_events_puts_off_no_deadline() {
    let node = Node::new();
    node.hub.fail("event", Fault::Silent);
    node.track(RunState::Running { since: Some(Timestamp::now()) });
    sleep(Duration::from_secs(5)).await;
    node.registry.kill(None);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node.count("stop 7"), 1, "{:?}", node.all());
}

#[tokio::test(start_paused = true)]
async fn what_a_run_prints_of_the_databases_that_it_got_is_masked() {
    for (label, expected) in [("omop", "***"), ("another", "hunter-2")] {
        let node = Node::new();
        node.runtime.prints(b"hunter-2");
        let mut run = pending(RUN.0);
        run.task.databases = vec![RequestedDatabase { label: label.into(), parameters: None, left_out: None }];
        node.hub.put(run.clone());
        node.runtime.set(RUN, ended());
        node.registry.track(run);
        let report = node.hub.reported(RUN).await;
        assert!(report.log.starts_with(expected), "{label}: {}", report.log);
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_removed_keeps_no_slot_once_the_run_is_reported() {
    for (run_state, frees) in [(ended(), true), (running(), false)] {
        let node = Node::with(&[], Some(1));
        node.runtime.releases(false);
        node.track(run_state);
        if !frees {
            // It may go on for as long as it can't be released.
            let finished_at = Some(Timestamp::now());
            node.hub.put(Run { finished_at, ..pending(RUN.0) });
            node.registry.request_refresh(RUN);
        }
        node.hub.put(pending(8));
        node.registry.track(pending(8));
        sleep(Duration::from_secs(600)).await;
        assert_eq!(node.count("launch 8") > 0, frees, "{:?}", node.all());
        let tries = node.count("release 7");
        sleep(Duration::from_secs(600)).await;
        assert!(node.count("release 7") > tries, "it is tried again");
        node.runtime.releases(true);
        node.done().await;
    }
}
