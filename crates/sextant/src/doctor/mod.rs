//! `sextant doctor`: checks everything that a node needs, one line each, as far as that is possible from here. It changes nothing
//! but what the node itself would make at its start, and disturbs no node that runs.

mod policies;
mod server;

use sextant_config::{Config, RuntimeConfig};
use sextant_core::doctor_line::{Line, State};
use sextant_kubernetes::doctor as kubernetes;

/// Runs all checks; with `isolation`, a pod also tries what algorithms can reach. Each line is printed as soon as it is known.
/// Gives whether nothing is wrong.
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
            // Without the server's answer the node's number is not known, which only people read.
            let identity = config.identity(node.unwrap_or(vantage6::NodeId(0)));
            kubernetes::run(config, settings, &identity, isolation, &mut tell).await;
        }
    }
    well
}
