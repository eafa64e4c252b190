//! Checks the network isolation of algorithms at startup and then periodically, logs for the operator what is wrong with it, and opens
//! or shuts the launch gate.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sextant_core::gate::Gate;
use sextant_metrics::KubernetesMetrics;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::probe::Prober;
use super::run_index::RunIndex;
use super::targets::Targets;
use crate::decisions::isolation::{IsolationMonitor, Proof};

/// What to do if algorithms are not isolated.
const HOW_TO_ISOLATE: &str = "Algorithm pods need network policies that the cluster's network plugin enforces: the \
    chart creates them, and `sextant network-policies CONFIG` prints them for a node on the host. See \
    docs/OPERATIONS.md, \"Network isolation\".";
/// What to do if algorithms can't reach what they need.
const HOW_TO_CONNECT: &str = "Check that pods can connect to the address (`kubernetes.data_port.address`, \
    `kubernetes.proxy.address`), and that neither a firewall nor a network policy blocks it. See docs/OPERATIONS.md, \
    \"The data port\".";

/// Checks the isolation periodically. It never returns.
pub async fn run(
    prober: Prober,
    targets: Targets,
    mut monitor: IsolationMonitor,
    gate: watch::Sender<Gate>,
    run_index: Arc<RunIndex>,
    metrics: KubernetesMetrics,
) {
    let begin = Instant::now();
    let mut before = None;
    if monitor.allow_unisolated() {
        metrics.isolation_disabled();
    }
    loop {
        let proof = prober.prove(&targets).await;
        match &proof {
            Proof::Isolated => metrics.isolated(),
            Proof::Wrong { open, .. } => metrics.not_isolated(open.len()),
            Proof::Inconclusive(_) => metrics.inconclusive(),
        }
        let pause = monitor.record(&proof, begin.elapsed());
        // Success is logged once, not every period.
        if proof != Proof::Isolated || before.as_ref() != Some(&proof) {
            tell(&proof, &monitor, pause, &run_index);
        }
        gate.send_if_modified(|now| {
            let new = monitor.gate();
            let changed = *now != new;
            *now = new;
            changed
        });
        before = Some(proof);
        tokio::time::sleep(pause).await;
    }
}

fn tell(proof: &Proof, monitor: &IsolationMonitor, pause: Duration, run_index: &RunIndex) {
    let again = format!("Retrying in {} s.", pause.as_secs());
    let allow_unisolated = monitor.allow_unisolated();
    match proof {
        Proof::Isolated => info!(
            "Algorithms are isolated: a pod like theirs reaches the proxy and this node's data port, and nothing else that was tried."
        ),
        Proof::Wrong { open, missing } => {
            if !missing.is_empty() {
                error!("Algorithms do NOT reach what they need: {}. {again} {HOW_TO_CONNECT}", missing.join("; "));
            }
            if !open.is_empty() && allow_unisolated {
                error!(
                    "ALGORITHMS ARE NOT ISOLATED: {}. THEY RUN ANYWAY BECAUSE OF `kubernetes.allow_unisolated: \
                     true`, so use invented data only. {HOW_TO_ISOLATE}",
                    open.join("; ")
                );
            } else if !open.is_empty() {
                error!("Algorithms are NOT isolated: {}. {again} {HOW_TO_ISOLATE}", open.join("; "));
            }
            if !allow_unisolated {
                error!("No run is launched until that is fixed{}.", under_way(run_index));
            }
        }
        Proof::Inconclusive(why) => {
            let launched = match monitor.gate() {
                _ if allow_unisolated => "They run anyway because of `kubernetes.allow_unisolated: true`.",
                Gate::Open => "The last check stays valid for a while.",
                Gate::Shut(_) => "No run is launched until it can.",
            };
            warn!("The network isolation of algorithms could not be checked: {why}. {launched} {again}");
        }
    }
}

/// Names the runs that continue although they are no longer isolated.
fn under_way(run_index: &RunIndex) -> String {
    let mut runs: Vec<u64> = run_index.unreported().into_iter().map(|(_, run)| run.0).collect();
    if runs.is_empty() {
        return String::new();
    }
    runs.sort_unstable();
    let mut text = "; still running: run".to_owned();
    for (number, run) in runs.iter().take(50).enumerate() {
        let _ = write!(text, "{} {run}", if number == 0 { "" } else { "," });
    }
    if runs.len() > 50 {
        let _ = write!(text, " and {} more", runs.len() - 50);
    }
    text
}
