//! The configuration: a regular node's YAML file, with one additional key for the runtime.
//!
//! ```text
//! text ──tree──▶ nodes with positions ──readers──▶ Config + warnings
//!                                        └───────▶ every mistake, each with file:line:column
//! ```
//!
//! The rest of Sextant sees only [`Config`] and the types around it, whose values have all been checked. Reading is pure except for the
//! files and host names that a configuration names. [`check()`] explains a file to a person.

mod address;
mod check;
mod cluster_access;
mod database;
mod database_file;
mod databases;
mod diagnostics;
mod encryption;
mod files;
mod health;
mod identity;
pub mod kubeconfig;
mod kubernetes;
mod local;
mod merged;
mod misplaced;
mod model;
mod names;
mod overlaps;
mod policies;
pub mod quantity;
mod reader;
mod redact;
mod regular;
mod restrictions;
mod scalar;
mod secret_names;
pub mod secrets;
mod server;
mod system;
mod trust;
mod version5;
mod yaml;

/// The default limit of an output's size in bytes. As base64 it fits the longest text that SQLite (a thousand million characters) and
/// PostgreSQL (1 GiB) can store.
const OUTPUT: u64 = 700 << 20;

pub use check::{CheckReport, check, disk};
pub use database::{Database, DatabaseType, MountMode};
pub use diagnostics::{ConfigError, Position, Problem, Warning};
pub use encryption::{Encryption, read_private_key};
pub use kubernetes::{
    Cidr, ClusterService, DatabasePlace, DatabaseVolume, Egress, Gpu, ImagePullPolicy, Isolation, KubernetesConfig,
    PROXY_TMP_SIZE, PodSecurity, Port, ProxyConfig, Scratch, VolumeSource,
};
pub use local::{LocalAlgorithm, LocalConfig};
pub use model::{Config, LogLevel, Logging, Registry, RuntimeConfig, Tmp};

use std::path::Path;

use diagnostics::Diagnostics;
use files::{Disk, Files, NoFiles};
use kubeconfig::Kubeconfigs;
use kubernetes::database_volumes;
use reader::{Section, Unknown};
use restrictions::{Level, promise};
use trust::{Subject, may_be_read};
use yaml::Node;

/// What reading a configuration depends on besides its text.
struct Surroundings<'a> {
    /// Environment variables.
    env: &'a dyn Fn(&str) -> Option<String>,
    files: &'a dyn Files,
    /// Whether the caller logs in with the node's key. The proxy does not.
    with_key: bool,
}

impl Config {
    /// Reads a configuration file and the files that it names, with this process's environment.
    ///
    /// # Errors
    /// All errors in the configuration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, true)
    }

    /// Reads a configuration file for the proxy. Like [`load`](Self::load), but ignores the API key.
    ///
    /// # Errors
    /// All errors in the configuration.
    pub fn load_for_proxy(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, false)
    }

    fn load_with(path: &Path, with_key: bool) -> Result<Self, ConfigError> {
        let text = Disk.text(path).map_err(|error| {
            let findings = Diagnostics::new(path);
            findings
                .error(None, format!("reading the configuration failed: {error}. Check the path and who may read it."));
            findings.into_error()
        })?;
        let env = |name: &str| std::env::var(name).ok();
        read(&text, path, &Surroundings { env: &env, files: &Disk, with_key })
    }

    /// Reads a configuration from its text without access to files: relative paths stay relative, and `api_key_file` can't be used.
    ///
    /// # Errors
    /// All errors in the configuration.
    pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        read(text, path, &Surroundings { env, files: &NoFiles, with_key: true })
    }
}

fn read(text: &str, path: &Path, around: &Surroundings<'_>) -> Result<Config, ConfigError> {
    let findings = Diagnostics::new(path);
    let config = yaml::read(text, &findings).and_then(|root| settings(&root, path, around, &findings));
    findings.finish(config)
}

