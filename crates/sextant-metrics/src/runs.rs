//! The metrics of the runs' progress: their current states and ages, and the durations of their phases.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sextant_core::run_state::WaitsFor;
use tokio::time::Instant;

use super::Labels;
use super::reading::gauge;

/// The upper bounds of the buckets for durations: from a start with a cached image to a computation of a day.
const SECONDS: [f64; 14] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits to be admitted, for a slot, or for the launch gate.
    Waiting,
    /// Its Job (or process) is being created.
    Launching,
    /// It was launched, but its algorithm does not run yet.
    Starting(WaitsFor),
    /// Its algorithm runs.
    Running,
    /// Its algorithm has finished, and its output must be collected.
    Collecting,
    /// The cluster is terminating its pod.
    Terminating,
    /// Its output is being sent to the server.
    Delivering,
    /// It has ended without an output; the end must be reported.
    Reporting,
    /// The server has its report; the run must be released.
    Releasing,
}

const REASONS: [WaitsFor; 12] = [
    WaitsFor::Pod,
    WaitsFor::Quota,
    WaitsFor::Machine,
    WaitsFor::Volume,
    WaitsFor::OwnContainer,
    WaitsFor::OwnImage,
    WaitsFor::Injected,
    WaitsFor::InjectedImage,
    WaitsFor::Inputs,
    WaitsFor::Pull,
    WaitsFor::Image,
    WaitsFor::Container,
];

fn label(reason: WaitsFor) -> &'static str {
    match reason {
        WaitsFor::Pod => "pod",
        WaitsFor::Quota => "quota",
        WaitsFor::Machine => "machine",
        WaitsFor::Volume => "volume",
        WaitsFor::OwnContainer => "sextant_container",
        WaitsFor::OwnImage => "sextant_image",
        WaitsFor::Injected => "injected_container",
        WaitsFor::InjectedImage => "injected_image",
        WaitsFor::Inputs => "input",
        WaitsFor::Pull => "pull",
        WaitsFor::Image => "image",
        WaitsFor::Container => "container",
    }
}

/// The states, in the order of a run's life.
const STATES: [&str; 7] = ["waiting", "starting", "running", "collecting", "terminating", "reporting", "releasing"];

/// The phases, in the order of a run's life.
const PHASES: [&str; 8] = ["heard", "wait", "launch", "schedule", "receive", "pull", "execute", "collect"];
/// The last phase, which may follow each of the others.
const REPORT: &str = "report";

impl Stage {
    fn state(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Launching | Self::Starting(_) => "starting",
            Self::Running => "running",
            Self::Collecting | Self::Delivering => "collecting",
            Self::Terminating => "terminating",
            Self::Reporting => "reporting",
            Self::Releasing => "releasing",
        }
    }

    fn waits_for(self) -> Option<WaitsFor> {
        match self {
            Self::Starting(reason) => Some(reason),
            _ => None,
        }
    }

    /// Returns the phase that this stage belongs to; `None` if the stage is not measured.
    fn phase(self) -> Option<&'static str> {
        Some(match self {
            Self::Waiting => "wait",
            Self::Launching => "launch",
            Self::Starting(reason) => match reason {
                WaitsFor::Pod | WaitsFor::Quota | WaitsFor::Machine | WaitsFor::Volume => "schedule",
                WaitsFor::OwnContainer
                | WaitsFor::OwnImage
                | WaitsFor::Injected
                | WaitsFor::InjectedImage
                | WaitsFor::Inputs => "receive",
                WaitsFor::Pull | WaitsFor::Image | WaitsFor::Container => "pull",
            },
            Self::Running => "execute",
            Self::Collecting => "collect",
            Self::Delivering | Self::Reporting => REPORT,
            Self::Terminating | Self::Releasing => return None,
        })
    }
}

/// Returns a phase's position in [`PHASES`].
fn order(phase: Option<&str>) -> usize {
    phase.and_then(|phase| PHASES.iter().position(|each| *each == phase)).unwrap_or(PHASES.len())
}

