//! `sextant doctor`: checks everything that a node needs, as far as possible from here, one line for each check. It changes nothing
//! except what the node itself would create at its start, and does not disturb a running node.

mod policies;
mod server;

use sextant_config::{Config, RuntimeConfig};
use sextant_core::doctor_line::{Line, State};
use sextant_kubernetes::doctor as kubernetes;

/// Runs all checks; with `isolation`, a pod also tries what algorithms can reach. Passes on each line as soon as it is known.
/// Returns whether nothing is wrong.
pub async fn run(config: &Config, isolation: bool, tell: &mut (dyn FnMut(&Line) + Send)) -> bool {
    let mut well = true;
    let mut tell = |line: Line| {
        well &= line.state != State::Wrong;
        tell(&line);
    };
    tell(Line::ok("configuration", "can be used; `sextant check` says what it means"));
    for warning in &config.warnings {
        tell(Line::unknown("configuration", warning.to_string()));
    }
    let node = server::examine(config, &mut tell).await;
    policies::examine(config, &mut tell).await;
    match &config.runtime {
        RuntimeConfig::Local(_) => tell(Line::unknown(
            "isolation",
            "with `local:`, algorithms are processes of this machine with all rights of its user: for invented data only",
        )),
        RuntimeConfig::Kubernetes(settings) => {
            // Without a response from the server the node's id is unknown; it is only shown to people.
            let identity = config.identity(node.unwrap_or(vantage6::NodeId(0)));
            kubernetes::run(config, settings, &identity, isolation, &mut tell).await;
        }
    }
    well
}
