//! The health of a process for its operators: `/healthz` (it lives), `/readyz` (it can do its work; if not, why) and `/metrics`
//! (Prometheus's text format). For kubelets and monitoring, not for algorithms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use sextant_metrics::Metrics;
use tokio::net::TcpListener;

use super::pages;

/// How many characters there are at most to say why a part can't do its work.
const WHY: usize = 1_000;

/// Each part, and why it can't do its work if it can't.
type Parts = BTreeMap<&'static str, Option<String>>;

/// The state of a process: ready as soon as none of its parts has a reason against it. And what it counts.
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
    /// Of a process whose parts are not ready until they say so.
    pub fn waiting_for(parts: &[&'static str]) -> Arc<Self> {
        let health = Self::default();
        for part in parts {
            health.unready(part, "has not started yet");
        }
        Arc::new(health)
    }

    /// The part can do its work.
    pub fn ready(&self, part: &'static str) {
        self.parts.lock().insert(part, None);
    }

    /// The part can't do its work, and why: for the operator. Others may have had a hand in the words.
    pub fn unready(&self, part: &'static str, why: impl Into<String>) {
        let why = printable::excerpt_of(&why.into(), WHY);
        self.parts.lock().insert(part, Some(why));
    }

    /// Whether nothing is against it.
    pub fn is_ready(&self) -> bool {
        self.parts.lock().values().all(Option::is_none)
    }

    /// Whether nothing is against this part.
    pub fn is_ready_in(&self, part: &'static str) -> bool {
        self.parts.lock().get(part).is_none_or(Option::is_none)
    }

    /// What the process counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Why it is not ready, a line for each part; empty if it is.
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
/// If the address is not free; the text says what to do.
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
