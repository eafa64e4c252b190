//! The metrics of the proxy.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Labels;
use super::reading::{counter, gauge};

/// The upper bounds of the buckets for durations.
const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0, 120.0];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of a proxy. Counters are kept in fields, so that a request needs no lookup.
#[derive(Debug)]
pub struct ProxyMetrics {
    answers: Family<Labels<1>, Counter>,
    /// The counters of `answers`, by the first digit of the status.
    by_class: [Counter; CLASSES.len()],
    durations: Histogram,
    bytes: Counter,
    shared: Counter,
    retries: Counter,
    unanswered: Counter,
    strangers: Counter,
    dialled: Counter,
    crowded: Counter,
    up: Family<Labels<0>, Gauge>,
    last_success: Family<Labels<0>, Gauge>,
    /// Whether the server answered last time: 1, 0, or negative before the first attempt.
    answers_now: AtomicI64,
}

impl Default for ProxyMetrics {
    fn default() -> Self {
        let answers = Family::<Labels<1>, Counter>::default();
        Self {
            by_class: CLASSES.map(|class| answers.get_or_create_owned(&[("status", class)])),
            answers,
            durations: Histogram::new(SECONDS),
            bytes: Counter::default(),
            shared: Counter::default(),
            retries: Counter::default(),
            unanswered: Counter::default(),
            strangers: Counter::default(),
            dialled: Counter::default(),
            crowded: Counter::default(),
            up: Family::default(),
            last_success: Family::default(),
            answers_now: AtomicI64::new(-1),
        }
    }
}

/// The numbers of a proxy's connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// All open connections.
    pub open: usize,
    /// Open unauthenticated connections.
    pub unauthenticated: usize,
    /// Connections closed so far to make room for others.
    pub evicted: u64,
}

impl ProxyMetrics {
    pub(crate) fn register(
        &self,
        registry: &mut Registry,
        connections: impl Fn() -> Connections + Send + Sync + 'static,
    ) {
        let help = "Answers to algorithms, by the class of their HTTP status";
        registry.register("sextant_proxy_answers", help, self.answers.clone());
        let help = "How long algorithms waited for whole answers";
        registry.register("sextant_proxy_duration_seconds", help, self.durations.clone());
        for (name, help, metric) in [
            ("answered_bytes", "Bytes of answers to algorithms", &self.bytes),
            ("shared_answers", "Answers that were given to several requests at once", &self.shared),
            ("retries", "Requests that were sent to the server again", &self.retries),
            ("unanswered", "Requests that the server did not answer", &self.unanswered),
            ("strangers", "Requests without the token of an algorithm", &self.strangers),
            ("server_connections", "Connections made to the server", &self.dialled),
            (
                "crowded_connections",
                "Connections and requests refused because their source or owner had too many",
                &self.crowded,
            ),
        ] {
            registry.register(format!("sextant_proxy_{name}"), help, metric.clone());
        }
        let help = "Whether the server answered when the proxy last asked: 1 or 0";
        registry.register("sextant_proxy_upstream_up", help, self.up.clone());
        let help = "When the server last answered the proxy's own question, in seconds since 1970";
        registry.register("sextant_proxy_upstream_last_success_timestamp_seconds", help, self.last_success.clone());
        registry.register_collector(Box::new(Counted(connections)));
    }

