//! The Job of a run: one pod with `receive` (fetches the input and the token), the algorithm, and `return` (uploads the
//! output).
//!
//! An algorithm gets what vantage6's own node gives it, and nothing more: no service account, no capabilities, no means
//! to gain privileges, limited resources, and only the databases that its task asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, HostAlias, HostPathVolumeSource, LocalObjectReference,
    PodDNSConfig, PodDNSConfigOption, PodSpec, PodTemplateSpec, SecretKeySelector, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use printable::excerpt;
use sextant_config::{ImagePullPolicy, KubernetesConfig, Tmp};
use sextant_core::assignment::Assignment;
use sextant_core::environment::Locations;
use sextant_core::names::Identity;
use sextant_core::run_state::Disruption;
use sextant_files::run_context::RUN_CONTEXT;
use vantage6_types::RunId;

use super::databases::{self, Mounted};
use super::facts::{ALGORITHM, RECEIVE, RETURN};
use super::labels;
use super::scratch;
use super::security;
use super::services;

/// The environment variables of Sextant's own containers.
pub mod env {
    /// The run's id.
    pub const RUN: &str = "SEXTANT_RUN";
    /// The Job's name, by which the node distinguishes the launches of a run.
    pub const JOB: &str = "SEXTANT_JOB";
    /// The node's data port as `address:port`.
    pub const ADDRESS: &str = "SEXTANT_DATA_ADDRESS";
    /// The expected pin of the data port's key ([`crate::data_port::tls`]).
    pub const PIN: &str = "SEXTANT_DATA_PIN";
    /// The run's key, from its Secret.
    pub const KEY: &str = "SEXTANT_KEY";
    /// The folder with the run's input and output.
    pub const TASK_DIR: &str = "SEXTANT_TASK_DIR";
    /// The folder for the token, in memory.
    pub const TOKEN_DIR: &str = "SEXTANT_TOKEN_DIR";
    /// The folder to create for the runs of one job, if they share one.
    pub const SHARED_DIR: &str = "SEXTANT_SHARED_DIR";
    /// The mount path of the run's own volume, in which `receive` creates folders, if the run has one.
    pub const SCRATCH_DIR: &str = "SEXTANT_SCRATCH_DIR";
    /// What `receive` writes to `run_context.json`, besides the input's function and arguments, if the node wants that file.
    pub const RUN_CONTEXT: &str = "SEXTANT_RUN_CONTEXT";
    /// How many seconds shared folders are kept after their last use.
    pub const SHARED_KEEP: &str = "SEXTANT_SHARED_KEEP";
}

/// The key in a run's Secret for the run's key. It is not a valid variable name, since the other entries are the algorithm's variables.
pub const SECRET_KEY: &str = "run.key";
/// The key in a run's Secret for what `run_context.json` says; no valid name of a variable, either.
pub const RUN_CONTEXT_KEY: &str = "run.context";
/// The folder that the runs of a job share, as algorithms see it.
const TEMPORARY: &str = "/mnt/tmp";
/// The mount path, in `receive` and `return`, of the volume with the shared folders.
const SHARED: &str = "/run/sextant/shared";
/// The proxy's host name, the same as in vantage6's own node.
pub const PROXY: &str = "proxyserver";
/// The folder to which `receive` writes the token, in memory.
const TOKEN: &str = "/run/sextant/token";
/// How long an output may wait for an unavailable server.
const DELIVERY: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);
/// How long a pod may take to terminate.
const GRACE_SECONDS: i64 = 10;