/// Reads all settings even if some are invalid, so that every error is reported.
fn settings(root: &Node, path: &Path, around: &Surroundings<'_>, findings: &Diagnostics) -> Option<Config> {
    let file = Section::root(root, findings)?;
    if regular::refuse_environments(&file) || version5::refuse(root, findings) {
        return None;
    }
    judge_files(&file, path, around);
    let address = server::address(&file);
    let api_key = server::api_key(&file, path, around);
    let ca_certificates = server::ca_certificates(&file, path, around);
    let task_dir = regular::task_dir(&file, around);
    if let Some(task_dir) = task_dir.as_ref().filter(|_| is_local(&file)) {
        let at = file.get("task_dir").map(|field| field.key_at);
        Subject { findings, at, name: "`task_dir`" }.must_be_ours(task_dir, around);
    }
    let mut runtime = runtime(&file, path, around);
    let own = system::own(&file, path, around);
    let databases = databases::read(&file, runtime.as_ref(), &own, around);
    let encryption = encryption::read(&file, path, around);
    let policies = policies::read(&file);
    if let (Some(RuntimeConfig::Kubernetes(kubernetes)), Some(read)) = (&mut runtime, &policies) {
        kubernetes::require_pull(&file, kubernetes, read.require_pull);
    }
    let with_gpus = kubernetes::are_requested(&file);
    if let Some(RuntimeConfig::Kubernetes(kubernetes)) = &mut runtime {
        kubernetes::request(&file, kubernetes, with_gpus);
        kubernetes::judge_services(&file, kubernetes);
    }
    let algorithm_env = databases::algorithm_env(&file);
    let flag = |key| file.given(key).map_or(Some(true), |field| field.flag());
    let run_context_file = regular::run_context_file(&file, databases.as_deref().unwrap_or_default());
    let share_config = flag("share_config");
    let share_algorithm_logs = flag("share_algorithm_logs");
    let report_metrics = regular::report_metrics(&file);
    let logging = regular::logging(&file);
    let docker_registries = regular::registries(&file);
    let health_listen = health::read(&file, around);
    regular::refuse_vpn(&file);
    regular::warn_of_the_meaningless(&file);
    regular::warn_of_the_empty(&file);
    unknown(&file);
    misplaced::refuse(root, findings);
    merged::judge(root, findings);
    match_volumes(&file);
    if let Some(RuntimeConfig::Kubernetes(kubernetes)) = &runtime {
        regular::judge_task_dir(&file, kubernetes);
    }
    let address = address?;
    let config = Config {
        server_url: address.url,
        port: address.port,
        api_path: address.api_path,
        api_key: api_key?,
        task_dir,
        databases: databases?,
        encryption: encryption?,
        policies: policies?.policies,
        algorithm_env,
        run_context_file: run_context_file?,
        share_config: share_config?,
        share_algorithm_logs: share_algorithm_logs?,
        report_metrics: report_metrics?,
        logging: logging?,
        docker_registries: docker_registries?,
        ca_certificates,
        health_listen,
        runtime: runtime?,
        warnings: Vec::new(),
    };
    advise(&config, around, findings);
    overlaps::judge(&config, &file, around);
    tell_of_secrets(&config, &file, path, around);
    Some(config)
}

/// Reports that other users may change, or read, the files that control the node. The readers of other files check those.
fn judge_files(file: &Section<'_>, path: &Path, around: &Surroundings<'_>) {
    let findings = file.findings;
    Subject { findings, at: None, name: "this file" }.must_be_ours(path, around);
    let kubeconfigs = Kubeconfigs::of(file, path, around);
    let subject = Subject { findings, at: kubeconfigs.at, name: kubeconfigs.name() };
    for path in &kubeconfigs.paths {
        subject.must_be_ours(path, around);
        subject.must_be_secret(path, around);
    }
    cluster_access::judge(file, path, around);
}

/// Whether algorithms run as processes of this machine.
fn is_local(file: &Section<'_>) -> bool {
    file.given("local").is_some()
}

/// Reads the runtime: the configured one, or Kubernetes.
fn runtime(file: &Section<'_>, path: &Path, around: &Surroundings<'_>) -> Option<RuntimeConfig> {
    let expected = "a mapping of settings";
    let labels = databases::labels(file);
    match (file.given("kubernetes"), file.given("local")) {
        (Some(_), Some(local)) => {
            let message = "`local`: found a second runtime besides `kubernetes`, expected one. Take one of them out.";
            local.findings.error(local.key_at, message);
            None
        }
        (None, Some(local)) if local.node.is_null() => Some(RuntimeConfig::Local(LocalConfig::default())),
        (None, Some(local)) => {
            local.section(expected).map(|section| RuntimeConfig::Local(local::read(&section, &labels)))
        }
        (Some(kubernetes), None) if !kubernetes.node.is_null() => kubernetes
            .section(expected)
            .map(|section| RuntimeConfig::Kubernetes(Box::new(kubernetes::read(&section, path, around)))),
        (_, None) => Some(RuntimeConfig::Kubernetes(Box::new(kubernetes::defaults()))),
    }
}

