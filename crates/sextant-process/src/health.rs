//! The health port of a process, for kubelets and monitoring, not for algorithms: `/healthz` (alive), `/readyz` (able to work, or why
//! not) and `/metrics` (Prometheus's text format).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use sextant_metrics::Metrics;
use tokio::net::TcpListener;

use super::pages;

/// The most characters of a reason why a part can't work.
const WHY: usize = 1_000;

/// The parts, each with the reason why it can't work, if there is one.
type Parts = BTreeMap<&'static str, Option<String>>;

/// The health and metrics of a process. It is ready if no part has a reason against it.
#[derive(Debug)]
pub struct Health {
    parts: Arc<Mutex<Parts>>,
    metrics: Metrics,
}

impl Default for Health {
    fn default() -> Self {
        let parts = Arc::<Mutex<Parts>>::default();
        let metrics = Metrics::default();
        let read = parts.clone();
        metrics.readiness(move || read.lock().iter().map(|(part, why)| (*part, why.is_none())).collect());
        Self { parts, metrics }
    }
}

impl Health {
    /// Creates the health of a process whose parts are not ready until they report so.
    pub fn waiting_for(parts: &[&'static str]) -> Arc<Self> {
        let health = Self::default();
        for part in parts {
            health.unready(part, "has not started yet");
        }
        Arc::new(health)
    }

    /// Reports that a part can work.
    pub fn ready(&self, part: &'static str) {
        self.parts.lock().insert(part, None);
    }

    /// Reports that a part can't work, with a reason for the operator. The reason may contain text from other parties.
    pub fn unready(&self, part: &'static str, why: impl Into<String>) {
        let why = printable::excerpt_of(&why.into(), WHY);
        self.parts.lock().insert(part, Some(why));
    }

    /// Whether all parts are ready.
    pub fn is_ready(&self) -> bool {
        self.parts.lock().values().all(Option::is_none)
    }

    /// Whether this part is ready.
    pub fn is_ready_in(&self, part: &'static str) -> bool {
        self.parts.lock().get(part).is_none_or(Option::is_none)
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns why the process is not ready, a line for each part; empty if it is ready.
    pub(crate) fn reasons(&self) -> String {
        let mut text = String::new();
        for (part, why) in self.parts.lock().iter() {
            if let Some(why) = why {
                let _ = writeln!(text, "{part}: {why}");
            }
        }
        text
    }
}

/// Opens the health port.
///
/// # Errors
/// The address can't be used. The message says what to do.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    crate::listening::listen(address).map_err(|error| {
        format!(
            "The health port can't be opened at {address}: {error}. Set `health.listen` to an address and port that are free."
        )
    })
}

/// Serves the health port until the future is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    pages::serve(listener, health).await;
}

#[cfg(test)]
mod tests;
