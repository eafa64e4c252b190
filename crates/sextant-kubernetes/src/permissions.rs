//! Checks this node's permissions in its namespace before the first run, so that a missing permission is one clear message
//! and not a run that fails.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use sextant_core::node_error::NodeError;
use tokio::time::sleep;

use super::cluster::{error_chain, status_code, with_timeout};

/// Group, resource and the verbs that Sextant uses on it: all that the chart's Role grants, whether the node needs it or can do
/// [without it](DISPENSABLE).
pub const NEEDED: [(&str, &str, &[&str]); 8] = [
    ("batch", "jobs", &["create", "get", "list", "watch", "patch"]),
    ("", "pods", &["list", "watch"]),
    ("", "pods/log", &["get"]),
    ("", "events", &["create", "list"]),
    ("", "secrets", &["create", "get"]),
    ("", "resourcequotas", &["list"]),
    ("", "limitranges", &["list"]),
    ("coordination.k8s.io", "leases", &["create", "get", "update"]),
];

/// Resources that a node can do without: it then reports a rule that forbids its runs only when the first run violates it. Roles of
/// earlier releases don't grant these.
const DISPENSABLE: [&str; 2] = ["resourcequotas", "limitranges"];

/// How many times a missing permission is checked before it counts as missing.
const TRIES: u32 = 3;
/// The pause between two checks.
const PAUSE: Duration = Duration::from_secs(1);

/// What the API server says about this node's permissions if none is known to be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// The node has all permissions.
    All,
    /// The API server does not say, for this reason.
    Unknown(String),
}

/// Checks all needed permissions with the API server.
///
/// # Errors
/// If a permission is missing; the error names it.
pub async fn check(client: &Client, namespace: &str) -> Result<Rights, NodeError> {
    let mut tries = TRIES;
    let missing = loop {
        tries -= 1;
        match missing(client, namespace).await {
            // An API server that has just started may not know all roles yet.
            Ok(missing) if !missing.is_empty() && tries > 0 => sleep(PAUSE).await,
            Ok(missing) => break missing,
            // If the cluster does not answer access reviews, a missing permission shows on first use.
            Err(error) => {
                let why = error_chain(&error);
                tracing::warn!("The cluster does not say what this node may do: {why}");
                return Ok(Rights::Unknown(why));
            }
        }
    };
    if !missing.is_empty() {
        return Err(NodeError::Cluster(format!(
            "In the namespace '{namespace}' this node may not: {}. Give its account the Role of the chart (charts/sextant/templates/rbac.yaml).",
            missing.join(", ")
        )));
    }
    exists(client, namespace).await.map(|()| Rights::All)
}

/// The needed permissions that this node lacks.
async fn missing(client: &Client, namespace: &str) -> kube::Result<Vec<String>> {
    let reviews = NEEDED
        .iter()
        .filter(|(_, resource, _)| !DISPENSABLE.contains(resource))
        .flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| (*group, *resource, *verb)))
        .map(|(group, resource, verb)| async move {
            let allowed = allowed(client, namespace, group, resource, verb).await?;
            Ok::<_, kube::Error>((!allowed).then(|| format!("{verb} {resource}")))
        });
    Ok(try_join_all(reviews).await?.into_iter().flatten().collect())
}

async fn allowed(client: &Client, namespace: &str, group: &str, resource: &str, verb: &str) -> kube::Result<bool> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.into()),
                namespace: Some(namespace.into()),
                resource: Some(resource.into()),
                subresource,
                verb: Some(verb.into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = with_timeout(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Checks that the namespace exists, since a missing one deserves a message of its own. An account that may not read it (a Role alone
/// does not allow that) gets the error with the first Job.
async fn exists(client: &Client, namespace: &str) -> Result<(), NodeError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match with_timeout(api.get(namespace)).await {
        Err(error) if status_code(&error) == Some(404) => Err(NodeError::Cluster(format!(
            "The namespace '{namespace}' does not exist. Create it with `kubectl create namespace {namespace}`, or \
             set `kubernetes.namespace`."
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    /// A cluster that answers each review like this; namespaces can't be read.
    fn cluster(status: StatusCode, allowed: bool) -> Client {
        let answer = move |request: Request<Body>| async move {
            let is_review = request.method() == http::Method::POST;
            let (status, body) = match (is_review, status) {
                (true, StatusCode::CREATED) => {
                    (status, serde_json::json!({"spec": {}, "status": {"allowed": allowed}}))
                }
                (true, status) => (status, serde_json::json!({"kind": "Status", "code": status.as_u16()})),
                (false, _) => (StatusCode::FORBIDDEN, serde_json::json!({"kind": "Status", "code": 403})),
            };
            let answer = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, kube::Error>(answer.unwrap())
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn rights_that_the_cluster_does_not_tell_are_unknown() {
        let rights = check(&cluster(StatusCode::CREATED, true), "runs").await;
        assert!(matches!(rights, Ok(Rights::All)), "{rights:?}");
        for status in [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            let rights = check(&cluster(status, true), "runs").await;
            assert!(matches!(rights, Ok(Rights::Unknown(_))), "{status} {rights:?}");
        }
        assert!(check(&cluster(StatusCode::CREATED, false), "runs").await.is_err());
    }
}