/// The inputs of a run's Job.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The node.
    pub identity: &'a Identity,
    /// The run.
    pub assignment: &'a Assignment,
    /// The earlier launch of the run that the cluster disrupted.
    pub before: Disruption,
    /// The node owner's settings.
    pub config: &'a KubernetesConfig,
    /// The source of `/mnt/tmp`.
    pub tmp: Tmp<'a>,
    /// The databases that the task asks for.
    pub databases: &'a [Mounted],
    /// The names of the algorithm's environment variables, and maybe [`RUN_CONTEXT_KEY`]; their values are in the run's Secret.
    pub variables: &'a [&'a str],
    /// How pods reach the node.
    pub data_port: &'a DataPortForPods,
    /// The addresses of the Services that algorithms reach.
    pub services: &'a [HostAlias],
    /// How algorithms reach the proxy.
    pub proxy: SocketAddr,
    /// The Secrets with which images are pulled.
    pub pull_secrets: &'a [String],
}

/// What pods need to reach the node's data port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPortForPods {
    /// `address:port` with an IP address, because pods do not resolve names.
    pub address: String,
    /// The pin of its key.
    pub pin: String,
}

/// The paths of a run's files in the algorithm's container, and the proxy's address.
pub fn locations(run: RunId, proxy: SocketAddr, with_run_context: bool) -> Locations {
    let folder = task_folder(run);
    Locations {
        input: format!("{folder}/input"),
        output: format!("{folder}/output"),
        token: token(run),
        temporary: TEMPORARY.into(),
        proxy_host: format!("http://{PROXY}"),
        proxy_port: proxy.port(),
        run_context: with_run_context.then(|| format!("{folder}/{RUN_CONTEXT}")),
    }
}

fn token(run: RunId) -> String {
    format!("{}/token", task_folder(run))
}

/// The only names that a pod can resolve are in its hosts file: the proxy's, and those of services and of databases on the network.
fn host_aliases(plan: &Plan<'_>) -> Vec<HostAlias> {
    let proxy = HostAlias { ip: plan.proxy.ip().to_string(), hostnames: Some(vec![PROXY.to_owned()]) };
    let databases = databases::host_aliases(plan.databases);
    services::merged(databases.into_iter().chain(plan.services.iter().cloned()).chain([proxy]))
}

/// Configures a name server address at which nothing listens. The pod's own kernel then refuses a query at once, which would otherwise
/// wait for an answer that no network policy admits.
pub fn no_dns() -> PodDNSConfig {
    let option = |name: &str| PodDNSConfigOption { name: Some(name.into()), value: Some("1".into()) };
    PodDNSConfig {
        nameservers: Some(vec!["127.0.0.1".into()]),
        options: Some(vec![option("attempts"), option("timeout")]),
        searches: None,
    }
}

/// The run's folder, with the same name as in vantage6's own node.
fn task_folder(run: RunId) -> String {
    format!("{}/{}", databases::FOLDER, task_folder_name(run))
}

fn task_folder_name(run: RunId) -> String {
    format!("task-{:09}", run.0)
}

/// Creates a run's Job.
pub fn job(plan: &Plan<'_>) -> Job {
    let name = plan.identity.attempt_name(plan.assignment, plan.before.attempt + 1);
    let metadata = ObjectMeta {
        labels: Some(job_labels(plan)),
        annotations: Some(job_annotations(plan)),
        ..ObjectMeta::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(plan.config.namespace.clone()),
            ..metadata.clone()
        },
        spec: Some(JobSpec {
            // A run is executed once; the node decides what to do about a lost pod.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(backstop(plan.config)),
            pod_replacement_policy: Some("Failed".into()),
            pod_failure_policy: Some(tell_disruptions()),
            template: PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(plan, &name)) },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// Makes the Job record that its pod was disrupted, because the pod may be gone before this node reads it.
fn tell_disruptions() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: "FailJob".into(),
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".into(),
                ..PodFailurePolicyOnPodConditionsPattern::default()
            }]),
            ..PodFailurePolicyRule::default()
        }],
    }
}

/// The seconds after which a pod ends even if no node manages it any more. The algorithm's deadline is shorter and enforced by
/// the node: an output that was produced in time may wait in its pod for an unavailable server for a month.
fn backstop(config: &KubernetesConfig) -> i64 {
    let whole = config.pending_timeout + config.deadline + DELIVERY;
    i64::try_from(whole.as_secs()).unwrap_or(i64::MAX)
}

