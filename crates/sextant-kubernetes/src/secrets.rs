//! The Secrets that Sextant creates: the node's own (kept across restarts), one per run (deleted with the run's Job), and
//! one for private registries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use secrecy::ExposeSecret;
use serde_json::json;
use sextant_config::Registry;
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;

use super::cluster::{error_chain, retry_transient, status_code, with_timeout};
use crate::data_port::keys::{KeyOf, NodeSecret, SECRET_BYTES};
use crate::decisions::facts::JobFacts;
use crate::decisions::{job, labels};

/// The key in the node's Secret.
const NODE_SECRET: &str = "secret";
/// The beginning of the log line for a retry.
const WHAT: &str = "Can't get the Secret that this node keeps for its pods at the moment";

/// The node's secret: the one stored in the cluster, or a new one, which this stores.
///
/// # Errors
/// If the cluster has no such Secret and refuses a new one, or the existing one has other content.
pub async fn of_node(api: &Api<Secret>, identity: &Identity) -> Result<NodeSecret, NodeError> {
    let name = identity.node_secret_name();
    let failed = |error: &dyn std::error::Error| {
        NodeError::Cluster(format!(
            "The Secret '{name}', which this node keeps for its pods, can't be used: {}",
            error_chain(error)
        ))
    };
    // Twice, because another process of this node may create it between get and create.
    for _ in 0..2 {
        if let Some(secret) = retry_transient(WHAT, || api.get_opt(&name)).await.map_err(|error| failed(&error))? {
            if labels::is_of_another_release(secret.labels(), identity.release()) {
                return Err(NodeError::Cluster(format!(
                    "The Secret '{name}' is that of another release of the chart. If this node's release got another \
                     name or namespace, delete the Secret when no runs are under way; otherwise another node of this \
                     namespace created it, to learn this one's keys."
                )));
            }
            let bytes = secret.data.and_then(|mut data| data.remove(NODE_SECRET));
            return bytes.and_then(|bytes| NodeSecret::from_bytes(&bytes.0)).ok_or_else(|| {
                NodeError::Cluster(format!(
                    "The Secret '{name}' does not hold {SECRET_BYTES} bytes under '{NODE_SECRET}': somebody changed \
                     it. Delete it when no runs are under way; the node creates a new one."
                ))
            });
        }
        let secret = NodeSecret::generate().map_err(|error| failed(&error))?;
        let data = BTreeMap::from([(NODE_SECRET.to_owned(), ByteString(secret.expose().to_vec()))]);
        match retry_transient(WHAT, || create(api, named(&name, identity), data.clone(), None)).await {
            Ok(()) => return Ok(secret),
            Err(error) if status_code(&error) == Some(409) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(NodeError::Cluster(format!("The Secret '{name}' appears and disappears; is another program changing it?")))
}

/// Creates the Secret with a run's key and its algorithm's environment (which may contain database passwords). It is deleted with the
/// run's Job. An existing Secret of this Job is fine. Returns `false` if an earlier Job of this name has one that is still being deleted.
///
/// # Errors
/// The API server's errors.
pub async fn of_run(
    api: &Api<Secret>,
    identity: &Identity,
    secret: &NodeSecret,
    job: &JobFacts,
    environment: BTreeMap<String, String>,
) -> kube::Result<bool> {
    let mut metadata = named(&job.name, identity);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: job.name.clone(),
        uid: job.uid.clone(),
        ..OwnerReference::default()
    }]);
    let key = secret.run_key(job.run, &key_of(job)).expose_secret().as_bytes().to_vec();
    let mut data: BTreeMap<_, _> =
        environment.into_iter().map(|(name, value)| (name, ByteString(value.into_bytes()))).collect();
    data.insert(job::SECRET_KEY.to_owned(), ByteString(key));
    match create(api, metadata, data, None).await {
        Err(error) if status_code(&error) == Some(409) => {
            let found = with_timeout(api.get(&job.name)).await?;
            let found = found.metadata;
            // Another node of the namespace may have created it first, to make the run use its key.
            let foreign = labels::is_of_another_release(&found.labels.unwrap_or_default(), identity.release());
            Ok(!foreign && found.owner_references.unwrap_or_default().iter().any(|owner| owner.uid == job.uid))
        }
        result => result.map(|()| true),
    }
}

/// What the key of a Job's pods is derived from.
pub fn key_of(job: &JobFacts) -> KeyOf {
    if job.key_of_uid { KeyOf::Job(job.uid.clone()) } else { KeyOf::Run }
}

/// Creates a Secret for the private registries of the configuration. Its name derives from its content, so changed passwords
/// create a new Secret. Returns the name.
///
/// # Errors
/// If the cluster refuses the Secret.
pub async fn of_registries(
    api: &Api<Secret>,
    identity: &Identity,
    registries: &[Registry],
) -> Result<String, NodeError> {
    let auths: serde_json::Map<_, _> = registries
        .iter()
        .map(|registry| {
            let auth = STANDARD.encode(format!("{}:{}", registry.username, registry.password.expose_secret()));
            (registry.registry.clone(), json!({ "auth": auth }))
        })
        .collect();
    let content = json!({ "auths": auths }).to_string().into_bytes();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let name =
        format!("sextant-registries-{}-{}", identity.key(), &data_encoding::HEXLOWER.encode(digest.as_ref())[..8]);
    let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(content))]);
    let kind = Some("kubernetes.io/dockerconfigjson");
    match retry_transient("Can't create the Secret for `docker_registries` at the moment", || {
        create(api, named(&name, identity), data.clone(), kind)
    })
    .await
    {
        Err(error) if status_code(&error) != Some(409) => Err(NodeError::Cluster(format!(
            "Could not create the Secret for `docker_registries`: {}",
            error_chain(&error)
        ))),
        _ => Ok(name),
    }
}

fn named(name: &str, identity: &Identity) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels::of_node(identity)), ..ObjectMeta::default() }
}

async fn create(
    api: &Api<Secret>,
    metadata: ObjectMeta,
    data: BTreeMap<String, ByteString>,
    kind: Option<&str>,
) -> kube::Result<()> {
    let secret = Secret { metadata, data: Some(data), type_: kind.map(Into::into), ..Secret::default() };
    with_timeout(api.create(&PostParams::default(), &secret)).await.map(|_| ())
}
