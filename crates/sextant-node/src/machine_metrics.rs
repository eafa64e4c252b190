//! Reports this node's load to the server at intervals, if the owner wants that. The server turns it into metrics (vantage6 since 4.11).

use std::convert::Infallible;
use std::time::Duration;

use sextant_core::hub::{NodeEvent, NodeMetrics};
use sextant_core::run_state::RunState;
use sextant_process::machine::Machine;
use tokio::time::sleep;

use super::Context;

/// Sends the metrics at this interval. Never returns.
pub async fn report(context: &Context, interval: Option<Duration>) -> Infallible {
    let Some(interval) = interval else { return std::future::pending().await };
    let mut machine = Machine::default();
    loop {
        sleep(interval).await;
        if !context.leadership.is_leader() {
            continue;
        }
        let usage = machine.read();
        let metrics = NodeMetrics {
            cpu_percent: usage.cpu_percent,
            memory_percent: usage.memory_percent(),
            cpu_count: usage.cpu_count,
            memory_total: usage.memory_total,
            memory_available: usage.memory_available,
            algorithms: running(context),
        };
        context.status_publisher.send(NodeEvent::Metrics(metrics)).await;
    }
}

/// The number of this node's algorithms that are running.
fn running(context: &Context) -> usize {
    let runs = context.runtime.unreported().into_iter();
    runs.filter(|(_, run)| matches!(*context.runtime.observe(*run).borrow(), RunState::Running { .. })).count()
}