fn job_labels(plan: &Plan<'_>) -> BTreeMap<String, String> {
    let assignment = plan.assignment;
    let mut labels = plan.config.labels.clone();
    labels.extend(
        [
            (labels::APP, "sextant".to_owned()),
            (labels::COMPONENT, labels::COMPONENT_ALGORITHM.to_owned()),
            (labels::NODE_KEY, plan.identity.key().to_owned()),
            (labels::NODE, plan.identity.node.to_string()),
            (labels::TASK, assignment.task.to_string()),
            (labels::RUN, assignment.run.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels.extend(databases::labels(plan.databases));
    if let Some(job) = assignment.job {
        labels.insert(labels::JOB.to_owned(), job.to_string());
    }
    if let Some(organization) = assignment.init_org {
        labels.insert(labels::ORGANIZATION.to_owned(), organization.to_string());
    }
    labels
}

fn job_annotations(plan: &Plan<'_>) -> BTreeMap<String, String> {
    let mut annotations = plan.config.annotations.clone();
    annotations.extend(
        [
            (labels::TASK_NAME, excerpt(&plan.assignment.task_name)),
            (labels::IMAGE, excerpt(&plan.assignment.image_to_run())),
            (labels::SERVER, plan.identity.server.clone()),
            (labels::RUN_IDENTITY, plan.assignment.identity.to_string()),
            (labels::RUN_KEY, labels::RUN_KEY_OF_UID.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    if plan.before.attempt > 0 {
        annotations.insert(labels::ATTEMPT.to_owned(), (plan.before.attempt + 1).to_string());
        annotations.insert(labels::EXECUTIONS.to_owned(), plan.before.executions.to_string());
    }
    annotations
}

fn pod(plan: &Plan<'_>, name: &str) -> PodSpec {
    let config = plan.config;
    let mut volumes = volumes(plan);
    let mut security = security::pod(config.pod_security);
    if config.scratch.is_some() {
        scratch::give_to_group(&mut security, &mut volumes, config.pod_security);
    }
    let pull_secrets: Vec<_> =
        plan.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodSpec {
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(security),
        host_aliases: Some(host_aliases(plan)),
        runtime_class_name: config.gpu.as_ref().and_then(|gpu| gpu.runtime_class.clone()),
        dns_policy: Some("None".into()),
        dns_config: Some(no_dns()),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        node_selector: (!config.node_selector.is_empty()).then(|| config.node_selector.clone()),
        tolerations: (!config.tolerations.is_empty()).then(|| config.tolerations.clone()),
        init_containers: Some(vec![receive(plan, name)]),
        containers: vec![algorithm(plan, name), returns(plan, name)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn receive(plan: &Plan<'_>, secret: &str) -> Container {
    let (volume, folder) = match &plan.config.scratch {
        Some(_) => (mount(scratch::VOLUME, scratch::PLACE), format!("{}/{}", scratch::PLACE, scratch::DATA)),
        None => (mount("data", databases::FOLDER), databases::FOLDER.to_owned()),
    };
    let mut container = own(plan, secret, RECEIVE, &folder);
    let mut mounts = vec![volume, mount("token", TOKEN)];
    let mut variables = vec![variable(env::TOKEN_DIR, TOKEN)];
    if plan.variables.contains(&RUN_CONTEXT_KEY) {
        variables.push(from_secret(env::RUN_CONTEXT, secret, RUN_CONTEXT_KEY));
    }
    if plan.config.scratch.is_some() {
        variables.push(variable(env::SCRATCH_DIR, scratch::PLACE));
        security::reach_all_files(&mut container, plan.config.pod_security);
    }
    if shared_volume(plan).is_some() {
        mounts.push(mount("tmp", SHARED));
        variables.extend([shared_dir(plan), shared_keep(plan)]);
        security::reach_all_files(&mut container, plan.config.pod_security);
        // If the volume is full, `receive` removes what earlier jobs have left.
        security::remove_all_files(&mut container, plan.config.pod_security);
    }
    container.volume_mounts = Some(mounts);
    container.env.get_or_insert_default().extend(variables);
    container
}

fn returns(plan: &Plan<'_>, secret: &str) -> Container {
    let mut container = own(plan, secret, RETURN, databases::FOLDER);
    let mut mounts = vec![VolumeMount { read_only: Some(true), ..data(plan) }];
    // An algorithm may replace its output with a file that only its own user can read.
    security::reach_all_files(&mut container, plan.config.pod_security);
    if shared_volume(plan).is_some() {
        // `return` removes what earlier jobs have left: it waits anyway, and so the cleanup delays no start.
        mounts.push(mount("tmp", SHARED));
        container.env.get_or_insert_default().extend([shared_dir(plan), shared_keep(plan)]);
        security::remove_all_files(&mut container, plan.config.pod_security);
    }
    container.volume_mounts = Some(mounts);
    container
}

/// The data volume's mount in the algorithm and in `return`.
fn data(plan: &Plan<'_>) -> VolumeMount {
    match &plan.config.scratch {
        Some(_) => scratch::mount(scratch::DATA, databases::FOLDER),
        None => mount("data", databases::FOLDER),
    }
}

fn algorithm(plan: &Plan<'_>, secret: &str) -> Container {
    let tmp = match (shared_volume(plan), &plan.config.scratch) {
        (Some(_), _) => VolumeMount { sub_path: Some(shared_folder(plan)), ..mount("tmp", TEMPORARY) },
        (None, Some(_)) => scratch::mount(scratch::OWN_TMP, TEMPORARY),
        (None, None) => mount("tmp", TEMPORARY),
    };
    let token = VolumeMount {
        sub_path: Some("token".into()),
        read_only: Some(true),
        ..mount("token", &token(plan.assignment.run))
    };
    let mut mounts = vec![data(plan), token, tmp];
    mounts
        .extend(plan.databases.iter().filter_map(|database| database.volume.as_ref()).flat_map(|(_, own)| own.clone()));
    let image = plan.assignment.image_to_run();
    let mut container = Container {
        name: ALGORITHM.into(),
        image_pull_policy: Some(algorithm_pull_policy(plan.config, &image).as_str().to_owned()),
        image: Some(image),
        env: Some(
            plan.variables
                .iter()
                .filter(|name| **name != RUN_CONTEXT_KEY)
                .map(|name| from_secret(name, secret, name))
                .collect(),
        ),
        resources: Some(plan.config.resources.clone()),
        security_context: Some(security::unprivileged()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    if plan.config.scratch.is_some() {
        scratch::confine(&mut container);
    }
    container
}

/// What `receive` and `return` have in common. `data` is the path of the parent of the runs' folders.
fn own(plan: &Plan<'_>, secret: &str, role: &str, data: &str) -> Container {
    Container {
        name: role.into(),
        image: Some(plan.config.image.clone()),
        image_pull_policy: pull_policy(plan.config.image_pull_policy),
        args: Some(vec![role.into()]),
        env: Some(vec![
            variable(env::RUN, &plan.assignment.run.to_string()),
            // The Job and the Secret have the same name.
            variable(env::JOB, secret),
            variable(env::ADDRESS, &plan.data_port.address),
            variable(env::PIN, &plan.data_port.pin),
            variable(env::TASK_DIR, &format!("{data}/{}", task_folder_name(plan.assignment.run))),
            from_secret(env::KEY, secret, SECRET_KEY),
        ]),
        resources: Some(plan.config.helper_resources.clone()),
        security_context: Some(security::own(plan.config.pod_security)),
        ..Container::default()
    }
}

fn volumes(plan: &Plan<'_>) -> Vec<Volume> {
    let empty = |name: &str, medium: Option<&str>| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(Into::into),
            size_limit: medium.map(|_| Quantity("1Mi".into())),
        }),
        ..Volume::default()
    };
    let shared = shared_volume(plan);
    let mut volumes: Vec<Volume> = match &plan.config.scratch {
        Some(scratch) => vec![scratch::volume(scratch, job_labels(plan))].into_iter().chain(shared).collect(),
        None => vec![empty("data", None), shared.unwrap_or_else(|| empty("tmp", None))],
    };
    volumes.insert(1, empty("token", Some("Memory")));
    volumes.extend(plan.databases.iter().filter_map(|database| Some(database.volume.as_ref()?.0.clone())));
    volumes
}

/// The volume with the folders that the runs of one job share; `None` if every run has its own.
fn shared_volume(plan: &Plan<'_>) -> Option<Volume> {
    match plan.tmp {
        Tmp::Private => None,
        Tmp::Volume(source) => Some(source.named("tmp")),
        Tmp::HostPath(path) => Some(Volume {
            name: "tmp".into(),
            host_path: Some(HostPathVolumeSource {
                path: path.display().to_string(),
                type_: Some("DirectoryOrCreate".into()),
            }),
            ..Volume::default()
        }),
    }
}

fn shared_dir(plan: &Plan<'_>) -> EnvVar {
    variable(env::SHARED_DIR, &format!("{SHARED}/{}", shared_folder(plan)))
}

/// How long folders of jobs are kept, at least as long as a run can take: a run marks its folder as used only when it starts.
fn shared_keep(plan: &Plan<'_>) -> EnvVar {
    let keep = plan.config.keep_shared.max(plan.config.pending_timeout + plan.config.deadline);
    variable(env::SHARED_KEEP, &keep.as_secs().to_string())
}

/// The folder of one job in the shared volume.
fn shared_folder(plan: &Plan<'_>) -> String {
    format!("sextant-{}/job-{}", plan.identity.key(), plan.assignment.shared_name())
}

/// When the algorithm's image is pulled. A digest identifies its content, whatever the source; a tag may have changed.
fn algorithm_pull_policy(config: &KubernetesConfig, image: &str) -> ImagePullPolicy {
    match config.algorithm_pull_policy {
        Some(policy) => policy,
        None if config.require_pull && !image.contains('@') => ImagePullPolicy::Always,
        None => ImagePullPolicy::IfNotPresent,
    }
}

fn pull_policy(policy: Option<ImagePullPolicy>) -> Option<String> {
    policy.map(|policy| policy.as_str().to_owned())
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: secret.into(), key: key.into(), optional: None }),
            ..EnvVarSource::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ResourceRequirements;
    use vantage6_types::NodeId;

    use super::*;
    use crate::decisions::probe::{self, Orders};
    use sextant_config::Config;
    use sextant_config::quantity::amount;
    use sextant_core::assignment::sample::assignment;

    /// The containers of a run's pod, and of a probe's.
    fn containers(kubernetes: &str) -> [Vec<Container>; 2] {
        containers_of(&assignment(1, 2, "today"), kubernetes, "{}")
    }

    fn containers_of(assignment: &Assignment, kubernetes: &str, policies: &str) -> [Vec<Container>; 2] {
        let (run, probe) = containers_with(assignment, kubernetes, policies, &[]);
        [run, probe]
    }

    fn containers_with(
        assignment: &Assignment,
        kubernetes: &str,
        policies: &str,
        variables: &[&str],
    ) -> (Vec<Container>, Vec<Container>) {
        let [run, probe] = pods_with(assignment, kubernetes, policies, variables)
            .map(|pod| pod.init_containers.into_iter().flatten().chain(pod.containers).collect());
        (run, probe)
    }

    /// A run's pod, and a probe's.
    fn pods_with(assignment: &Assignment, kubernetes: &str, policies: &str, variables: &[&str]) -> [PodSpec; 2] {
        let text = format!("server_url: http://s\napi_key: k\npolicies: {policies}\nkubernetes: {kubernetes}");
        let config = Config::parse(&text, std::path::Path::new("node.yaml"), &|_| None).unwrap();
        let settings = config.kubernetes().unwrap();
        let identity = Identity::new("http://s".into(), NodeId(3), &"k".into());
        let plan = Plan {
            identity: &identity,
            assignment,
            before: Disruption::default(),
            config: settings,
            tmp: config.tmp(),
            databases: &[],
            variables,
            data_port: &DataPortForPods { address: "10.0.0.1:7654".into(), pin: String::new() },
            services: &[HostAlias { ip: "fd00::7".into(), hostnames: Some(vec!["redis".into()]) }],
            proxy: "10.0.0.2:8080".parse().unwrap(),
            pull_secrets: &[],
        };
        [job(&plan), probe::probe(&identity, settings, &Orders::Listen(vec![1]), &[])]
            .map(|job| job.spec.unwrap().template.spec.unwrap())
    }

    #[test]
    fn a_tag_is_pulled_for_each_run_and_a_digest_is_what_runs() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let by_digest = format!("r.example/x:1@{digest}");
        for (image, decided, kubernetes, policies, expected, pull) in [
            ("r.example/x:1", false, "{}", "{}", "r.example/x:1", "Always"),
            ("r.example/x:1", true, "{}", "{}", &by_digest, "IfNotPresent"),
            (&by_digest, false, "{}", "{}", &by_digest, "IfNotPresent"),
            ("r.example/x", false, "{}", "{require_algorithm_pull: false}", "r.example/x", "IfNotPresent"),
            ("r.example/x:1", false, "{algorithm_pull_policy: Never}", "{}", "r.example/x:1", "Never"),
            (&by_digest, false, "{algorithm_pull_policy: Always}", "{}", &by_digest, "Always"),
        ] {
            let digest = decided.then(|| digest.parse().unwrap());
            let assignment = Assignment { image: image.into(), digest, ..assignment(1, 2, "today") };
            let [run, _] = containers_of(&assignment, kubernetes, policies);
            let algorithm = run.iter().find(|container| container.name == ALGORITHM).unwrap();
            assert_eq!(
                (algorithm.image.as_deref(), algorithm.image_pull_policy.as_deref()),
                (Some(expected), Some(pull)),
                "{image} {kubernetes} {policies}"
            );
        }
    }

    #[test]
    fn a_run_finds_services_and_the_proxy_by_name() {
        let [run, _] = pods_with(&assignment(1, 2, "today"), "{}", "{}", &[]);
        let found: Vec<_> =
            run.host_aliases.unwrap().into_iter().map(|each| (each.ip, each.hostnames.unwrap())).collect();
        let expected =
            [("fd00::7", "redis"), ("10.0.0.2", PROXY)].map(|(ip, name)| (ip.to_owned(), vec![name.to_owned()]));
        assert_eq!(found, expected);
    }

    #[test]
    fn gpus_are_limits_of_the_algorithm_alone_and_a_runtime_class_of_its_pod() {
        for (kubernetes, resource, count, class) in [
            ("{}", "nvidia.com/gpu", "1", None),
            ("{gpu: {count: 2, runtime_class: nvidia}}", "nvidia.com/gpu", "2", Some("nvidia")),
            ("{gpu: {resource: amd.com/gpu}}", "amd.com/gpu", "1", None),
            ("{resources: {limits: {nvidia.com/gpu: 4}}}", "nvidia.com/gpu", "4", None),
        ] {
            let policies = "{}\nalgorithm_device_requests: {gpu: true}";
            let (run, probe) = containers_with(&assignment(1, 2, "today"), kubernetes, policies, &[]);
            for container in run.iter().chain(&probe) {
                let resources = container.resources.as_ref().unwrap();
                let limit = resources.limits.as_ref().and_then(|limits| limits.get(resource));
                let expected = (container.name == ALGORITHM).then_some(count);
                assert_eq!(limit.map(|limit| limit.0.as_str()), expected, "{kubernetes}: {}", container.name);
            }
            let pods = pods_with(&assignment(1, 2, "today"), kubernetes, policies, &[]);
            assert_eq!(pods.map(|pod| pod.runtime_class_name), [class.map(str::to_owned), None], "{kubernetes}");
        }
    }

    #[test]
    fn only_receive_gets_what_the_run_context_says() {
        for (variables, expected) in [(&["HOST"][..], 0), (&["HOST", RUN_CONTEXT_KEY], 1)] {
            let run = containers_with(&assignment(1, 2, "today"), "{}", "{}", variables).0;
            let of = |container: &Container, name: &str| {
                container.env.iter().flatten().filter(|variable| variable.name == name).count()
            };
            for container in &run {
                let expected = if container.name == RECEIVE { expected } else { 0 };
                assert_eq!(of(container, env::RUN_CONTEXT), expected, "{}", container.name);
                assert_eq!(of(container, RUN_CONTEXT_KEY), 0, "{}", container.name);
            }
            assert_eq!(of(&run[1], "HOST"), 1);
        }
        let proxy = "10.0.0.2:8080".parse().unwrap();
        let path = "/mnt/data/task-000000007/run_context.json";
        assert_eq!(locations(RunId(7), proxy, true).run_context.as_deref(), Some(path));
        assert_eq!(locations(RunId(7), proxy, false).run_context, None);
    }

    #[test]
    fn where_the_algorithm_is_limited_all_are() {
        for kubernetes in [
            "{}",
            "{resources: {limits: {cpu: 1}}}",
            "{resources: {limits: {cpu: 2, ephemeral-storage: null}}}",
            "{resources: {limits: {cpu: 1, nvidia.com/gpu: 1}}, helper_resources: {limits: {cpu: 1}, requests: {cpu: 50m}}}",
        ] {
            let [run, probe] = containers(kubernetes);
            let names = |resources: &ResourceRequirements| -> Vec<String> {
                let limited = resources.limits.iter().flatten().map(|(name, _)| name.clone());
                limited.filter(|name| !name.contains('/')).collect()
            };
            let limited = names(run[1].resources.as_ref().unwrap());
            for container in run.iter().chain(&probe) {
                let resources = container.resources.as_ref().unwrap();
                assert_eq!(names(resources), limited, "{kubernetes}: {}", container.name);
                assert!(limited.iter().all(|name| resources.requests.iter().flatten().any(|(asked, _)| asked == name)
                    || container.name == ALGORITHM));
                assert!(resources.requests.as_ref().unwrap().contains_key("cpu"), "{kubernetes}: {}", container.name);
            }
        }
    }

    #[test]
    fn both_of_ours_can_remove_what_earlier_jobs_have_left_in_a_shared_volume() {
        let facts = |container: &Container| {
            let capabilities =
                container.security_context.clone().unwrap().capabilities.unwrap().add.unwrap_or_default();
            let keep = container.env.iter().flatten().find(|each| each.name == env::SHARED_KEEP);
            (capabilities, keep.and_then(|keep| keep.value.clone()))
        };
        let [run, _] = containers("{keep_shared: 60d, tmp: {persistentVolumeClaim: {claimName: t}}}");
        let all = vec!["DAC_OVERRIDE".to_owned(), "FOWNER".to_owned()];
        for container in [&run[0], &run[2]] {
            assert_eq!(facts(container), (all.clone(), Some("5184000".to_owned())), "{}", container.name);
        }
        assert_eq!(facts(&run[1]), (vec![], None));
        let [run, _] = containers("{}");
        assert_eq!(facts(&run[0]), (vec![], None));
    }

    #[test]
    fn a_run_of_the_defaults_and_the_probes_beside_it_fit_a_quota_of_4_gibibytes() {
        let [run, probe] = containers("{}");
        let memory = |container: &Container| amount(&container.resources.as_ref()?.limits.as_ref()?["memory"].0);
        let sum = |containers: &[Container]| containers.iter().map(|container| memory(container).unwrap()).sum::<f64>();
        let all = sum(&run) + 2.0 * sum(&probe);
        assert!(all <= amount("4Gi").unwrap(), "{all}");
    }
}
