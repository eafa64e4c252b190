//! Reports this node's load to the server at intervals, if the owner wants that. The server turns it into metrics (vantage6 since 4.11).

use std::convert::Infallible;
use std::time::Duration;

use sextant_core::hub::{NodeEvent, NodeMetrics};
use sextant_core::run_state::RunState;
use sextant_process::machine::Machine;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Context;

/// The timeout for sending.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

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
        match timeout(SEND_TIMEOUT, context.hub.send_event(NodeEvent::Metrics(metrics))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!("The node's metrics were not sent: {error}"),
            Err(_) => debug!("The node's metrics were not sent: the server does not read its events"),
        }
    }
}

/// The number of this node's algorithms that are running.
fn running(context: &Context) -> usize {
    let runs = context.runtime.unreported().into_iter();
    runs.filter(|(_, run)| matches!(*context.runtime.observe(*run).borrow(), RunState::Running { .. })).count()
}
