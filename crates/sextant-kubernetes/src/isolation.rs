//! Has the walls around algorithms proved at start and then again and again, tells the operator what is wrong with them, and
//! keeps the gate.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sextant_core::gate::Gate;
use sextant_metrics::KubernetesMetrics;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::probe::Prober;
use super::table::Table;
use super::targets::Targets;
use crate::decisions::isolation::{Proof, Walls};

/// What to do about walls that are not there.
const NO_WALLS: &str = "Algorithm pods need network policies that the cluster's network plugin enforces: the chart makes them, \
                        `sextant walls CONFIG` prints them for a node on the host. See docs/OPERATIONS.md, \"Walls\".";
/// What to do about ways that are not there.
const NO_WAY: &str = "See that the address is one that pods can connect to (`kubernetes.data_port.address`, `kubernetes.proxy.address`), and \
                      that neither a firewall nor a network policy is between. See docs/OPERATIONS.md, \"The data port\".";

/// Proves the walls for ever.
pub async fn run(
    prober: Prober,
    targets: Targets,
    mut walls: Walls,
    gate: watch::Sender<Gate>,
    table: Arc<Table>,
    metrics: KubernetesMetrics,
) {
    let begin = Instant::now();
    let mut before = None;
    if walls.regardless() {
        metrics.isolation_disabled();
    }
    loop {
        let proof = prober.prove(&targets).await;
        match &proof {
            Proof::Walled => metrics.isolated(),
            Proof::Wrong { open, .. } => metrics.not_isolated(open.len()),
            Proof::Untried(_) => metrics.inconclusive(),
        }
        let pause = walls.take(&proof, begin.elapsed());
        // Once; that all is still well is not worth a line an hour.
        if proof != Proof::Walled || before.as_ref() != Some(&proof) {
            tell(&proof, &walls, pause, &table);
        }
        gate.send_if_modified(|now| {
            let new = walls.gate();
            let changed = *now != new;
            *now = new;
            changed
        });
        before = Some(proof);
        tokio::time::sleep(pause).await;
    }
}

fn tell(proof: &Proof, walls: &Walls, pause: Duration, table: &Table) {
    let again = format!("Trying again in {} s.", pause.as_secs());
    let regardless = walls.regardless();
    match proof {
        Proof::Walled => info!(
            "Algorithms are walled in: a pod like theirs reaches the proxy and this node's data port, and nothing else that was tried."
        ),
        Proof::Wrong { open, missing } => {
            if !missing.is_empty() {
                error!("Algorithms do NOT reach what they need: {}. {again} {NO_WAY}", missing.join("; "));
            }
            if !open.is_empty() && regardless {
                error!(
                    "ALGORITHMS ARE NOT WALLED IN: {}. `kubernetes.allow_unisolated: true` LETS THEM RUN ALL THE SAME, so use invented data only. {NO_WALLS}",
                    open.join("; ")
                );
            } else if !open.is_empty() {
                error!("Algorithms are NOT walled in: {}. {again} {NO_WALLS}", open.join("; "));
            }
            if !regardless {
                error!("No run is launched until that is mended{}.", under_way(table));
            }
        }
        Proof::Untried(why) => {
            let launched = match walls.gate() {
                _ if regardless => "`kubernetes.allow_unisolated: true` lets them run all the same.",
                Gate::Open => "The last proof holds for a while.",
                Gate::Shut(_) => "No run is launched until it could.",
            };
            warn!("It could not be tried whether algorithms are walled in: {why}. {launched} {again}");
        }
    }
}

/// The runs that go on although a wall has fallen.
fn under_way(table: &Table) -> String {
    let mut runs: Vec<u64> = table.unreported().into_iter().map(|(_, run)| run.0).collect();
    if runs.is_empty() {
        return String::new();
    }
    runs.sort_unstable();
    let mut text = "; under way, and not stopped: run".to_owned();
    for (number, run) in runs.iter().take(50).enumerate() {
        let _ = write!(text, "{} {run}", if number == 0 { "" } else { "," });
    }
    if runs.len() > 50 {
        let _ = write!(text, " and {} more", runs.len() - 50);
    }
    text
}
