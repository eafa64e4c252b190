//! Inputs and tokens that the server does not give: which errors are final, which are retried, and for how long.

use sextant_core::hub::testing::Fault::{Away, Broken, Status};
use sextant_core::run_identity::RunIdentity;
use sextant_core::runtime::{InputSource as _, InputSourceError};

use super::*;
use crate::run_inputs::RunInput;

const PATIENCE: Duration = Duration::from_secs(3600);

fn inputs() -> (Arc<FakeHub>, RunInputs) {
    let (hub, run) = (Arc::new(FakeHub::default()), pending(RUN.0));
    let inputs = RunInputs::new(hub.clone());
    hub.put(run.clone());
    let (identity, task, image) = (RunIdentity::from(&run), run.task.id, run.task.image);
    inputs.add(RUN, RunInput { task, image, identity, input: None, token: None, patience: PATIENCE });
    (hub, inputs)
}

/// What comes of asking for both, as a pod does.
async fn asked(inputs: &RunInputs) -> Result<(), InputSourceError> {
    let mut pieces = inputs.input(RUN).await?;
    while let Some(piece) = pieces.next().await {
        piece?;
    }
    inputs.token(RUN).await.map(drop)
}

/// Asks once a minute for so long; the refusal, if there was one, and after how many minutes.
async fn asked_for(inputs: &RunInputs, minutes: u64) -> Option<(u64, String)> {
    for minute in 0..minutes {
        match asked(inputs).await {
            Err(InputSourceError::Refused(why)) => return Some((minute, why)),
            Err(InputSourceError::Later(_)) => sleep(Duration::from_secs(60)).await,
            Ok(()) => return None,
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn an_input_that_is_wrong_in_itself_is_refused_at_once() {
    let (hub, inputs) = inputs();
    hub.fail("input", Broken);
    let (minutes, why) = asked_for(&inputs, 1).await.unwrap();
    assert!(minutes == 0 && why == "The task's input can't be read: damaged.", "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_and_gives_no_input_has_a_limit_and_one_that_is_away_has_none() {
    for call in ["input", "token", "run"] {
        for (fault, words) in [
            (Status(401, true), Some("HTTP 401")),
            (Status(418, false), Some("could not be used")),
            (Status(503, false), None),
            (Away, None),
        ] {
            let (hub, inputs) = inputs();
            hub.fail(call, fault.clone());
            let refused = asked_for(&inputs, 10_000).await;
            assert_eq!(refused.is_some(), words.is_some(), "{call} {fault:?}: {refused:?}");
            if let (Some((minutes, why)), Some(words)) = (refused, words) {
                assert!(minutes == 60 && why.contains("within 1 h") && why.contains(words), "{call} {minutes} {why}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_at_one_run_only_is_not_away() {
    for call in ["input", "token"] {
        let (hub, inputs) = inputs();
        hub.fail(call, Status(500, true));
        let (minutes, why) = asked_for(&inputs, 100).await.unwrap();
        assert!(minutes == 60 && why.contains("it failed each time"), "{why}");
        let (hub, inputs) = self::inputs();
        hub.fail(call, Status(500, true));
        hub.fail("run", Status(500, true));
        assert_eq!(asked_for(&inputs, 10_000).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_the_server_was_away_does_not_count() {
    let (hub, inputs) = inputs();
    for _ in 0..2 {
        hub.fail("input", Status(401, true));
        assert_eq!(asked_for(&inputs, 20).await, None);
        hub.fail("input", Away);
        assert_eq!(asked_for(&inputs, 600).await, None);
    }
    // Nor what was before a launch that had all.
    hub.heal("input");
    assert!(asked(&inputs).await.is_ok());
    hub.fail("input", Status(401, true));
    assert_eq!(asked_for(&inputs, 1000).await.map(|(minutes, _)| minutes), Some(60));
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_tried_many_times_is_told_once() {
    let lines = super::lines::Lines::default();
    let _counting = tracing::subscriber::set_default(lines.clone());
    let node = Node::new();
    node.runtime.launches(|| Err(LaunchError::Later("no input".into())));
    node.track(RunState::Absent);
    sleep(Duration::from_secs(3600)).await;
    assert!(node.count("launch 7") > 20, "{}", node.count("launch 7"));
    assert!(lines.count() < 10, "{} lines", lines.count());
}