    /// Records a response that was sent.
    pub fn answered(&self, status: u16, took: Duration, bytes: u64) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.by_class[class].inc();
        self.durations.observe(took.as_secs_f64());
        self.bytes.inc_by(bytes);
    }

    /// Returns how many responses were sent.
    pub fn answers(&self) -> u64 {
        self.by_class.iter().map(Counter::get).sum()
    }

    /// Counts a response that another request shared.
    pub fn shared(&self) {
        self.shared.inc();
    }

    /// Returns how many responses were shared with other requests.
    pub fn shared_answers(&self) -> u64 {
        self.shared.get()
    }

    /// Counts a retry of a request.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts a request that never got a response from the server.
    pub fn unanswered(&self) {
        self.unanswered.inc();
    }

    /// Counts a request without an algorithm's token.
    pub fn stranger(&self) {
        self.strangers.inc();
    }

    /// Counts a new connection to the server.
    pub fn dialled(&self) {
        self.dialled.inc();
    }

    /// Counts a connection or request that was refused because its client had too many.
    pub fn crowded(&self) {
        self.crowded.inc();
    }

    /// Records that the server answered at this time, in seconds since 1970. Returns whether it did not answer before.
    pub fn server_answers(&self, now: u64) -> bool {
        self.last_success.get_or_create(&[]).set(i64::try_from(now).unwrap_or(i64::MAX));
        self.up.get_or_create(&[]).set(1);
        self.answers_now.swap(1, Relaxed) != 1
    }

    /// Records that the server did not answer. Returns whether that is new.
    pub fn server_is_silent(&self) -> bool {
        self.up.get_or_create(&[]).set(0);
        self.answers_now.swap(0, Relaxed) != 0
    }
}

/// Counts the connections at each scrape.
struct Counted<F>(F);

impl<F> fmt::Debug for Counted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl<F: Fn() -> Connections + Send + Sync + 'static> Collector for Counted<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Connections { open, unauthenticated, evicted } = (self.0)();
        let now = |value: usize| vec![([], value as f64)];
        gauge(&mut encoder, "sextant_proxy_connections", "Connections of algorithms that are open.", now(open))?;
        let help = "Connections that are open and have not shown a token that the server accepts.";
        gauge(&mut encoder, "sextant_proxy_unauthenticated_connections", help, now(unauthenticated))?;
        let help = "Connections that were closed to make room for others.";
        counter(&mut encoder, "sextant_proxy_evicted_connections", help, evicted as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn answers_are_in_their_classes() {
        let (metrics, proxy) = (Metrics::default(), ProxyMetrics::default());
        metrics.proxy(&proxy, || Connections { open: 5, unauthenticated: 2, evicted: 1 });
        for (status, milliseconds) in [(200, 3), (201, 30), (404, 1), (503, 200_000)] {
            proxy.answered(status, Duration::from_millis(milliseconds), 10);
        }
        let text = metrics.encode();
        for line in [
            "sextant_proxy_answers_total{status=\"2xx\"} 2",
            "sextant_proxy_answers_total{status=\"4xx\"} 1",
            "sextant_proxy_duration_seconds_bucket{le=\"0.005\"} 2",
            "sextant_proxy_duration_seconds_bucket{le=\"120\"} 3",
            "sextant_proxy_duration_seconds_bucket{le=\"+Inf\"} 4",
            "sextant_proxy_duration_seconds_count 4",
            "sextant_proxy_answered_bytes_total 40",
            "sextant_proxy_connections 5",
            "sextant_proxy_unauthenticated_connections 2",
            "sextant_proxy_evicted_connections_total 1",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in {text}");
        }
    }

    #[test]
    fn only_changes_are_news_and_the_last_success_stays() {
        let (metrics, proxy) = (Metrics::default(), ProxyMetrics::default());
        metrics.proxy(&proxy, || Connections { open: 0, unauthenticated: 0, evicted: 0 });
        let upstream = || {
            let of_upstream = |line: &&str| line.starts_with("sextant_proxy_upstream");
            metrics.encode().lines().filter(of_upstream).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(upstream().is_empty());
        assert_eq!([proxy.server_is_silent(), proxy.server_is_silent()], [true, false]);
        assert_eq!(upstream(), ["sextant_proxy_upstream_up 0"]);
        assert_eq!([proxy.server_answers(5), proxy.server_answers(7)], [true, false]);
        assert!(proxy.server_is_silent());
        let last = "sextant_proxy_upstream_last_success_timestamp_seconds 7";
        assert_eq!(upstream(), ["sextant_proxy_upstream_up 0", last]);
        assert!(proxy.server_answers(9));
    }
}