/// The current stage of one run.
#[derive(Debug, Clone, Copy)]
struct Now {
    stage: Stage,
    /// When the run entered its current state.
    since: Instant,
}

/// The metrics of all runs.
#[derive(Debug, Clone)]
pub struct Runs {
    now: Arc<Mutex<State>>,
    phases: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Default)]
struct State {
    /// How many runs have been tracked in total.
    come: u64,
    runs: HashMap<u64, Now>,
}

impl Runs {
    pub fn new(registry: &mut Registry) -> Self {
        let runs = Self { now: Arc::default(), phases: Family::new_with_constructor(|| Histogram::new(SECONDS)) };
        for phase in PHASES.into_iter().chain([REPORT]) {
            drop(runs.phases.get_or_create(&[("phase", phase)]));
        }
        let help = "How long the phases of runs took, of those whose phase this process has seen begin";
        registry.register("sextant_run_phase_duration_seconds", help, runs.phases.clone());
        registry.register_collector(Box::new(runs.clone()));
        runs
    }

    /// Tracks a run that is new to this process, and was assigned this long ago.
    pub fn heard(&self, assigned: Option<Duration>) -> TrackedRun {
        if let Some(assigned) = assigned {
            self.observe("heard", assigned);
        }
        self.track(Some(Phase { name: Some("wait"), since: Instant::now(), whole: true }))
    }

    /// Tracks a run that was in progress before this process started.
    pub fn taken_over(&self) -> TrackedRun {
        self.track(None)
    }

    fn track(&self, phase: Option<Phase>) -> TrackedRun {
        let mut state = self.state();
        state.come += 1;
        let id = state.come;
        state.runs.insert(id, Now { stage: Stage::Waiting, since: Instant::now() });
        drop(state);
        TrackedRun { runs: self.clone(), id, phase }
    }

    fn observe(&self, phase: &'static str, took: Duration) {
        self.phases.get_or_create(&[("phase", phase)]).observe(took.as_secs_f64());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.now.lock()
    }
}

impl Collector for Runs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut count = [0.0; STATES.len()];
        let mut oldest = [0.0; STATES.len()];
        let mut waiting = [0.0; REASONS.len()];
        for run in self.state().runs.values() {
            let place = STATES.iter().position(|state| *state == run.stage.state()).unwrap_or_default();
            count[place] += 1.0;
            oldest[place] = f64::max(oldest[place], run.since.elapsed().as_secs_f64());
            if let Some(place) = REASONS.iter().position(|reason| run.stage.waits_for() == Some(*reason)) {
                waiting[place] += 1.0;
            }
        }
        let by_state = |values: [f64; STATES.len()]| {
            STATES.iter().zip(values).map(|(state, value)| ([("state", *state)], value)).collect()
        };
        gauge(&mut encoder, "sextant_runs", "Runs that this node looks after, by state.", by_state(count))?;
        let help = "How long the run that has been longest in a state has been in it; 0 without one.";
        gauge(&mut encoder, "sextant_run_oldest_age_seconds", help, by_state(oldest))?;
        let waiting = REASONS.iter().zip(waiting).map(|(reason, value)| ([("reason", label(*reason))], value));
        let help = "Runs that were launched and whose algorithms do not run yet, by what they wait for.";
        gauge(&mut encoder, "sextant_runs_waiting", help, waiting.collect())
    }
}

/// The current phase of a run.
#[derive(Debug, Clone, Copy)]
struct Phase {
    name: Option<&'static str>,
    since: Instant,
    /// Whether this process has seen the phase begin.
    whole: bool,
}

/// A run that is counted until this is dropped.
#[derive(Debug)]
pub struct TrackedRun {
    runs: Runs,
    id: u64,
    phase: Option<Phase>,
}

