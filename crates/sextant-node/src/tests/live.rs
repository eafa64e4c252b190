//! Live logs: what the server has of a log while the algorithm runs, and that none of it gets into the final log.

use super::*;
use sextant_core::hub::Hub as _;

use crate::live_log::FOLLOWED;

/// A node at a server that keeps live logs, with a run that it has just launched.
async fn node_with_run() -> Node {
    let node = Node::new();
    node.hub.keeps_live_logs();
    launched(&node).await;
    node
}

async fn launched(node: &Node) {
    launched_as(node, pending(RUN.0)).await;
}

async fn launched_as(node: &Node, run: Run) {
    node.runtime.set(RUN, starting());
    node.hub.put(run.clone());
    node.registry.track(run);
    node.wait_for("status 7").await;
    node.runtime.set(RUN, running());
    sleep(Duration::from_secs(1)).await;
}

async fn after(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn lines_reach_the_server_while_the_algorithm_runs_and_the_report_replaces_them() {
    let node = node_with_run().await;
    node.runtime.prints_live(RUN, b"one\ntw");
    after(2).await;
    assert_eq!(node.hub.log(RUN), "one\n");
    node.runtime.prints_live(RUN, b"o\n[sextant] three\n");
    after(2).await;
    assert_eq!(node.hub.log(RUN), "one\ntwo\n> [sextant] three\n");
    // Nothing else is told of the run, which would empty the log.
    assert_eq!(node.count("status 7"), 2, "{:?}", node.all());
    node.runtime.set(RUN, ended());
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.log, "the algorithm's words\n");
    node.done().await;
    assert_eq!(node.runtime.followed(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_reaches_the_server_before_the_report() {
    for kill in [false, true] {
        let node = node_with_run().await;
        node.hub.fail("append", Fault::Silent);
        node.runtime.prints_live(RUN, b"one\n");
        node.wait_for("append 7").await;
        if kill {
            node.registry.kill(None);
        } else {
            node.runtime.set(RUN, ended());
        }
        let report = node.hub.reported(RUN).await;
        assert!(report.log.starts_with("the algorithm's words\n"), "{}", report.log);
        after(60).await;
        assert!(!node.hub.report(RUN).unwrap().log.contains("one"), "{:?}", node.hub.report(RUN));
        // The algorithm is stopped at once.
        let all = node.all();
        let place = |call: &str| all.iter().position(|known| known == call);
        assert_eq!(place("stop 7").is_some_and(|stop| place("finish 7").unwrap() > stop), kill, "{all:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_do_not_get_out() {
    let node = Node::new();
    node.hub.keeps_live_logs();
    let mut run = pending(RUN.0);
    run.task.databases = vec![RequestedDatabase { label: "omop".into(), parameters: None, left_out: None }];
    launched_as(&node, run).await;
    for piece in ["password: hun", "ter-2", "\nnext\n"] {
        node.runtime.prints_live(RUN, piece.as_bytes());
        after(5).await;
        assert!(!node.hub.log(RUN).contains("hun"));
    }
    assert_eq!(node.hub.log(RUN), "password: ***\nnext\n");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_finds_a_run_under_way_replaces_what_an_earlier_one_has_sent() {
    let node = Node::new();
    node.hub.keeps_live_logs();
    node.runtime.prints_live(RUN, b"one\ntwo\n");
    node.track(running());
    after(1).await;
    // Sent by the earlier process, which was killed before it has sent the rest.
    let of =
        sextant_core::hub::LogOf { run: RUN, task: pending(7).task.id, collaboration: pending(7).task.collaboration };
    sextant_core::hub::Hub::append_log(&*node.hub, of, "one\n").await.unwrap();
    after(3).await;
    assert_eq!((node.hub.log(RUN).as_str(), node.count("replace 7")), ("one\ntwo\n", 1));
    node.runtime.prints_live(RUN, b"three\n");
    after(3).await;
    assert_eq!((node.hub.log(RUN).as_str(), node.count("replace 7")), ("one\ntwo\nthree\n", 1));
    assert_eq!(node.count("status 7"), 0);
}

#[tokio::test(start_paused = true)]
async fn lines_wait_while_the_connection_is_away() {
    let node = node_with_run().await;
    node.hub.fail("append", Fault::Away);
    for line in ["one\n", "two\n", "three\n"] {
        node.runtime.prints_live(RUN, line.as_bytes());
        after(20).await;
    }
    assert_eq!(node.hub.log(RUN), "");
    node.hub.heal("append");
    after(10).await;
    assert_eq!((node.hub.log(RUN).as_str(), node.count("replace 7")), ("one\ntwo\nthree\n", 0));
}

#[tokio::test(start_paused = true)]
async fn lines_that_may_have_arrived_are_not_repeated() {
    let node = node_with_run().await;
    node.hub.fail("append", Fault::Broken);
    node.runtime.prints_live(RUN, b"one\n");
    after(2).await;
    node.hub.heal("append");
    node.runtime.prints_live(RUN, b"two\n");
    after(10).await;
    assert_eq!((node.hub.log(RUN).as_str(), node.count("replace 7")), ("one\ntwo\n", 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_followed_where_it_must_not_or_can_not_be() {
    // A server without live logs.
    let node = Node::new();
    launched(&node).await;
    node.runtime.prints_live(RUN, b"one\n");
    after(60).await;
    assert_eq!((node.count("follow 7"), node.count("append 7")), (0, 0));
    // One that does not say; it is asked again.
    let node = Node::new();
    node.hub.keeps_live_logs();
    node.hub.fail("version", Fault::Away);
    launched(&node).await;
    node.runtime.prints_live(RUN, b"one\n");
    after(30).await;
    assert_eq!(node.count("follow 7"), 0);
    node.hub.heal("version");
    after(60).await;
    assert_eq!(node.hub.log(RUN), "one\n");
    // A node whose owner does not share logs.
    let node = Node::that_shares_no_logs();
    node.hub.keeps_live_logs();
    launched(&node).await;
    node.runtime.prints_live(RUN, b"one\n");
    after(60).await;
    assert_eq!((node.count("follow 7"), node.count("append 7")), (0, 0));
    node.runtime.set(RUN, ended());
    assert_eq!(node.hub.reported(RUN).await.log, "Node does not allow sharing algorithm logs");
}

#[tokio::test(start_paused = true)]
async fn as_many_are_followed_as_may_be_and_the_others_later() {
    let node = Node::new();
    node.hub.keeps_live_logs();
    let runs = 100..300u64;
    for id in runs.clone() {
        let run = Run { status: RunStatus::Active, started_at: Some(Timestamp::UNIX_EPOCH), ..pending(id) };
        node.runtime.set(RunId(id), running());
        node.runtime.prints_live(RunId(id), b"one\n");
        node.hub.put(run.clone());
        node.registry.track(run);
    }
    after(60).await;
    assert_eq!(node.runtime.followed(), FOLLOWED);
    let sent = |node: &Node| runs.clone().filter(|&id| node.hub.log(RunId(id)) == "one\n").count();
    assert_eq!(sent(&node), FOLLOWED);
    let followed: Vec<u64> = runs.clone().filter(|&id| node.hub.log(RunId(id)) == "one\n").collect();
    for id in &followed[..10] {
        node.runtime.set(RunId(*id), ended());
        node.hub.reported(RunId(*id)).await;
    }
    after(60).await;
    assert_eq!((node.runtime.followed(), sent(&node)), (FOLLOWED, FOLLOWED + 10));
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_sent_at_a_limited_rate() {
    let node = node_with_run().await;
    node.runtime.prints_live(RUN, &b"a line of the flood\n".repeat(200_000));
    after(60).await;
    let sent = node.count("append 7") + node.count("replace 7");
    // Twice a second, while it is read.
    assert!((30..=40).contains(&sent), "{sent}");
    let log = node.hub.log(RUN);
    assert!(log.len() < 600_000 && log.starts_with("[sextant] The log was longer"), "{}", log.len());
    // It is over at once, however much waits.
    node.registry.kill(None);
    after(10).await;
    assert_eq!(node.hub.report(RUN).unwrap().status, RunStatus::Killed);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_ended_at_the_server_is_followed_no_more() {
    let node = Node::new();
    node.hub.keeps_live_logs();
    node.track(running());
    node.hub.put(Run { finished_at: Some(Timestamp::now()), ..pending(RUN.0) });
    node.wait_for("replace 7").await;
    node.runtime.prints_live(RUN, b"one\n");
    after(30).await;
    assert_eq!((node.runtime.followed(), node.count("append 7")), (0, 0));
}

/// A process that another one has taken over from sends nothing more.
#[tokio::test(start_paused = true)]
async fn only_the_leader_sends() {
    let node = node_with_run().await;
    node.registry.context.leadership.step_down("another process".into());
    node.runtime.prints_live(RUN, b"one\n");
    after(60).await;
    assert_eq!((node.count("append 7"), node.count("replace 7")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_how_busy_the_node_is_by_the_leader_alone() {
    let node = Node::new();
    for (id, run_state) in [(100, running()), (101, running()), (102, ended()), (103, starting())] {
        node.runtime.set(RunId(id), run_state);
    }
    let leadership = node.registry.context.leadership.clone();
    let rest = async {
        after(100).await;
        let metrics = node.hub.metrics();
        assert_eq!(metrics.iter().map(|metrics| metrics.algorithms).collect::<Vec<_>>(), [2, 2]);
        assert!(metrics[1].memory_total > 0 && metrics[1].cpu_count > 0);
        leadership.step_down("another process".into());
        after(100).await;
        assert_eq!(node.hub.metrics().len(), 2);
    };
    tokio::select! {
        () = rest => {}
        never = crate::machine_metrics::report(&node.registry.context, node.registry.context.report_metrics) => match never {},
    }
}

/// A sibling has failed on a server since 4.14, which marks the runs of its task that have not begun, and tells nobody.
#[tokio::test(start_paused = true)]
async fn a_run_that_failed_with_its_sibling_while_it_waited_is_dropped_quietly() {
    let node = Node::with(&[], Some(1));
    let slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None);
    node.track(RunState::Absent);
    after(10).await;
    let failed = Run { status: RunStatus::Failed, finished_at: Some(Timestamp::now()), ..pending(RUN.0) };
    node.hub.put(failed);
    // The next poll lacks it.
    node.registry.request_refresh(RUN);
    after(10).await;
    assert!(!node.registry.contains(RUN));
    drop(slot);
    after(60).await;
    assert_eq!((node.count("launch 7"), node.count("finish 7"), node.count("status 7")), (0, 0, 0), "{:?}", node.all());
}

/// A regular node reports the start before it looks at anything else; a run that has one is not failed with its siblings.
#[tokio::test(start_paused = true)]
async fn the_start_of_a_run_that_waits_is_reported_within_a_second() {
    for slots in [None, Some(1)] {
        let node = Node::with(&[], slots);
        let slot = node.registry.context.slots.as_ref().map(|slots| slots.try_acquire(None));
        let began = Timestamp::now();
        let (runtime, registry) = (Arc::downgrade(&node.runtime), node.registry.clone());
        tokio::spawn(async move { match registry.context.early_starts.run().await {} });
        node.runtime.launches(move || {
            runtime.upgrade().unwrap().set(RUN, starting());
            Ok(())
        });
        node.track(RunState::Absent);
        if slots.is_some() {
            after(60).await;
        }
        let known = node.hub.run(RUN).await.unwrap().started_at;
        assert_eq!(known.is_some(), slots.is_some());
        drop(slot);
        node.wait_for("status 7").await;
        let at = node.hub.run(RUN).await.unwrap().started_at.unwrap();
        assert!(at >= began && known.is_none_or(|known| known == at));
        after(60).await;
        assert_eq!(node.count("started 7"), slots.map_or(0, |_| 1), "{:?}", node.all());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_not_told_of_each_start() {
    let node = Node::with(&[], Some(1));
    let _slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None);
    node.hub.fail("started", Fault::Away);
    let registry = node.registry.clone();
    tokio::spawn(async move { match registry.context.early_starts.run().await {} });
    for id in 1..=100 {
        let run = pending(id);
        node.hub.put(run.clone());
        node.registry.track(run);
    }
    after(20).await;
    let asked = node.all().iter().filter(|call| call.starts_with("started")).count();
    assert!((2..=5).contains(&asked), "{asked} requests");
}
