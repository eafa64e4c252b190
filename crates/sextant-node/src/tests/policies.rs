//! Policies that depend on the answer of a registry or a store.

use sextant_core::assignment::Assignment;
use sextant_core::gate::Gate;
use sextant_core::image_policy::{Answer, StoreAlgorithm};
use sextant_core::image_reference::Digest;
use sextant_core::policies::{AllowedAlgorithm, AllowedStore, Combination};
use sextant_core::run_state::Disruption;
use vantage6_types::StoreId;

use super::*;
use crate::reconciler::VERIFICATION_TIMEOUT;

const IMAGE: &str = "r.example/x:2";
const STORE: &str = "https://store.example.org/api";

fn digest(letter: &str) -> Digest {
    format!("sha256:{}", letter.repeat(64)).parse().unwrap()
}

/// A node whose list has another tag of the task's image.
fn with_list() -> Node {
    let allowed_algorithms = vec![AllowedAlgorithm::new("r.example/x:1").unwrap()];
    let node = Node::under(Policies { allowed_algorithms, ..Policies::default() }, None);
    node.registries.says("r.example/x:1", Answer::Known(digest("a")));
    node
}

/// A node that trusts a store, which the server knows.
fn with_store() -> Node {
    let allowed_stores = vec![AllowedStore::new(STORE).unwrap()];
    let node = Node::under(Policies { allowed_stores, ..Policies::default() }, None);
    node.hub.store(StoreId(3), STORE);
    node
}

fn run() -> Run {
    let mut run = pending(RUN.0);
    run.task.image = IMAGE.into();
    run.task.store = Some(StoreId(3));
    run
}

fn track(node: &Node) {
    node.hub.put(run());
    node.registry.track(run());
}

#[tokio::test(start_paused = true)]
async fn the_digest_that_was_decided_on_is_what_runs() {
    let node = with_list();
    node.registries.says(IMAGE, Answer::Known(digest("a")));
    track(&node);
    node.wait_for("launch 7").await;
    let launched = &node.runtime.launched()[0];
    assert_eq!(launched.image, IMAGE, "the token is for the image that the task names");
    assert_eq!(launched.image_to_run(), format!("{IMAGE}@{}", digest("a")));
    let node = with_store();
    node.hub.approves(Answer::Known(vec![StoreAlgorithm { image: IMAGE.into(), digest: Some(digest("b")) }]));
    track(&node);
    node.wait_for("launch 7").await;
    assert_eq!(node.runtime.launched()[0].image_to_run(), format!("{IMAGE}@{}", digest("b")));
    assert!(node.registries.asked().is_empty(), "the store has asked");
}

