//! The metrics of Sextant's processes. Names, HELP texts, units and labels are in one place, so that one test can read them all and compare
//! them with docs/OPERATIONS.md.
//!
//! Each part of a process gets a handle when the process is wired ([`NodeMetrics`], [`ServerMetrics`], [`KubernetesMetrics`],
//! [`ProxyMetrics`]) and counts with it. No type of the metrics library is visible outside this crate. A label never holds a run, a task, a
//! user, an image or any other value that another party can choose. Each has a fixed set of values, so the number of series is bounded.
#![forbid(unsafe_code)]

mod kubernetes;
mod node;
mod process;
mod proxy;
mod reading;
mod runs;
mod server;

use std::fmt;

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::kubernetes::KubernetesMetrics;
pub use self::node::NodeMetrics;
pub use self::proxy::{Connections, ProxyMetrics};
pub use self::runs::{Stage, TrackedRun};
pub use self::server::{Answer, ServerMetrics};
use reading::Reading;

/// The labels of one series.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// All metrics of a process.
pub struct Metrics(Mutex<Registry>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("sextant_build", "The version of Sextant that runs; always 1", build);
        registry.register_collector(Box::new(process::Process));
        Self(Mutex::new(registry))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Adds the metrics of a node; `leader` says whether this process is the leader.
    pub fn node(&self, leader: impl Fn() -> bool + Send + Sync + 'static) -> NodeMetrics {
        self.read("sextant_leader", "Whether this process is the one of its node that acts: 1 or 0.", move || {
            vec![([], f64::from(leader()))]
        });
        NodeMetrics::new(&mut self.registry())
    }

    /// Adds the metrics of the connection to the server.
    pub fn server(&self) -> ServerMetrics {
        ServerMetrics::new(&mut self.registry())
    }

    /// Adds the metrics of the connection to the cluster.
    pub fn kubernetes(&self) -> KubernetesMetrics {
        KubernetesMetrics::new(&mut self.registry())
    }

    /// Adds the metrics of a proxy; `connections` counts its connections.
    pub fn proxy(&self, proxy: &ProxyMetrics, connections: impl Fn() -> Connections + Send + Sync + 'static) {
        proxy.register(&mut self.registry(), connections);
    }

    /// Adds the readiness of a process and its parts, read at each scrape.
    pub fn readiness(&self, parts: impl Fn() -> Vec<(&'static str, bool)> + Send + Sync + Clone + 'static) {
        let all = parts.clone();
        self.read("sextant_ready", "Whether all parts of this process are ready: 1 or 0.", move || {
            vec![([], f64::from(all().iter().all(|(_, ready)| *ready)))]
        });
        let help = "Whether a part of this process is ready: 1 or 0; /readyz says why not.";
        self.read("sextant_part_ready", help, move || {
            parts().into_iter().map(|(part, ready)| ([("part", part)], f64::from(ready))).collect()
        });
    }

    /// Returns all metrics in Prometheus's text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = prometheus_text::encode(&mut text, &self.registry());
        text
    }

    /// Adds a gauge that is read at each scrape.
    fn read<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<(Labels<N>, f64)> + Send + Sync + 'static,
    ) {
        self.registry().register_collector(Box::new(Reading { name, help, read }));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock()
    }
}

/// Converts an HTTP status to a label. Unusual ones share a label, so that a server can't create an unbounded number of series.
fn code(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(200) => "200",
        Some(201) => "201",
        Some(204) => "204",
        Some(400) => "400",
        Some(401) => "401",
        Some(403) => "403",
        Some(404) => "404",
        Some(409) => "409",
        Some(410) => "410",
        Some(413) => "413",
        Some(422) => "422",
        Some(429) => "429",
        Some(500) => "500",
        Some(502) => "502",
        Some(503) => "503",
        Some(504) => "504",
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(500..600) => "5xx",
        Some(_) => "other",
    }
}

#[cfg(test)]
mod tests;
