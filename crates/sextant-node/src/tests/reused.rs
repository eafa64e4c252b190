//! Two tasks with the same id and the same time, as on a 4.15.2 server with SQLite: it reuses the ids of deleted tasks and runs, and
//! reports the server's start as the assignment time of every run. Neither task may get what the other one made.

use sextant_core::assignment::Assignment;
use sextant_core::hub::Hub as _;
use sextant_core::run_identity::RunIdentity;
use sextant_core::runtime::{InputSource as _, InputSourceError};

use super::*;
use crate::run_inputs::RunInput;

/// Under way already.
fn first() -> Run {
    Run { status: RunStatus::Active, started_at: Some(Timestamp::UNIX_EPOCH), ..pending(RUN.0) }
}

/// Another task, which was made later and got the numbers of the first one, and its run.
fn second() -> Run {
    let mut run = pending(RUN.0);
    run.task.image = "another".into();
    run.task.init_org = OrganizationId(9);
    run.task.created_at = "2026-01-02T04:00:00Z".parse().ok();
    assert_eq!((run.id, run.task.id, run.assigned_at), (first().id, first().task.id, first().assigned_at));
    run
}

/// Runs the second run to its end, and nothing is taken of the first one's.
async fn goes_its_own_way(node: &Node) {
    for _ in 0..1000 {
        // As each poll of the server's list does.
        node.registry.track(second());
        if node.count("launch 7") > 0 {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(node.count("finish 7"), 0, "{:?}", node.all());
    assert!(
        node.all().iter().position(|call| call == "release 7") < node.all().iter().position(|call| call == "launch 7")
    );
    assert_eq!(node.runtime.launched()[0].image, "another");
    node.runtime.prints(b"the second one's words\n");
    node.runtime.writes("the second one's result");
    node.runtime.set(RUN, ended());
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.status, RunStatus::Completed);
    assert_eq!(report.result.as_deref(), Some(&b"the second one's result"[..]));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_of_one_is_not_reported_for_the_other() {
    for left in [ended(), running(), starting()] {
        let node = Node::new();
        node.runtime.leave(&Assignment::from(&first()), left);
        node.hub.put(second());
        goes_its_own_way(&node).await;
        assert_eq!(node.count("collect 7"), 1, "{:?}", node.all());
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_of_one_does_not_end_the_other() {
    let node = Node::new();
    node.runtime.leave(&Assignment::from(&first()), running());
    node.hub.put(first());
    node.registry.track(first());
    sleep(Duration::from_secs(1)).await;
    node.hub.put(second());
    node.registry.kill(Some(&[RUN].into()));
    node.wait_for("stop 7").await;
    goes_its_own_way(&node).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_is_not_reported_for_the_other() {
    let crashed = || RunState::Failed(Failure::new(RunStatus::Crashed, "gone", "gone").started(true));
    for end in [ended(), crashed()] {
        let node = Node::new();
        node.runtime.leave(&Assignment::from(&first()), running());
        node.hub.put(first());
        node.registry.track(first());
        sleep(Duration::from_secs(1)).await;
        node.hub.put(second());
        node.runtime.set(RUN, end);
        goes_its_own_way(&node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_until_the_server_says_whose_the_number_is() {
    let node = Node::new();
    node.hub.fail("run", Fault::Away);
    node.track(ended());
    sleep(Duration::from_secs(300)).await;
    assert_eq!(node.count("finish 7"), 0, "{:?}", node.all());
    node.hub.heal("run");
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_list_is_enough_to_tell_them_apart() {
    let node = Node::new();
    node.runtime.leave(&Assignment::from(&first()), running());
    node.hub.put(first());
    node.registry.track(first());
    sleep(Duration::from_secs(1)).await;
    node.hub.put(second());
    assert!(node.registry.tracks_same(&first()) && !node.registry.tracks_same(&second()));
    goes_its_own_way(&node).await;
}

#[tokio::test]
async fn neither_gets_the_others_input_or_token() {
    let hub = Arc::new(FakeHub::default());
    let inputs = RunInputs::new(hub.clone());
    let run = first();
    let known = RunInput {
        task: run.task.id,
        image: run.task.image.clone(),
        identity: RunIdentity::from(&run),
        input: None,
        token: None,
        patience: Duration::from_secs(3600),
    };
    hub.put(run.clone());
    inputs.add(RUN, known.clone());
    assert!(inputs.token(RUN).await.is_ok() && inputs.input(RUN).await.is_ok());
    hub.put(second());
    assert!(hub.container_token(run.task.id, &run.task.image).await.is_ok(), "the server itself gives it");
    inputs.fetch_token(RUN).await;
    assert!(matches!(inputs.token(RUN).await, Err(InputSourceError::Later(_))));
    assert!(matches!(inputs.input(RUN).await.map(|_| ()), Err(InputSourceError::Later(_))));
}