#[tokio::test(start_paused = true)]
async fn another_content_is_refused_at_once() {
    let node = with_list();
    node.registries.says(IMAGE, Answer::Known(digest("b")));
    track(&node);
    let report = node.hub.reported(RUN).await;
    assert_eq!(report.status, RunStatus::NotAllowed);
    assert!(report.log.contains("'r.example/x:2'") && !report.log.contains("x:1"), "{}", report.log);
    assert_eq!(node.count("launch 7"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_waited_for() {
    let node = with_list();
    node.registries.says(IMAGE, Answer::Away("no answer".into()));
    track(&node);
    sleep(VERIFICATION_TIMEOUT / 2).await;
    assert!(node.hub.report(RUN).is_none() && node.count("launch 7") == 0, "{:?}", node.all());
    let asked = node.registries.asked().len();
    assert!((3..30).contains(&asked), "ever more rarely: {asked}");
    node.registries.says(IMAGE, Answer::Known(digest("a")));
    node.wait_for("launch 7").await;
}

#[tokio::test(start_paused = true)]
async fn who_is_away_for_too_long_has_not_said_yes() {
    for node in [with_list(), with_store()] {
        node.registries.says(IMAGE, Answer::Away("hunter-host: no answer".into()));
        track(&node);
        sleep(VERIFICATION_TIMEOUT - Duration::from_secs(1)).await;
        assert!(node.hub.report(RUN).is_none(), "{:?}", node.all());
        sleep(Duration::from_secs(120)).await;
        let report = node.hub.report(RUN).unwrap();
        assert_eq!(report.status, RunStatus::NotAllowed);
        assert!(
            report.log.contains("could not be reached in time") && !report.log.contains("hunter"),
            "{}",
            report.log
        );
        assert_eq!(node.count("launch 7"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_store_can_be_killed() {
    let node = with_store();
    track(&node);
    sleep(Duration::from_secs(60)).await;
    node.registry.kill(None);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.hub.report(RUN).unwrap().status, RunStatus::Killed);
}

/// Its store has many questions to answer before it says anything of this run.
#[tokio::test(start_paused = true)]
async fn a_run_without_a_slot_whose_store_is_silent_can_be_killed() {
    let node = with_one_slot();
    let _the_only_slot = node.registry.context.slots.as_ref().unwrap().try_acquire(None).unwrap();
    node.hub.fail("store", Fault::Silent);
    track(&node);
    sleep(Duration::from_secs(60)).await;
    node.registry.kill(None);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.hub.report(RUN).unwrap().status, RunStatus::Killed);
    assert_eq!(node.count("launch 7"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_server_is_waited_for_without_end_and_a_store_it_does_not_have_is_none() {
    let node = with_store();
    node.hub.fail("store", Fault::Away);
    track(&node);
    sleep(2 * VERIFICATION_TIMEOUT).await;
    assert!(node.hub.report(RUN).is_none(), "{:?}", node.all());
    let mut other = run();
    other.task.store = Some(StoreId(4));
    node.hub.heal("store");
    node.hub.put(other.clone());
    let node = with_store();
    node.hub.put(other.clone());
    node.registry.track(other);
    assert_eq!(node.hub.reported(RUN).await.status, RunStatus::NotAllowed);
}

/// An earlier process has let the run in; what it decided on is not known any more.
#[tokio::test(start_paused = true)]
async fn what_is_launched_again_is_decided_on_again() {
    let lost = || {
        let failure = Failure::new(RunStatus::Crashed, "Its machine was lost.", "gone").because("NodeLost");
        RunState::Failed(Failure { disruption: Some(Disruption { attempt: 1, executions: 0 }), ..failure })
    };
    for (letter, launched) in [("a", true), ("b", false)] {
        let node = with_list();
        node.registries.says(IMAGE, Answer::Known(digest(letter)));
        let run = Run { status: RunStatus::Active, started_at: Some(Timestamp::UNIX_EPOCH), ..run() };
        node.runtime.set(RUN, lost());
        node.hub.put(run.clone());
        node.registry.track(run);
        sleep(Duration::from_secs(60)).await;
        let images: Vec<String> = node.runtime.launched().iter().map(Assignment::image_to_run).collect();
        let refused = node.hub.report(RUN).is_some_and(|report| report.status == RunStatus::NotAllowed);
        assert_eq!((!images.is_empty(), refused), (launched, !launched), "{:?}", node.all());
        assert!(images.iter().all(|image| *image == format!("{IMAGE}@{}", digest("a"))), "{images:?}");
    }
}

/// One whose store is away, and one that the list lets in.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_admitted_keeps_no_slot_from_another() {
    let policies = || Policies {
        allowed_algorithms: vec![AllowedAlgorithm::new("r.example/y:1").unwrap()],
        allowed_stores: vec![AllowedStore::new(STORE).unwrap()],
        combination: Combination::Either,
        ..Policies::default()
    };
    for fault in [None, Some(Fault::Away), Some(Fault::Silent)] {
        let node = Node::under(policies(), Some(1));
        node.hub.store(StoreId(3), STORE);
        if let Some(fault) = fault {
            node.hub.fail("store", fault);
        }
        track(&node);
        let mut honest = pending(8);
        honest.task.image = "r.example/y:1".into();
        node.hub.put(honest.clone());
        node.registry.track(honest);
        sleep(Duration::from_secs(3)).await;
        assert_eq!((node.count("launch 8"), node.count("launch 7")), (1, 0), "{:?}", node.all());
    }
}

/// One that the list lets in, of another task.
fn listed() -> Run {
    let mut listed = pending(8);
    listed.task.image = "r.example/y:1".into();
    listed
}

/// A node with one slot, whose list has one image, and which trusts a store.
fn with_one_slot() -> Node {
    let policies = Policies {
        allowed_algorithms: vec![AllowedAlgorithm::new("r.example/y:1").unwrap()],
        allowed_stores: vec![AllowedStore::new(STORE).unwrap()],
        combination: Combination::Either,
        ..Policies::default()
    };
    let node = Node::under(policies, Some(1));
    node.hub.store(StoreId(3), STORE);
    node.hub.approves(Answer::Known(vec![StoreAlgorithm { image: IMAGE.into(), digest: Some(digest("b")) }]));
    node
}

/// It was admitted, and waited at the gate for so long that it is asked about again.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_asked_about_again_keeps_no_slot_from_another() {
    for fault in [Fault::Away, Fault::Silent] {
        let node = with_one_slot();
        node.runtime.turn_gate(Gate::Shut("not checked yet".into()));
        track(&node);
        sleep(Duration::from_secs(5)).await;
        node.hub.put(listed());
        node.registry.track(listed());
        sleep(Duration::from_secs(60)).await;
        node.hub.fail("store", fault);
        node.runtime.turn_gate(Gate::Open);
        sleep(Duration::from_secs(10)).await;
        assert_eq!((node.count("launch 8"), node.count("launch 7")), (1, 0), "{:?}", node.all());
    }
}

/// What is left of a deleted run can't be removed.
#[tokio::test(start_paused = true)]
async fn a_run_whose_number_is_not_free_keeps_no_slot_from_another() {
    let node = with_one_slot();
    let earlier = Run { assigned_at: Some(Timestamp::UNIX_EPOCH), ..run() };
    node.runtime.leave(&Assignment::from(&earlier), ended());
    node.runtime.releases(false);
    track(&node);
    sleep(Duration::from_secs(5)).await;
    node.hub.put(listed());
    node.registry.track(listed());
    sleep(Duration::from_secs(60)).await;
    assert_eq!((node.count("launch 8"), node.count("launch 7")), (1, 0), "{:?}", node.all());
    node.runtime.releases(true);
    sleep(Duration::from_secs(120)).await;
    node.runtime.set(RunId(8), ended());
    node.wait_for("launch 7").await;
}

/// An earlier process has begun to launch it, and its Job goes away in the moment in which this one wants to complete that: what runs then
/// is what the policies decide on now.
#[tokio::test(start_paused = true)]
async fn a_launch_that_is_gone_is_not_begun_again_without_a_decision() {
    let node = with_list();
    node.registries.says(IMAGE, Answer::Known(digest("a")));
    let (gate, key) = (node.runtime.clone(), RUN);
    node.runtime.turn_gate(Gate::Shut("not checked yet".into()));
    node.runtime.leave(&Assignment::from(&run()), starting());
    track(&node);
    sleep(Duration::from_secs(5)).await;
    gate.turn_gate(Gate::Open);
    gate.on_complete(move |runtime| runtime.set(key, RunState::Absent));
    sleep(Duration::from_secs(60)).await;
    let images: Vec<String> = node.runtime.launched().iter().map(Assignment::image_to_run).collect();
    assert!(images.iter().all(|image| *image == format!("{IMAGE}@{}", digest("a"))), "{images:?}");
    assert_eq!(node.count("launch 7") + node.count("finish 7"), 1, "{:?}", node.all());
}
