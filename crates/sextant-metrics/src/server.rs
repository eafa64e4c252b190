//! The metrics of requests to the vantage6 server.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Labels, code};

/// The upper bounds of the buckets for durations.
const SECONDS: [f64; 8] = [0.025, 0.1, 0.5, 2.5, 10.0, 30.0, 120.0, 600.0];

/// The metrics of the connection to the server. A clone is another handle to the same metrics.
#[derive(Debug, Clone)]
pub struct ServerMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Family<Labels<3>, Counter>,
    durations: Family<Labels<2>, Histogram, fn() -> Histogram>,
    last_answer: Family<Labels<0>, Gauge>,
    clock_skew: Family<Labels<0>, Gauge>,
    certificate_expiry: Family<Labels<0>, Gauge>,
}

/// How a request to the server ended.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its path below the API's address.
    pub path: &'a str,
    /// The response's status; `None` without a response.
    pub status: Option<u16>,
    /// How long the response's head took.
    pub took: Duration,
    /// The server's time in seconds since 1970, if the response has it.
    pub date: Option<i64>,
}

impl Default for ServerMetrics {
    /// Creates metrics that are not exported.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl ServerMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let inner = Inner {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            last_answer: Family::default(),
            clock_skew: Family::default(),
            certificate_expiry: Family::default(),
        };
        let help = "Requests to the server, by kind and HTTP status; `none`: there was no answer";
        registry.register("sextant_server_requests", help, inner.requests.clone());
        let help = "How long the server took to begin its answer, with the time to send the request";
        registry.register("sextant_server_request_duration_seconds", help, inner.durations.clone());
        let help = "When the server last answered, in seconds since 1970";
        registry.register("sextant_server_last_answer_timestamp_seconds", help, inner.last_answer.clone());
        let help = "How far the server's clock is ahead of this machine's, from the last answer, to the second";
        registry.register("sextant_server_clock_skew_seconds", help, inner.clock_skew.clone());
        let help = "When the certificate of the server (or of what stands before it) ends, in seconds since 1970";
        registry.register(
            "sextant_server_certificate_expiry_timestamp_seconds",
            help,
            inner.certificate_expiry.clone(),
        );
        Self(Arc::new(inner))
    }

    /// Records a request that has ended.
    pub fn ended(&self, answer: Answer<'_>) {
        let Answer { method, path, status, took, date } = answer;
        let (method, endpoint) = (self::method(method), endpoint(path));
        let labels = [("method", method), ("endpoint", endpoint)];
        self.0.requests.get_or_create(&[labels[0], labels[1], ("code", code(status))]).inc();
        self.0.durations.get_or_create(&labels).observe(took.as_secs_f64());
        if status.is_some() {
            let now = now();
            self.0.last_answer.get_or_create(&[]).set(now);
            if let Some(date) = date {
                self.0.clock_skew.get_or_create(&[]).set(date.saturating_sub(now));
            }
        }
    }

    /// Records when the server's certificate expires, in seconds since 1970.
    pub fn certificate_ends(&self, at: i64) {
        self.0.certificate_expiry.get_or_create(&[]).set(at);
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn method(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

/// Returns the kind of a path, without ids.
fn endpoint(path: &str) -> &'static str {
    let mut parts = path.trim_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next()) {
        ("token", Some("node")) => "token/node",
        ("token", Some("refresh")) => "token/refresh",
        ("token", Some("container")) => "token/container",
        ("run", _) => "run",
        ("task", _) => "task",
        ("node", _) => "node",
        ("organization", _) => "organization",
        ("collaboration", _) => "collaboration",
        ("version", _) => "version",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_no_label() {
        for (path, expected) in [
            ("run", "run"),
            ("run/17", "run"),
            ("/task/9/", "task"),
            ("token/container", "token/container"),
            ("token/node", "token/node"),
            ("token/17", "other"),
            ("nothing/17", "other"),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
        assert_eq!(
            [Some(200), Some(299), Some(418), Some(999), None].map(code),
            ["200", "2xx", "4xx", "other", "none"]
        );
    }
}