impl TrackedRun {
    /// Records the run's new stage.
    pub fn enter(&mut self, stage: Stage) {
        if let Some(now) = self.runs.state().runs.get_mut(&self.id) {
            if now.stage.state() != stage.state() {
                now.since = Instant::now();
            }
            now.stage = stage;
        }
        let name = stage.phase();
        match self.phase {
            Some(before) if before.name == name => {}
            Some(before) => {
                self.leave(before, name);
                self.phase = Some(Phase { name, since: Instant::now(), whole: true });
            }
            None => self.phase = Some(Phase { name, since: Instant::now(), whole: false }),
        }
    }

    /// Records the end of a phase. A run that goes back, because the cluster took it away or its report did not get through, has not
    /// completed the phase.
    fn leave(&self, before: Phase, next: Option<&'static str>) {
        if let (true, Some(name)) = (before.whole, before.name)
            && (next.is_none() || order(next) > order(before.name))
        {
            self.runs.observe(name, before.since.elapsed());
        }
    }
}

impl Drop for TrackedRun {
    fn drop(&mut self) {
        self.runs.state().runs.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    fn value(metrics: &Metrics, series: &str) -> f64 {
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    fn phase(metrics: &Metrics, phase: &str) -> (f64, f64) {
        let series = |kind| format!("sextant_run_phase_duration_seconds_{kind}{{phase=\"{phase}\"}}");
        (value(metrics, &series("count")), value(metrics, &series("sum")))
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_is_counted_where_it_is_and_each_phase_when_it_is_over() {
        let metrics = Metrics::default();
        let node = metrics.node(|| true);
        let second = Duration::from_secs(1);
        let mut run = node.heard(Some(7 * second));
        assert_eq!(value(&metrics, "sextant_runs{state=\"waiting\"}"), 1.0);
        for (stage, seconds) in [
            (Stage::Waiting, 2),
            (Stage::Launching, 1),
            (Stage::Starting(WaitsFor::Pod), 1),
            (Stage::Starting(WaitsFor::Machine), 3),
            (Stage::Starting(WaitsFor::Inputs), 5),
            (Stage::Running, 100),
            (Stage::Collecting, 4),
            (Stage::Delivering, 6),
        ] {
            run.enter(stage);
            tokio::time::advance(second * seconds).await;
        }
        assert_eq!(value(&metrics, "sextant_runs{state=\"collecting\"}"), 1.0);
        assert_eq!(value(&metrics, "sextant_run_oldest_age_seconds{state=\"collecting\"}"), 10.0);
        assert_eq!(phase(&metrics, "report"), (0.0, 0.0));
        run.enter(Stage::Releasing);
        for (name, expected) in [
            ("heard", (1.0, 7.0)),
            ("wait", (1.0, 2.0)),
            ("launch", (1.0, 1.0)),
            ("schedule", (1.0, 4.0)),
            ("receive", (1.0, 5.0)),
            ("pull", (0.0, 0.0)),
            ("execute", (1.0, 100.0)),
            ("collect", (1.0, 4.0)),
            ("report", (1.0, 6.0)),
        ] {
            assert_eq!(phase(&metrics, name), expected, "{name}");
        }
        drop(run);
        assert!(STATES.iter().all(|state| value(&metrics, &format!("sextant_runs{{state=\"{state}\"}}")) == 0.0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_seen_as_a_whole_has_no_duration() {
        let metrics = Metrics::default();
        let node = metrics.node(|| true);
        let mut run = node.taken_over();
        for stage in [
            Stage::Starting(WaitsFor::Pull),
            // The cluster took it away.
            Stage::Running,
            Stage::Starting(WaitsFor::Pod),
            // The report did not get through.
            Stage::Collecting,
            Stage::Delivering,
            Stage::Collecting,
        ] {
            run.enter(stage);
            if stage == Stage::Starting(WaitsFor::Pull) {
                assert_eq!(value(&metrics, "sextant_runs_waiting{reason=\"pull\"}"), 1.0);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        for (name, count) in [("pull", 0.0), ("execute", 0.0), ("schedule", 1.0), ("collect", 1.0), ("report", 0.0)] {
            assert_eq!(phase(&metrics, name).0, count, "{name}");
        }
    }
}
