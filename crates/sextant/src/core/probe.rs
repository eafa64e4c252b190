//! The Job that tries at start whether a pod reaches the node's data port.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::RECEIVE;
use super::{job, labels, names::Identity, security};
use crate::config::KubernetesConfig;

/// Makes the probe's Job. It goes away by itself a minute after its end.
pub fn probe(identity: &Identity, config: &KubernetesConfig, address: &str, pull_secrets: &[String]) -> Job {
    let labels = BTreeMap::from(
        [
            (labels::APP, "sextant".to_owned()),
            (labels::COMPONENT, labels::COMPONENT_PROBE.to_owned()),
            (labels::NODE_KEY, identity.key().to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let container = Container {
        name: "probe".into(),
        image: Some(config.image.clone()),
        image_pull_policy: config.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(vec![RECEIVE.into(), "--probe".into()]),
        env: Some(vec![EnvVar { name: job::env::ADDRESS.into(), value: Some(address.to_owned()), value_from: None }]),
        resources: Some(job::small()),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(65532),
            read_only_root_filesystem: Some(true),
            ..security::unprivileged()
        }),
        ..Container::default()
    };
    let pull_secrets: Vec<_> = pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    Job {
        metadata: ObjectMeta {
            generate_name: Some(identity.probe_name()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(120),
            ttl_seconds_after_finished: Some(60),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    restart_policy: Some("Never".into()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(PodSecurityContext {
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".into(),
                            localhost_profile: None,
                        }),
                        ..PodSecurityContext::default()
                    }),
                    image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
                    node_selector: (!config.node_selector.is_empty()).then(|| config.node_selector.clone()),
                    tolerations: (!config.tolerations.is_empty()).then(|| config.tolerations.clone()),
                    containers: vec![container],
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}