/// Reports volumes of databases that don't exist.
fn match_volumes(file: &Section<'_>) {
    let labels = databases::labels(file);
    for (label, field) in database_volumes(file) {
        if !labels.contains(&label) {
            let advice = match names::nearest(label, labels.iter().copied()) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Add it to `databases`, or take it out here.".to_owned(),
            };
            let message =
                format!("`{}`: there is no database of this label, expected one of `databases`. {advice}", field.path);
            field.findings.error(field.key_at, message);
        }
    }
}

/// Reports unknown keys. A key that is nearly the name of a restriction is an error: `polices` must not mean "no policies".
fn unknown(file: &Section<'_>) {
    const GRAVE: [&str; 2] = ["kubernetes", "local"];
    let known = file.asked();
    // Keys that promise a restriction are checked in the whole file, by `misplaced`.
    for (key, field) in file.rest().into_iter().filter(|(key, _)| promise(key, Level::Outermost).is_none()) {
        let near = names::nearest(key, known.iter().copied());
        let grave = near.is_some_and(|near| GRAVE.contains(&near));
        field.unknown(key, &known, if grave { Unknown::Refuse } else { Unknown::Warn });
    }
}

/// Warns of valid settings that may not do what the owner expects.
fn advise(config: &Config, around: &Surroundings<'_>, findings: &Diagnostics) {
    match &config.runtime {
        RuntimeConfig::Kubernetes(kubernetes) => {
            let is_proxy_separate = !around.with_key || kubernetes.proxy.address.is_some();
            if config.encryption.enabled && is_proxy_separate && config.encryption.organization.is_none() {
                findings.warn(
                    None,
                    "`encryption.organization_id` is not set: the proxy knows this organization's algorithms by its public key alone, of \
                     which any organization may publish a copy as its own. Set it to the organization's number at the server, which \
                     `sextant doctor` shows.",
                );
            }
            // A proxy runs no algorithms, and the node has a configuration of its own.
            if !around.with_key {
                return;
            }
            beside_the_proxy(config, kubernetes, around, findings);
            if config.policies.allowed_algorithms.is_empty() && config.policies.allowed_stores.is_empty() {
                let advice = "Every algorithm may run on this node. List the ones that you trust in `policies.allowed_algorithms`.";
                findings.warn(None, format!("no policies on allowed algorithms have been set! {advice}"));
            }
        }
        RuntimeConfig::Local(local) => {
            if local.algorithms.is_empty() {
                findings
                    .warn(None, "`local.algorithms` lists none, so nothing can run. Add images with their commands.");
            }
        }
    }
}

/// Warns of settings with secrets in a file that other users may read. The reader of the node's key warns of the key.
fn tell_of_secrets(config: &Config, file: &Section<'_>, path: &Path, around: &Surroundings<'_>) {
    if !may_be_read(path, around) {
        return;
    }
    for field in secrets::settings(config).into_iter().filter_map(|key| file.given(key)) {
        field.warn("other people on this machine may read this file, and a password in it. Take that right away (`chmod 600`).");
    }
}

/// Warns if a database's egress reaches the server: algorithms could then bypass the proxy, which encrypts their subtasks.
fn beside_the_proxy(config: &Config, kubernetes: &KubernetesConfig, around: &Surroundings<'_>, findings: &Diagnostics) {
    let Some(host) = url::Url::parse(&config.server_url).ok().and_then(|url| Some(url.host()?.to_owned())) else {
        return;
    };
    if kubernetes.databases.values().all(|place| place.egress.is_empty()) {
        return;
    }
    let (name, addresses) = match host {
        url::Host::Domain(name) => (Some(name.to_owned()), around.files.addresses(&name)),
        url::Host::Ipv4(address) => (None, vec![address.into()]),
        url::Host::Ipv6(address) => (None, vec![address.into()]),
    };
    for (label, place) in &kubernetes.databases {
        let leads_there = |way: &Egress| {
            name.is_some() && way.host == name || addresses.iter().any(|address| way.cidr.contains(*address))
        };
        if place.egress.iter().any(leads_there) {
            findings.warn(
                None,
                format!(
                    "`kubernetes.databases.{label}.egress`: leads to the vantage6 server. Algorithms reach it by the proxy, which encrypts \
                     what they send; beside it, nothing does. Name the database's own address."
                ),
            );
        }
    }
}
