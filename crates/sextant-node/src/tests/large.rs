//! Results that the server can't store: they keep no slot, and the researcher learns the reason.

use super::*;

const LARGE: usize = 2 * 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn a_result_that_the_server_fails_to_store_keeps_nobody_waiting_and_is_given_up() {
    let node = Node::with(&[], Some(1));
    node.hub.stores(LARGE - 1);
    node.runtime.writes(vec![b'x'; LARGE]);
    node.track(ended());
    node.wait_for("finish 7").await;
    // The next one begins at once.
    let next = pending(8);
    node.hub.put(next.clone());
    node.registry.track(next);
    sleep(Duration::from_secs(5)).await;
    assert!(node.count("launch 8") > 0 && node.hub.report(RUN).is_none(), "{:?}", node.all());
    let report = node.hub.reported(RUN).await;
    assert_eq!((report.status, report.result), (RunStatus::Failed, None));
    for says in [
        "The result (2097152 bytes)",
        "failed each of 8 times",
        "most likely the result is larger",
        "return less, or ask the server's administrator",
    ] {
        assert!(report.log.contains(says), "{}", report.log);
    }
    node.wait_for("release 7").await;
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_while_the_server_fails_at_everything_or_at_what_is_small() {
    for (length, fails_at_all) in [(LARGE, true), (100, false)] {
        let node = Node::with(&[], Some(1));
        node.runtime.writes(vec![b'x'; length]);
        if fails_at_all {
            node.hub.fail("finish", Fault::Status(500, true));
            node.hub.fail("status", Fault::Status(500, true));
        } else {
            node.hub.stores(10);
        }
        node.track(ended());
        sleep(Duration::from_secs(3600)).await;
        assert!(node.count("finish 7") > 20 && node.hub.report(RUN).is_none());
        assert!(node.registry.context.slots.as_ref().unwrap().has_free());
        node.hub.heal("finish");
        node.hub.heal("status");
        node.hub.stores(LARGE);
        let report = node.hub.reported(RUN).await;
        assert_eq!((report.status, report.result.map(|result| result.len())), (RunStatus::Completed, Some(length)));
    }
}

/// Something before the server, such as one that restarts, says nothing of the result.
#[tokio::test(start_paused = true)]
async fn a_result_is_kept_while_something_before_the_server_says_that_it_is_away() {
    let node = Node::with(&[], Some(1));
    node.runtime.writes(vec![b'x'; LARGE]);
    node.hub.fail("finish", Fault::Status(502, false));
    node.track(ended());
    sleep(Duration::from_secs(3600)).await;
    assert!(node.hub.report(RUN).is_none() && node.registry.context.slots.as_ref().unwrap().has_free());
    node.hub.heal("finish");
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
}

/// An algorithm that can't be stopped still runs.
#[tokio::test(start_paused = true)]
async fn what_still_runs_keeps_its_slot() {
    let node = Node::with(&[], Some(1));
    node.runtime.stops(false);
    node.hub.fail("finish", Fault::Away);
    node.track(running());
    node.registry.kill(None);
    sleep(Duration::from_secs(300)).await;
    assert!(!node.registry.context.slots.as_ref().unwrap().has_free());
    node.runtime.stops(true);
    sleep(Duration::from_secs(300)).await;
    assert!(node.registry.context.slots.as_ref().unwrap().has_free());
}
