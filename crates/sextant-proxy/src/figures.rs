//! What is counted, in Prometheus's text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sextant_process::connection_limits::ConnectionCounts;

use super::upstream_health::UpstreamHealth;

/// The upper ends of the classes of durations, in milliseconds.
const MILLISECONDS: [u64; 8] = [5, 25, 100, 500, 2_500, 10_000, 30_000, 120_000];

/// Counters, which only grow, and what is known of the server.
#[derive(Default)]
pub(crate) struct Figures {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 5],
    durations: [AtomicU64; MILLISECONDS.len() + 1],
    microseconds: AtomicU64,
    bytes: AtomicU64,
    /// Answers that were another request's, too.
    pub shared: AtomicU64,
    /// Requests that were tried again.
    pub retries: AtomicU64,
    /// Requests that never got an answer of the server's.
    pub unanswered: AtomicU64,
    /// Requests without an algorithm's token.
    pub strangers: AtomicU64,
    /// Connections to the server.
    pub dialled: AtomicU64,
    /// Connections and requests that were refused at once, since their caller had too many.
    pub crowded: AtomicU64,
    /// Whether the server answers.
    pub upstream: UpstreamHealth,
}

impl Figures {
    /// An answer is gone.
    pub fn answered(&self, status: u16, took: Duration, bytes: u64) {
        let class = usize::from(status / 100).clamp(1, self.answers.len()) - 1;
        self.answers[class].fetch_add(1, Relaxed);
        let milliseconds = took.as_millis() as u64;
        let class = MILLISECONDS.iter().position(|most| milliseconds <= *most).unwrap_or(MILLISECONDS.len());
        self.durations[class].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(took.as_micros() as u64, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Writes all of them, and how many connections there are.
    pub fn write(&self, text: &mut String, connections: ConnectionCounts) {
        // Writing to a String can't fail.
        let _ = self.lines(text, connections);
    }

    fn lines(&self, text: &mut String, connections: ConnectionCounts) -> std::fmt::Result {
        writeln!(text, "# TYPE sextant_proxy_answers_total counter")?;
        for (class, count) in self.answers.iter().enumerate() {
            writeln!(text, "sextant_proxy_answers_total{{status=\"{}xx\"}} {}", class + 1, count.load(Relaxed))?;
        }
        writeln!(text, "# TYPE sextant_proxy_duration_seconds histogram")?;
        let mut sum = 0;
        for (count, most) in self.durations.iter().zip(MILLISECONDS) {
            sum += count.load(Relaxed);
            let most = most as f64 / 1000.0;
            writeln!(text, "sextant_proxy_duration_seconds_bucket{{le=\"{most}\"}} {sum}")?;
        }
        sum += self.durations[MILLISECONDS.len()].load(Relaxed);
        writeln!(text, "sextant_proxy_duration_seconds_bucket{{le=\"+Inf\"}} {sum}")?;
        let seconds = self.microseconds.load(Relaxed) as f64 / 1e6;
        writeln!(text, "sextant_proxy_duration_seconds_sum {seconds}")?;
        writeln!(text, "sextant_proxy_duration_seconds_count {sum}")?;
        let ConnectionCounts { unauthenticated, authenticated, evictions } = connections;
        for (name, count) in [
            ("answered_bytes", self.bytes.load(Relaxed)),
            ("shared_answers", self.shared.load(Relaxed)),
            ("retries", self.retries.load(Relaxed)),
            ("unanswered", self.unanswered.load(Relaxed)),
            ("strangers", self.strangers.load(Relaxed)),
            ("server_connections", self.dialled.load(Relaxed)),
            ("crowded_connections", self.crowded.load(Relaxed)),
            ("evicted_connections", evictions),
        ] {
            writeln!(text, "# TYPE sextant_proxy_{name}_total counter")?;
            writeln!(text, "sextant_proxy_{name}_total {count}")?;
        }
        for (name, count) in
            [("connections", unauthenticated + authenticated), ("unauthenticated_connections", unauthenticated)]
        {
            writeln!(text, "# TYPE sextant_proxy_{name} gauge")?;
            writeln!(text, "sextant_proxy_{name} {count}")?;
        }
        self.upstream.lines(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_their_classes() {
        let figures = Figures::default();
        for (status, milliseconds) in [(200, 3), (201, 30), (404, 1), (503, 200_000)] {
            figures.answered(status, Duration::from_millis(milliseconds), 10);
        }
        let mut text = String::new();
        figures.write(&mut text, ConnectionCounts { unauthenticated: 2, authenticated: 3, evictions: 1 });
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
}
