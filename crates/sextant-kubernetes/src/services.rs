//! Looks up the Services that algorithms reach by a name (`kubernetes.services`).

use k8s_openapi::api::core::v1::{HostAlias, Service};
use kube::{Api, Client};
use sextant_config::KubernetesConfig;
use sextant_core::doctor_line::Line;
use sextant_core::run_state::Failure;
use sextant_core::runtime::LaunchError;
use vantage6_types::RunStatus;

use super::cluster::{error_chain, status_code, with_timeout};
use crate::decisions::services::host_aliases;

/// What researchers are told of a Service that is not there.
const MISSING: &str = "A service that this node gives to its algorithms is not available in its cluster.";

/// The entries of a pod's hosts file for all Services, as they are now.
///
/// # Errors
/// If one does not exist, may not be read, or has no address. A Service may be created again, so the run waits for it for a limited time.
pub async fn look_up(client: &Client, settings: &KubernetesConfig) -> Result<Vec<HostAlias>, LaunchError> {
    let mut all = Vec::new();
    for (alias, service) in &settings.services {
        let (namespace, name) = (&service.namespace, &service.name);
        let what = format!("the Service '{name}' of the namespace '{namespace}' (`kubernetes.services.{alias}`)");
        let missing = |why: String| {
            let failure = Failure::new(RunStatus::StartFailed, MISSING, format!("{what} can't be used: {why}"));
            LaunchError::Full(failure.because("ServiceMissing"))
        };
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        let found = with_timeout(api.get(name)).await.map_err(|error| match status_code(&error) {
            Some(404) => missing("there is none".to_owned()),
            Some(403) => missing(format!(
                "this node may not read it: {}. Give its account a Role with `get` of this Service",
                error_chain(&error)
            )),
            _ => LaunchError::Later(format!("{what} could not be read: {}", error_chain(&error))),
        })?;
        all.extend(host_aliases(alias, &found).map_err(|why| missing(why.to_owned()))?);
    }
    Ok(all)
}

/// Whether all Services are there, for `sextant doctor`.
pub async fn line(client: &Client, settings: &KubernetesConfig) -> Line {
    const SUBJECT: &str = "services";
    match look_up(client, settings).await {
        Ok(found) => {
            let known = |alias: &HostAlias| {
                format!("{} at {}", alias.hostnames.iter().flatten().cloned().collect::<String>(), alias.ip)
            };
            Line::ok(SUBJECT, format!("algorithms find {}", found.iter().map(known).collect::<Vec<_>>().join(", ")))
        }
        Err(error @ LaunchError::Later(_)) => Line::unknown(SUBJECT, error.to_string()),
        Err(error) => Line::wrong(SUBJECT, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use sextant_config::Config;

    use super::*;

    fn settings() -> KubernetesConfig {
        let text = "server_url: http://s\napi_key: k\nkubernetes: {services: {redis: {namespace: tools, name: cache, port: 6379}}}";
        Config::parse(text, std::path::Path::new("node.yaml"), &|_| None).unwrap().kubernetes().unwrap().clone()
    }

    async fn looked_up(status: u16, body: &'static str) -> Result<Vec<HostAlias>, LaunchError> {
        let answer = move |request: Request<Body>| async move {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/tools/services/cache");
            let answer = Response::builder().status(status).body(Body::from(body.as_bytes().to_vec()));
            Ok::<_, kube::Error>(answer.unwrap())
        };
        look_up(&Client::new(tower::service_fn(answer), "default"), &settings()).await
    }

    #[tokio::test]
    async fn what_a_launch_gets_of_a_service() {
        let found = looked_up(200, r#"{"spec": {"clusterIP": "10.0.0.7"}}"#).await.unwrap();
        assert_eq!((found[0].ip.as_str(), found[0].hostnames.clone()), ("10.0.0.7", Some(vec!["redis".to_owned()])));
        for (status, body, words) in [
            (
                404,
                r#"{"kind": "Status", "status": "Failure", "code": 404, "message": "", "reason": "NotFound"}"#,
                "there is none",
            ),
            (
                403,
                r#"{"kind": "Status", "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden"}"#,
                "`get` of this Service",
            ),
            (200, r#"{"spec": {"clusterIP": "None"}}"#, "no cluster IP"),
        ] {
            let error = looked_up(status, body).await.unwrap_err();
            let LaunchError::Full(failure) = error else { panic!("{error}") };
            assert!(
                failure.detail.contains(words) && failure.detail.contains("kubernetes.services.redis"),
                "{failure:?}"
            );
        }
        let away =
            looked_up(500, r#"{"kind": "Status", "status": "Failure", "code": 500, "message": "", "reason": ""}"#)
                .await;
        assert!(matches!(away, Err(LaunchError::Later(_))));
    }
}
