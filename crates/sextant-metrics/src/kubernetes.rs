//! The metrics of requests to the API server, and of the checks that algorithms are isolated.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Labels, code};

/// The upper bounds of the buckets for durations.
const SECONDS: [f64; 7] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

/// The metrics of a node's cluster. A clone is another handle to the same metrics.
#[derive(Debug, Clone)]
pub struct KubernetesMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Family<Labels<3>, Counter>,
    durations: Family<Labels<2>, Histogram, fn() -> Histogram>,
    proven: Gauge,
    disabled: Gauge,
    open: Gauge,
    last_proof: Family<Labels<0>, Gauge>,
    proofs: Family<Labels<1>, Counter>,
}

impl Default for KubernetesMetrics {
    /// Creates metrics that are not exported.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl KubernetesMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let inner = Inner {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            proven: Gauge::default(),
            disabled: Gauge::default(),
            open: Gauge::default(),
            last_proof: Family::default(),
            proofs: Family::default(),
        };
        for result in ["isolated", "not_isolated", "inconclusive"] {
            drop(inner.proofs.get_or_create(&[("result", result)]));
        }
        let help = "Requests to the API server, by kind and HTTP status; `none`: there was no answer";
        registry.register("sextant_kubernetes_requests", help, inner.requests.clone());
        let help = "How long the API server took to begin its answer";
        registry.register("sextant_kubernetes_request_duration_seconds", help, inner.durations.clone());
        let help = "Whether the last proof of isolation that was conclusive found algorithms isolated: 1 or 0";
        registry.register("sextant_isolation_proven", help, inner.proven.clone());
        let help = "Whether runs are launched without isolation (`kubernetes.allow_unisolated`): 1 or 0";
        registry.register("sextant_isolation_disabled", help, inner.disabled.clone());
        let help = "How many addresses the last conclusive proof could reach that algorithms must not reach";
        registry.register("sextant_isolation_open_targets", help, inner.open.clone());
        let help = "When isolation was last proven, in seconds since 1970";
        registry.register("sextant_isolation_last_proof_timestamp_seconds", help, inner.last_proof.clone());
        let help = "Proofs of isolation, by result";
        registry.register("sextant_isolation_proofs", help, inner.proofs.clone());
        Self(Arc::new(inner))
    }

    /// Records a request to the API server that has ended; `status` is the response's.
    pub fn ended(&self, method: &str, path: &str, query: Option<&str>, status: Option<u16>, took: Duration) {
        let (resource, name) = resource(path);
        let labels = [("verb", verb(method, query, name)), ("resource", resource)];
        self.0.requests.get_or_create(&[labels[0], labels[1], ("code", code(status))]).inc();
        self.0.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Records that runs are launched even if algorithms are not isolated.
    pub fn isolation_disabled(&self) {
        self.0.disabled.set(1);
    }

    /// Records that algorithms were found isolated.
    pub fn isolated(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.last_proof.get_or_create(&[]).set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.0.proven.set(1);
        self.0.open.set(0);
        self.0.proofs.get_or_create(&[("result", "isolated")]).inc();
    }

    /// Records that algorithms were not isolated or could not reach what they need, and how many addresses are open to them.
    pub fn not_isolated(&self, open: usize) {
        self.0.proven.set(0);
        self.0.open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.0.proofs.get_or_create(&[("result", "not_isolated")]).inc();
    }

    /// Records that the check was inconclusive.
    pub fn inconclusive(&self) {
        self.0.proofs.get_or_create(&[("result", "inconclusive")]).inc();
    }
}

fn verb(method: &str, query: Option<&str>, name: Option<&str>) -> &'static str {
    let watch = query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    match (method, name) {
        ("GET", None) if watch => "watch",
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", _) => "delete",
        _ => "other",
    }
}

/// Returns the kind of a path and the name in it: `pods/log` and `y` for `/api/v1/namespaces/x/pods/y/log`.
fn resource(path: &str) -> (&'static str, Option<&str>) {
    let mut parts = path.trim_matches('/').split('/').peekable();
    match parts.next() {
        Some("api") => drop(parts.next()),
        Some("apis") => drop((parts.next(), parts.next())),
        Some("version") => return ("version", Some("version")),
        _ => return ("other", None),
    }
    if parts.peek() == Some(&"namespaces") {
        parts.next();
        let namespace = parts.next();
        if parts.peek().is_none() {
            return ("namespaces", namespace);
        }
    }
    let kind = parts.next().unwrap_or_default();
    let name = parts.next();
    let resource = match (kind, parts.next()) {
        ("pods", Some("log")) => "pods/log",
        ("pods", _) => "pods",
        ("jobs", _) => "jobs",
        ("secrets", _) => "secrets",
        ("events", _) => "events",
        ("leases", _) => "leases",
        ("services", _) => "services",
        ("endpointslices", _) => "endpointslices",
        ("nodes", _) => "nodes",
        ("networkpolicies", _) => "networkpolicies",
        ("persistentvolumeclaims", _) => "persistentvolumeclaims",
        ("resourcequotas", _) => "resourcequotas",
        ("limitranges", _) => "limitranges",
        ("selfsubjectaccessreviews", _) => "selfsubjectaccessreviews",
        ("serviceaccounts", _) => "serviceaccounts",
        _ => "other",
    };
    (resource, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_verb_and_a_resource_and_no_name() {
        for (method, path, query, expected) in [
            ("GET", "/api/v1/namespaces/v6/pods", None, ("list", "pods")),
            ("GET", "/api/v1/namespaces/v6/pods", Some("&watch=true&timeoutSeconds=25"), ("watch", "pods")),
            ("GET", "/api/v1/namespaces/v6/pods/x-1", None, ("get", "pods")),
            ("GET", "/api/v1/namespaces/v6/pods/x-1/log", Some("container=a"), ("get", "pods/log")),
            ("POST", "/apis/batch/v1/namespaces/v6/jobs", None, ("create", "jobs")),
            ("PATCH", "/apis/batch/v1/namespaces/v6/jobs/x", None, ("patch", "jobs")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/v6/leases/x", None, ("update", "leases")),
            ("GET", "/api/v1/namespaces/v6", None, ("get", "namespaces")),
            ("GET", "/api/v1/nodes", None, ("list", "nodes")),
            ("GET", "/version", None, ("get", "version")),
            ("GET", "/apis/x/v1/namespaces/v6/unknown/y", None, ("get", "other")),
        ] {
            let (kind, name) = resource(path);
            assert_eq!((verb(method, query, name), kind), expected, "{method} {path}");
        }
    }
}
