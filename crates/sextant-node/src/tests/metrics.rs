//! The metrics of runs, from their beginning to their end.

use super::*;

impl Node {
    fn value(&self, series: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_in_a_state_until_it_is_done() {
    let node = Node::new();
    let run = pending(RUN.0);
    node.hub.put(run.clone());
    let runtime = node.runtime.clone();
    node.runtime.launches(move || {
        runtime.set(RUN, starting());
        Ok(())
    });
    node.registry.track(run);
    node.wait_for("launch 7").await;
    for (run_state, state) in [(starting(), "starting"), (running(), "running")] {
        node.runtime.set(RUN, run_state);
        sleep(Duration::from_secs(100)).await;
        assert_eq!(node.value(&format!("sextant_runs{{state=\"{state}\"}}")), 1.0, "{}", node.metrics.encode());
        assert_eq!(node.value(&format!("sextant_run_oldest_age_seconds{{state=\"{state}\"}}")).round(), 100.0);
    }
    assert_eq!(node.value("sextant_admission_decisions_total{decision=\"allowed\",rule=\"none\"}"), 1.0);
    // While the server is away, the output waits.
    node.hub.fail("finish", Fault::Away);
    node.runtime.set(RUN, ended());
    sleep(Duration::from_secs(100)).await;
    assert_eq!(node.value("sextant_runs{state=\"collecting\"}"), 1.0);
    assert!(node.value("sextant_report_retries_total") >= 1.0);
    node.hub.heal("finish");
    node.done().await;
    assert_eq!(node.value("sextant_runs_finished_total{status=\"completed\"}"), 1.0);
    assert_eq!(node.value("sextant_output_size_bytes_count"), 1.0);
    assert_eq!(node.value("sextant_runs{state=\"collecting\"}"), 0.0);
    let phase = |phase| node.value(&format!("sextant_run_phase_duration_seconds_sum{{phase=\"{phase}\"}}"));
    assert_eq!((phase("pull").round(), phase("execute").round()), (100.0, 100.0));
    assert_eq!(node.value("sextant_run_phase_duration_seconds_count{phase=\"report\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_a_reason_and_somebody_to_act() {
    let lost = Failure::new(RunStatus::Crashed, "lost", "lost").because("MachineLost").started(true);
    let crashed = RunState::Ended(Exit::with_code(3));
    for (run_state, labels, status) in [
        (RunState::Failed(lost), "reason=\"MachineLost\",blame=\"cluster\"", "crashed"),
        (crashed, "reason=\"AlgorithmFailed\",blame=\"algorithm\"", "crashed"),
    ] {
        let node = Node::new();
        node.track(run_state);
        node.done().await;
        assert_eq!(node.value(&format!("sextant_run_failures_total{{{labels}}}")), 1.0, "{}", node.metrics.encode());
        assert_eq!(node.value(&format!("sextant_runs_finished_total{{status=\"{status}\"}}")), 1.0);
    }
    // What somebody has asked for is no failure.
    let node = Node::new();
    node.track(running());
    node.registry.kill(None);
    node.done().await;
    assert_eq!(node.value("sextant_runs_finished_total{status=\"killed by user\"}"), 1.0);
    assert!(!node.metrics.encode().contains("reason=\"Killed\""));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_decision_that_counts_once() {
    // One waits for a slot before it is refused.
    for max_concurrent_runs in [None, Some(1)] {
        let node = Node::with(&["somebody else"], max_concurrent_runs);
        let _taken = node.registry.context.slots.as_ref().and_then(|slots| slots.try_acquire(None));
        node.hub.put(pending(RUN.0));
        node.registry.track(pending(RUN.0));
        node.done().await;
        let refused = "sextant_admission_decisions_total{decision=\"refused\",rule=\"initiator\"}";
        assert_eq!(node.value(refused), 1.0, "{}", node.metrics.encode());
        assert_eq!(node.value("sextant_run_failures_total{reason=\"InitiatorNotAllowed\",blame=\"researcher\"}"), 1.0);
    }
}
