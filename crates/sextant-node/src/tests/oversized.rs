//! Runs whose data at the server is too large to read.

use super::*;
use crate::sync::sync_runs;

/// Whoever may make tasks can make them too large.
#[tokio::test(start_paused = true)]
async fn what_is_too_large_to_be_read_is_ended_and_hides_nothing() {
    let node = Node::new();
    let theirs = RunId(RUN.0 + 1);
    node.hub.put_oversized(pending(RUN.0));
    node.hub.put_oversized(Run { organization: OrganizationId(9), ..pending(theirs.0) });
    node.hub.put(pending(RUN.0 + 2));
    sync_runs(&node.registry, None).await.unwrap();
    let report = node.hub.report(RUN).unwrap();
    assert_eq!(report.status, RunStatus::StartFailed);
    assert!(report.log.contains("more than 8 bytes"), "{}", report.log);
    node.wait_for("launch 9").await;
    assert_eq!(node.count("launch 7"), 0);
    // Not this organization's: somebody else's to end.
    assert_eq!(node.count("finish 8"), 0);
    // It has left the list.
    sync_runs(&node.registry, None).await.unwrap();
    assert_eq!(node.count("finish 7"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_not_ended_because_its_description_has_grown() {
    let node = Node::new();
    node.runtime.leave(&sextant_core::assignment::Assignment::from(&pending(RUN.0)), running());
    node.hub.put(pending(RUN.0));
    node.registry.track(pending(RUN.0));
    sleep(Duration::from_secs(1)).await;
    node.hub.put_oversized(pending(RUN.0));
    sync_runs(&node.registry, None).await.unwrap();
    assert_eq!(node.count("finish 7"), 0);
    node.runtime.set(RUN, ended());
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
}
