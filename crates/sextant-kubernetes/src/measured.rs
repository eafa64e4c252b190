//! Metrics of the requests to the API server.

use std::time::Instant;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use sextant_metrics::KubernetesMetrics;

/// Wraps a client so that its requests are counted.
pub fn measured(client: Client, metrics: KubernetesMetrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(tower::service_fn(move |request| send(client.clone(), metrics.clone(), request)), namespace)
}

async fn send(
    client: Client,
    metrics: KubernetesMetrics,
    request: Request<Body>,
) -> Result<Response<Body>, kube::Error> {
    let (method, uri, began) = (request.method().clone(), request.uri().clone(), Instant::now());
    let answer = client.send(request).await;
    let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
    metrics.ended(method.as_str(), uri.path(), uri.query(), status, began.elapsed());
    answer
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use kube::Api;
    use sextant_metrics::Metrics;

    use super::*;

    #[tokio::test]
    async fn a_request_counts_with_its_answer_or_without_one() {
        let metrics = Metrics::default();
        let answers = tower::service_fn(|request: Request<Body>| async move {
            match request.uri().path().ends_with("/away") {
                true => Err(std::io::Error::other("away")),
                false => Ok(Response::builder().status(404).body(Body::from(b"{}".to_vec())).unwrap()),
            }
        });
        let client = measured(Client::new(answers, "v6-jobs"), metrics.kubernetes());
        let jobs: Api<Job> = Api::default_namespaced(client);
        for name in ["gone", "away"] {
            jobs.get(name).await.unwrap_err();
        }
        let text = metrics.encode();
        for code in ["404", "none"] {
            let series =
                format!("sextant_kubernetes_requests_total{{verb=\"get\",resource=\"jobs\",code=\"{code}\"}} 1");
            assert!(text.contains(&series), "{series} in {text}");
        }
    }
}
