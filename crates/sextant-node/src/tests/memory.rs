//! The memory that the node uses for runs is limited, although others decide how large their data is.

use secrecy::ExposeSecret as _;
use sextant_core::hub::RequestedDatabase;
use sextant_core::run_identity::RunIdentity;
use sextant_core::runtime::InputSource as _;

use super::*;
use crate::database_parameters::KEPT;
use crate::run_inputs::{RunInput, TOKENS};

/// A run whose task has database parameters of this size.
fn with_parameters(id: u64, databases: usize, bytes: usize) -> Run {
    let mut run = pending(id);
    let parameters = Some(format!(r#"{{"query": "{}"}}"#, "q".repeat(bytes)));
    let database =
        |label: usize| RequestedDatabase { label: label.to_string(), parameters: parameters.clone(), left_out: None };
    run.task.databases = (0..databases).map(database).collect();
    run
}

#[tokio::test(start_paused = true)]
async fn what_tasks_say_of_databases_has_a_bound_and_is_there_when_they_are_launched() {
    for max_concurrent_runs in [Some(1), None] {
        let node = Node::with(&[], max_concurrent_runs);
        node.track(running());
        let runs: Vec<Run> = (101..=160).map(|id| with_parameters(id, 4, 200_000)).collect();
        for run in &runs {
            node.hub.put(run.clone());
            node.registry.track(run.clone());
        }
        sleep(Duration::from_secs(1)).await;
        let taken = node.registry.context.databases.taken();
        assert!(taken <= KEPT && (max_concurrent_runs.is_none() || taken > KEPT / 2), "{taken}");
        node.runtime.set(RUN, ended());
        for run in &runs {
            node.wait_for(&format!("launch {}", run.id)).await;
            assert!(
                node.runtime
                    .launched()
                    .iter()
                    .any(|launched| launched.run == run.id && launched.databases == run.task.databases),
                "run {}",
                run.id
            );
            // It vanishes.
            node.hub.reported(run.id).await;
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(node.registry.context.databases.taken(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_said_at_once_and_not_when_its_turn_comes() {
    let node = Node::with(&[], Some(1));
    node.track(running());
    let mut run = with_parameters(8, 2, 10);
    run.task.databases[1] = RequestedDatabase { label: "b".into(), parameters: None, left_out: Some(5_000_000) };
    node.hub.put(run.clone());
    node.registry.track(run.clone());
    let report = node.hub.reported(run.id).await;
    assert_eq!(report.status, RunStatus::StartFailed);
    assert!(report.log.contains("'b' are too large: 5000000 bytes of JSON"), "{}", report.log);
    assert_eq!(node.count("launch 8"), 0);
}

/// What was not kept is asked for when it is needed: then it may be another run's.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_another_one_by_now_is_not_launched() {
    let node = Node::with(&[], Some(1));
    let whole = with_parameters(9, 4, 200_000);
    node.track(running());
    for run in (100..130).map(|id| with_parameters(id, 4, 200_000)).chain([whole.clone()]) {
        node.hub.put(run.clone());
        node.registry.track(run);
    }
    sleep(Duration::from_secs(1)).await;
    node.hub.put(Run { organization: OrganizationId(99), ..whole });
    node.runtime.set(RUN, ended());
    node.wait_for("run 9").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.count("launch 9"), 0);
}

/// Servers write the database parameters of a task into the token of its runs.
#[tokio::test(start_paused = true)]
async fn tokens_that_are_kept_for_pods_have_a_bound() {
    let hub = Arc::new(FakeHub::default());
    let inputs = RunInputs::new(hub.clone());
    let long = "t".repeat(27_000);
    hub.gives_token(long.clone());
    for id in 1..=5000 {
        let run = pending(id);
        hub.put(run.clone());
        let (identity, task, image) = (RunIdentity::from(&run), run.task.id, run.task.image);
        inputs.add(
            run.id,
            RunInput { task, image, identity, input: None, token: None, patience: Duration::from_secs(60) },
        );
        inputs.fetch_token(run.id).await;
    }
    assert!(inputs.kept() <= TOKENS && inputs.kept() > TOKENS / 2, "{}", inputs.kept());
    for id in [1, 5000] {
        assert_eq!(inputs.token(RunId(id)).await.unwrap().expose_secret(), long);
    }
    for id in 1..=5000 {
        inputs.remove(RunId(id));
    }
    assert_eq!(inputs.kept(), 0);
}
