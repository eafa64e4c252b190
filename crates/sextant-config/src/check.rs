//! `sextant check`: explains a configuration to the person who wrote it. It reads files of this machine but does not use the network.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use sextant_core::policies::{AllowedAlgorithm, AllowedStore, Combination, Policies};

use super::database_file::describe;
use super::kubernetes::helper_defaults;
use super::redact;
use super::{
    Config, ConfigError, Database, DatabasePlace, ImagePullPolicy, KubernetesConfig, LocalConfig, PodSecurity,
    RuntimeConfig, Tmp,
};

/// The result of checking a configuration, printed with `Display`.
#[derive(Debug)]
pub struct CheckReport {
    text: String,
    ok: bool,
}

impl CheckReport {
    /// Whether a node can run with the configuration.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ok
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads a configuration and describes it.
#[must_use]
pub fn check(path: &Path) -> CheckReport {
    let mut text = String::new();
    let result = Config::load(path);
    // Writing to a String can't fail.
    let _ = match &result {
        Ok(config) => write_summary(&mut text, path, config),
        Err(error) => write_mistakes(&mut text, path, error),
    };
    CheckReport { text, ok: result.is_ok() }
}

fn write_mistakes(out: &mut String, path: &Path, error: &ConfigError) -> fmt::Result {
    let count = error.problems.len();
    let mistakes = if count == 1 { "1 mistake".to_owned() } else { format!("{count} mistakes") };
    writeln!(out, "{} can't be used: {mistakes}.\n", path.display())?;
    for problem in &error.problems {
        writeln!(out, "error: {problem}")?;
    }
    for warning in &error.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn write_summary(out: &mut String, path: &Path, config: &Config) -> fmt::Result {
    writeln!(out, "{} can be used. It says:\n", path.display())?;
    line(out, "server", &config.api_url())?;
    if let Some(path) = &config.ca_certificates {
        line(out, "", &format!("trusted by the certificates in {}", path.display()))?;
    }
    match &config.encryption.private_key {
        Some(path) if config.encryption.enabled => {
            line(out, "encryption", &format!("on, with the private key {}", path.display()))?;
        }
        _ => line(out, "encryption", "off")?,
    }
    match &config.runtime {
        RuntimeConfig::Kubernetes(kubernetes) => tell_kubernetes(out, config, kubernetes)?,
        RuntimeConfig::Local(local) => tell_local(out, local)?,
    }
    tell_databases(out, config)?;
    tell_policies(out, &config.policies)?;
    let shared = |yes| {
        if yes { "shared with the server" } else { "kept from the server" }
    };
    line(
        out,
        "settings",
        &format!("policies, labels of databases and columns of csv files are {}", shared(config.share_config)),
    )?;
    line(out, "logs", &format!("algorithms' logs are {}", shared(config.share_algorithm_logs)))?;
    if let Some(interval) = config.report_metrics {
        let seconds = interval.as_secs();
        line(out, "metrics", &format!("the server is told every {seconds} s how busy this machine is"))?;
    }
    if let Some(listen) = config.health_listen {
        line(out, "health", &format!("/healthz, /readyz and /metrics at {listen}"))?;
    }
    let registries: Vec<&str> = config.docker_registries.iter().map(|one| one.registry.as_str()).collect();
    if !registries.is_empty() {
        line(out, "registries", &registries.join(", "))?;
    }
    if config.run_context_file {
        line(out, "context", "every algorithm gets run_context.json, and its path in RUN_CONTEXT_FILE")?;
    }
    let variables: Vec<&str> = config.algorithm_env.keys().map(String::as_str).collect();
    if !variables.is_empty() {
        line(out, "environment", &format!("every algorithm also gets {}", variables.join(", ")))?;
    }
    if !config.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

/// Writes one line with its subject in front. An empty subject continues the line before.
fn line(out: &mut String, subject: &str, text: &str) -> fmt::Result {
    writeln!(out, "  {subject:<12} {}", redact::sentence(text))
}

fn tell_kubernetes(out: &mut String, config: &Config, kubernetes: &KubernetesConfig) -> fmt::Result {
    let cluster = match (&kubernetes.kubeconfig, &kubernetes.context) {
        (Some(path), Some(context)) => format!("context {context} of {}", path.display()),
        (Some(path), None) => format!("the current context of {}", path.display()),
        (None, Some(context)) => format!("context {context} of the usual kubeconfig"),
        (None, None) => "the one that Sextant runs in, or the usual kubeconfig's".to_owned(),
    };
    line(out, "runtime", &format!("Kubernetes, namespace {}; cluster: {cluster}", kubernetes.namespace))?;
    line(
        out,
        "",
        "who may make Jobs or pods there, or read Secrets, is trusted with all of its runs: no node of others belongs there",
    )?;
    line(out, "image", &format!("{} (receive and return)", kubernetes.image))?;
    line(out, "", pulls(kubernetes))?;
    let port = &kubernetes.data_port;
    let told = port.address.as_deref().unwrap_or("an address that the node finds out by itself");
    line(out, "data port", &format!("listens at {}; pods are told {told}", port.listen))?;
    let proxy = &kubernetes.proxy;
    let served = match &proxy.address {
        Some(address) => format!("on its own; pods are told {address}"),
        None => format!("the node itself; listens at {}", proxy.listen),
    };
    line(out, "proxy", &served)?;
    let walls = if kubernetes.allow_unisolated {
        "tried, but ALGORITHMS RUN ALSO WHERE THERE ARE NONE: for trials with invented data".to_owned()
    } else {
        format!("no algorithm runs before they are proved; tried again every {}", time(kubernetes.isolation.every))
    };
    line(out, "walls", &walls)?;
    for (alias, service) in &kubernetes.services {
        let (namespace, port) = (&service.namespace, service.port);
        let pods = if service.pod_labels.is_empty() { "at every pod of that namespace" } else { "at its pods" };
        let what = format!(
            "every algorithm reaches {alias}:{port}, the Service {} of the namespace {namespace} (port {} {pods})",
            service.name, service.target_port
        );
        line(out, "services", &what)?;
    }
    let security = match kubernetes.pod_security {
        PodSecurity::Baseline => {
            "baseline: algorithms run as the user of their image, without any rights of root's".to_owned()
        }
        PodSecurity::Restricted { user } => format!("restricted: everything in them runs as user {user}"),
    };
    line(out, "pods", &security)?;
    let tmp = match config.tmp() {
        Tmp::Volume(volume) if matches!(volume.kind().as_str(), "emptyDir" | "ephemeral") => {
            format!("a volume ({}) for each run, not shared", volume.kind())
        }
        Tmp::Volume(volume) => format!("a volume ({}), shared by the runs of a job", volume.kind()),
        Tmp::HostPath(path) => {
            format!("a folder in {} of the pod's machine, shared by the runs of a job on that machine", path.display())
        }
        Tmp::Private if kubernetes.scratch.is_some() => "a folder of the run's own volume, not shared".to_owned(),
        Tmp::Private => "an emptyDir for each run, not shared".to_owned(),
    };
    line(out, "/mnt/tmp", &tmp)?;
    line(out, "disk", &disk(config, kubernetes))?;
    line(out, "limits", &format!("an algorithm {}", resources(&kubernetes.resources)))?;
    if kubernetes.helper_resources != helper_defaults(&kubernetes.resources) {
        line(out, "", &format!("each of receive, return and probe {}", resources(&kubernetes.helper_resources)))?;
    }
    if let Some(gpu) = &kubernetes.gpu {
        let class =
            gpu.runtime_class.as_ref().map_or(String::new(), |class| format!(", with the runtime class {class}"));
        line(out, "", &format!("the GPUs are those of {}, each for one algorithm alone{class}", gpu.resource))?;
    }
    let most = kubernetes.max_concurrent_runs.map_or("no limit".to_owned(), |most| most.to_string());
    line(out, "", &format!("runs at once: {most}; longest run: {}", time(kubernetes.deadline)))?;
    let (pending, pull) = (time(kubernetes.pending_timeout), time(kubernetes.image_pull_timeout));
    line(out, "", &format!("longest wait for a machine: {pending}; for an image: {pull}"))?;
    let (again, largest) = (kubernetes.retry_disrupted, kubernetes.output_limit);
    let times = if again == 1 { "once".to_owned() } else { format!("{again} times") };
    let largest = largest.map_or("no limit".to_owned(), size);
    line(out, "", &format!("runs that the cluster disrupted: executed again {times}; largest output: {largest}"))?;
    line(
        out,
        "",
        &format!(
            "finished Jobs stay for {}; shared folders for {}",
            time(kubernetes.keep_finished),
            time(kubernetes.keep_shared)
        ),
    )
}

/// When algorithms' images are pulled.
fn pulls(kubernetes: &KubernetesConfig) -> &'static str {
    match (kubernetes.algorithm_pull_policy, kubernetes.require_pull) {
        (Some(ImagePullPolicy::Always), _) => "algorithms are pulled for each run",
        (Some(ImagePullPolicy::Never), _) => "algorithms are never pulled: they must be on the machine",
        (None, true) => {
            "algorithms are pulled for each run, unless the image is named by its digest (`policies.require_algorithm_pull`)"
        }
        (Some(ImagePullPolicy::IfNotPresent), _) | (None, false) => {
            "algorithms are pulled if the machine does not have them; a copy there is not compared with the registry's"
        }
    }
}

/// Describes how much an algorithm can write, and which limit stops it.
pub fn disk(config: &Config, kubernetes: &KubernetesConfig) -> String {
    let Some(scratch) = &kubernetes.scratch else {
        return "its limit (ephemeral-storage) holds against accidents, and not against malice, for which there is `kubernetes.scratch`"
            .to_owned();
    };
    let class =
        scratch.storage_class.as_deref().map_or("the default class".to_owned(), |class| format!("the class {class}"));
    let but = match config.tmp() {
        Tmp::Private => "",
        Tmp::Volume(_) | Tmp::HostPath(_) => {
            "; what is shared in /mnt/tmp has no end but that of the place where it is"
        }
    };
    format!("each run writes to a volume of its own ({}, {class}), and to no other place{but}", scratch.size.0)
}

fn resources(resources: &ResourceRequirements) -> String {
    let side = |side: Option<&std::collections::BTreeMap<_, _>>| -> Vec<String> {
        let of = |(name, quantity): (&String, &k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
            format!("{name} {}", quantity.0)
        };
        side.into_iter().flatten().map(of).collect()
    };
    let requests = side(resources.requests.as_ref());
    let requests = if requests.is_empty() { "nothing".to_owned() } else { requests.join(", ") };
    let limits = side(resources.limits.as_ref());
    let limits = if limits.is_empty() { String::new() } else { format!("; gets at most {}", limits.join(", ")) };
    let limited = |name: &&str| resources.limits.as_ref().is_some_and(|limits| limits.contains_key(*name));
    let without: Vec<&str> = ["memory", "ephemeral-storage"].into_iter().filter(|name| !limited(name)).collect();
    let without = if without.is_empty() { String::new() } else { format!("; NO LIMIT on {}", without.join(" and ")) };
    format!("is sure of {requests}{limits}{without}")
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => "no time".to_owned(),
        _ if seconds.is_multiple_of(86400) => format!("{}d", seconds / 86400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn tell_local(out: &mut String, local: &LocalConfig) -> fmt::Result {
    line(out, "runtime", "local: algorithms run as processes on this machine, not contained in any way")?;
    for (image, algorithm) in &local.algorithms {
        line(out, "", &format!("{image} is {:?}", algorithm.command))?;
    }
    let most = local.max_concurrent_runs.map_or("no limit".to_owned(), |most| most.to_string());
    let largest = size(local.output_limit);
    line(
        out,
        "limits",
        &format!("runs at once: {most}; longest run: {}; largest output: {largest}", time(local.deadline)),
    )
}

fn tell_databases(out: &mut String, config: &Config) -> fmt::Result {
    if config.databases.is_empty() {
        return line(out, "databases", "none");
    }
    for (index, database) in config.databases.iter().enumerate() {
        let place = config.kubernetes().and_then(|kubernetes| kubernetes.databases.get(&database.label));
        let what = format!("{} ({}): {}", database.label, database.kind, database_source(config, database, place));
        line(out, if index == 0 { "databases" } else { "" }, &what)?;
        for egress in place.into_iter().flat_map(|place| &place.egress) {
            let ports: Vec<String> = egress.ports.iter().map(u16::to_string).collect();
            let host = egress.host.as_ref().map(|host| format!(", known as {host}")).unwrap_or_default();
            let what = format!("  its runs may reach {}, port {}{host}", egress.cidr, ports.join(", "));
            line(out, "", &what)?;
        }
        if place.is_none_or(|place| place.volume.is_none()) && database.is_file() {
            for sight in describe(config, Path::new(&database.uri)) {
                line(out, "", &format!("  {sight}"))?;
            }
        }
    }
    Ok(())
}

/// Describes how a database reaches an algorithm.
fn database_source(config: &Config, database: &Database, place: Option<&DatabasePlace>) -> String {
    let uri = database.uri_to_show();
    match (place.and_then(|place| place.volume.as_ref()), config.kubernetes()) {
        (Some(volume), _) => {
            let part = volume.path.as_ref().map_or("all".to_owned(), Clone::clone);
            format!("{part} of a volume ({}), read-only", volume.source.kind())
        }
        (None, _) if !database.is_file() => uri,
        (None, Some(_)) => format!("hostPath {uri} of the machine where the pod runs, read-only"),
        (None, None) => format!("{uri} of this machine"),
    }
}

fn tell_policies(out: &mut String, policies: &Policies) -> fmt::Result {
    if policies.allowed_algorithms.is_empty() && !policies.allowed_stores.is_empty() {
        line(out, "policies", "algorithms may run on a condition:")?;
    } else if policies.allowed_algorithms.is_empty() {
        line(out, "POLICIES", "ALL ALGORITHMS ARE ALLOWED TO RUN: no policies on algorithms have been set!")?;
    } else {
        line(out, "policies", "only these algorithms may run:")?;
    }
    for algorithm in &policies.allowed_algorithms {
        let how = match algorithm {
            AllowedAlgorithm::Exact(_) if in_every_version(algorithm) => "every version of",
            AllowedAlgorithm::Exact(_) => "this image",
            AllowedAlgorithm::Pattern(_) => "images whose beginning matches",
        };
        line(out, "", &format!("  {how}: {}", redact::text(algorithm.as_str())))?;
    }
    if !policies.allowed_stores.is_empty() {
        let how = match policies.combination {
            _ if policies.allowed_algorithms.is_empty() => "they must be approved",
            Combination::Both => "they must also be approved",
            Combination::Either => "others may run if they are approved",
        };
        line(out, "", &format!("{how} by one of these algorithm stores, which the node asks:"))?;
    }
    for store in &policies.allowed_stores {
        let how = match store {
            AllowedStore::Exact(_) => "the store at",
            AllowedStore::Pattern(_) => "stores whose address begins with a match of",
        };
        line(out, "", &format!("  {how} {}", redact::text(store.as_str())))?;
    }
    if !policies.allow_basics_algorithm {
        line(out, "", "vantage6's basics algorithm may not run")?;
    }
    let users: Vec<String> = policies.allowed_users.iter().map(|id| format!("user {id}")).collect();
    let organizations: Vec<String> =
        policies.allowed_organizations.iter().map(|one| format!("organization {one}")).collect();
    let who = [users, organizations].concat();
    if who.is_empty() {
        line(out, "", "tasks may come from every user of the collaboration")
    } else {
        line(out, "", &format!("tasks may only come from {}", who.join(", ")))
    }
}

/// Whether an entry names every version of an image.
fn in_every_version(entry: &AllowedAlgorithm) -> bool {
    entry.reference().is_some_and(|image| image.tag.is_none() && image.digest.is_none())
}

/// Formats a number of bytes, with a unit if it is a round number.
fn size(bytes: u64) -> String {
    let unit = [("Gi", 30), ("Mi", 20)].into_iter().find(|(_, power)| bytes > 0 && bytes.trailing_zeros() >= *power);
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, power)| format!("{}{unit}", bytes >> power))
}
