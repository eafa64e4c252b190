//! The metrics of a node: runs, their ends, and decisions about them.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Labels;
use super::runs::{Runs, TrackedRun};

/// The upper bounds of the buckets for the sizes of outputs: a kibibyte to a gibibyte.
const BYTES: [f64; 6] = [1_024.0, 16_384.0, 262_144.0, 4_194_304.0, 67_108_864.0, 1_073_741_824.0];

/// The metrics of a node. A clone is another handle to the same metrics.
#[derive(Debug, Clone)]
pub struct NodeMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runs: Runs,
    finished: Family<Labels<1>, Counter>,
    failures: Family<Labels<2>, Counter>,
    relaunched: Family<Labels<1>, Counter>,
    admission: Family<Labels<2>, Counter>,
    report_retries: Counter,
    disconnections: Counter,
    outputs: Histogram,
}

impl Default for NodeMetrics {
    /// Creates metrics that are not exported.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// The labels of the decision to launch a run.
const ALLOWED: Labels<2> = [("decision", "allowed"), ("rule", "none")];

/// Returns the labels of the decision not to launch a run, from the reported reason; `None` if the run failed for another reason.
fn refused(reason: &str) -> Option<Labels<2>> {
    let rule = match reason {
        "AlgorithmNotAllowed" => "algorithm",
        "InitiatorNotAllowed" => "initiator",
        "NoPublicKey" => "public_key",
        _ => return None,
    };
    Some([("decision", "refused"), ("rule", rule)])
}

impl NodeMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let runs = Runs::new(registry);
        let inner = Inner {
            runs,
            finished: Family::default(),
            failures: Family::default(),
            relaunched: Family::default(),
            admission: Family::default(),
            report_retries: Counter::default(),
            disconnections: Counter::default(),
            outputs: Histogram::new(BYTES),
        };
        let refusals = ["AlgorithmNotAllowed", "InitiatorNotAllowed", "NoPublicKey"].into_iter().filter_map(refused);
        for labels in refusals.chain([ALLOWED]) {
            drop(inner.admission.get_or_create(&labels));
        }
        let help = "Runs that this process has reported, by their status at the server";
        registry.register("sextant_runs_finished", help, inner.finished.clone());
        let help = "Runs reported as failed, by reason (the word of the Job's Event) and by who has to act";
        registry.register("sextant_run_failures", help, inner.failures.clone());
        let help = "Runs launched again because the cluster had taken them away, by reason";
        registry.register("sextant_runs_relaunched", help, inner.relaunched.clone());
        let help = "Decisions whether runs may be launched, by rule";
        registry.register("sextant_admission_decisions", help, inner.admission.clone());
        let help = "Reports that did not get through and were made again";
        registry.register("sextant_report_retries", help, inner.report_retries.clone());
        let help = "How often the live connection to the server was lost";
        registry.register("sextant_server_disconnections", help, inner.disconnections.clone());
        let help = "Sizes of the outputs that were delivered to the server, before encryption";
        registry.register("sextant_output_size_bytes", help, inner.outputs.clone());
        Self(Arc::new(inner))
    }

    /// Tracks a run that is new to this process, and was assigned this long ago.
    pub fn heard(&self, assigned: Option<Duration>) -> TrackedRun {
        self.0.runs.heard(assigned)
    }

    /// Tracks a run that was in progress before this process started.
    pub fn taken_over(&self) -> TrackedRun {
        self.0.runs.taken_over()
    }

    /// Counts a run that is admitted and about to be launched.
    pub fn admitted(&self) {
        self.0.admission.get_or_create(&ALLOWED).inc();
    }

    /// Counts a run whose report the server has received.
    pub fn finished(&self, status: &'static str) {
        self.0.finished.get_or_create(&[("status", status)]).inc();
    }

    /// Counts a run that is reported as failed or refused.
    pub fn failed(&self, reason: &'static str, blame: &'static str) {
        if let Some(labels) = refused(reason) {
            self.0.admission.get_or_create(&labels).inc();
        }
        self.0.failures.get_or_create(&[("reason", reason), ("blame", blame)]).inc();
    }

    /// Counts a run that is launched again.
    pub fn relaunched(&self, reason: &'static str) {
        self.0.relaunched.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a report that did not get through.
    pub fn report_retried(&self) {
        self.0.report_retries.inc();
    }

    /// Counts a loss of the live connection.
    pub fn disconnected(&self) {
        self.0.disconnections.inc();
    }

    /// Records the size of an output that was delivered.
    pub fn delivered(&self, bytes: u64) {
        self.0.outputs.observe(bytes as f64);
    }
}
