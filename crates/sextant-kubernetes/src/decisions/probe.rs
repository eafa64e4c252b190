//! The Jobs that check the isolation: a prober, which tries to connect, and its neighbour, which listens. To the cluster both look like
//! algorithms: they have the labels that network policies select, and run on the same machines.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, LocalObjectReference, ObjectFieldSelector, PodSpec, PodTemplateSpec,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use sextant_config::{KubernetesConfig, PodSecurity};
use sextant_core::names::Identity;

use super::isolation::Try;
use super::{job, labels, security};

/// The role of Sextant's binary in these pods.
pub const ROLE: &str = "probe";
/// The environment variable with the probe's orders, as JSON.
pub const ORDERS: &str = "SEXTANT_PROBE";
/// The environment variable with the address of the pod's machine.
pub const MACHINE: &str = "SEXTANT_MACHINE";
/// The user of a probe if the namespace does not require another.
const NOBODY: u32 = 65532;
/// The seconds after which a probe's pod ends in any case.
const LONGEST: i64 = 240;

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orders {
    /// Listen on these ports until the process is stopped.
    Listen(Vec<u16>),
    /// Retry the `needed` targets for a while until they answer, and then try the `closed` ones.
    Try {
        /// Targets that algorithms need.
        needed: Vec<Try>,
        /// Targets that algorithms must not reach.
        closed: Vec<Try>,
    },
}

impl Orders {
    fn name(&self) -> &'static str {
        match self {
            Self::Listen(_) => labels::PROBE_NEIGHBOUR,
            Self::Try { .. } => labels::PROBE_PROBER,
        }
    }
}

/// Creates a probe's Job, which is deleted a minute after its end.
pub fn probe(identity: &Identity, config: &KubernetesConfig, orders: &Orders, pull_secrets: &[String]) -> Job {
    let mut labels = config.labels.clone();
    labels.extend(
        [
            (labels::APP, "sextant".to_owned()),
            (labels::COMPONENT, labels::COMPONENT_ALGORITHM.to_owned()),
            (labels::NODE_KEY, identity.key().to_owned()),
            (labels::NODE, identity.node.to_string()),
            (labels::PROBE, orders.name().to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some(config.annotations.clone()).filter(|all| !all.is_empty()),
        ..ObjectMeta::default()
    };
    let pull_secrets: Vec<_> = pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    Job {
        metadata: ObjectMeta { generate_name: Some(identity.probe_name()), ..metadata.clone() },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(LONGEST),
            ttl_seconds_after_finished: Some(60),
            template: PodTemplateSpec {
                metadata: Some(metadata),
                spec: Some(PodSpec {
                    restart_policy: Some("Never".into()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    termination_grace_period_seconds: Some(2),
                    dns_policy: Some("None".into()),
                    dns_config: Some(job::no_dns()),
                    security_context: Some(security::pod(PodSecurity::Restricted { user: user(config) })),
                    image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
                    node_selector: (!config.node_selector.is_empty()).then(|| config.node_selector.clone()),
                    tolerations: (!config.tolerations.is_empty()).then(|| config.tolerations.clone()),
                    containers: vec![container(config, orders)],
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// The probe's user: in a namespace with rules about users, the same as the algorithms'.
fn user(config: &KubernetesConfig) -> u32 {
    match config.pod_security {
        PodSecurity::Restricted { user } => user,
        PodSecurity::Baseline => NOBODY,
    }
}

fn container(config: &KubernetesConfig, orders: &Orders) -> Container {
    let machine = ObjectFieldSelector { field_path: "status.hostIP".into(), api_version: None };
    Container {
        name: ROLE.into(),
        image: Some(config.image.clone()),
        image_pull_policy: config.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        args: Some(vec![ROLE.into()]),
        env: Some(vec![
            // Orders can always be serialized.
            EnvVar { name: ORDERS.into(), value: serde_json::to_string(orders).ok(), value_from: None },
            EnvVar {
                name: MACHINE.into(),
                value: None,
                value_from: Some(EnvVarSource { field_ref: Some(machine), ..EnvVarSource::default() }),
            },
        ]),
        resources: Some(config.helper_resources.clone()),
        security_context: Some(SecurityContext { read_only_root_filesystem: Some(true), ..security::unprivileged() }),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::isolation::How;
    use sextant_config::Config;
    use vantage6_types::NodeId;

    #[test]
    fn to_the_cluster_a_probe_is_an_algorithm_but_to_the_watches_it_is_none() {
        let yaml = "server_url: http://s\napi_key: k\nkubernetes: {labels: {team: data}, annotations: {mesh: 'no'}, node_selector: {disk: ssd}}";
        let config = Config::parse(yaml, std::path::Path::new("node.yaml"), &|_| None).unwrap();
        let identity = Identity::new("http://s".into(), NodeId(3), &"k".into());
        let tries = vec![Try { to: "machine:22".into(), how: How::Tcp }];
        let orders = Orders::Try { needed: vec![], closed: tries };
        let job = probe(&identity, config.kubernetes().unwrap(), &orders, &["pull".into()]);
        let template = job.spec.unwrap().template;
        let labels = template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels[labels::COMPONENT], labels::COMPONENT_ALGORITHM);
        assert_eq!((labels[labels::NODE_KEY].as_str(), labels["team"].as_str()), (identity.key(), "data"));
        assert!(labels::selector(identity.key()).contains(&format!("!{}", labels::PROBE)));
        assert!(labels::run_of(&labels).is_none());
        let pod = template.spec.unwrap();
        assert_eq!(pod.node_selector.unwrap()["disk"], "ssd");
        let env = pod.containers[0].env.clone().unwrap();
        assert_eq!(serde_json::from_str::<Orders>(env[0].value.as_ref().unwrap()).unwrap(), orders);
    }
}
