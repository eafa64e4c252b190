//! The configuration as types for the rest of Sextant. Every value has been checked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use sextant_core::policies::Policies;

use super::database::Database;
use super::diagnostics::Warning;
use super::encryption::Encryption;
use super::kubernetes::{KubernetesConfig, PROXY_TMP_SIZE, VolumeSource};
use super::local::LocalConfig;

/// A node's configuration, read and checked.
///
/// Made by [`Config::load`](Self::load) from a file, or by [`Config::parse`](Self::parse) from text.
#[derive(Clone)]
pub struct Config {
    /// The server's address with its scheme and without a trailing slash, for example `https://vantage6.example.org`.
    ///
    /// Together with [`port`](Self::port) and [`api_path`](Self::api_path) it forms [`api_url`](Self::api_url).
    pub server_url: String,
    /// The server's port. `None`: the one in [`server_url`](Self::server_url), or the scheme's default.
    pub port: Option<u16>,
    /// The path of the REST API on the server: empty, or with a leading and without a trailing slash. Default `/api`.
    pub api_path: String,
    /// The key that this node logs in with.
    pub api_key: SecretString,
    /// The folder for files of running tasks, absolute. A regular node always has one; for Sextant it is optional.
    pub task_dir: Option<PathBuf>,
    /// The databases in the order of the file. Their labels differ even in upper case.
    pub databases: Vec<Database>,
    /// End-to-end encryption of inputs and results.
    pub encryption: Encryption,
    /// Which algorithms may run, and for whom.
    pub policies: Policies,
    /// Environment variables for every algorithm, with the values that a regular node would pass.
    pub algorithm_env: BTreeMap<String, String>,
    /// Whether algorithms get a description of their run as a file (`run_context.json`). Default false.
    pub run_context_file: bool,
    /// Whether the server may be told about policies and databases (the event `node_info_update`). Default true.
    pub share_config: bool,
    /// Whether the server may get the algorithms' logs. If not, a regular node sends the sentence "Node does not allow sharing algorithm
    /// logs" instead. Default true.
    pub share_algorithm_logs: bool,
    /// How often this machine's load is reported to the server; `None` (the default): never.
    pub report_metrics: Option<Duration>,
    /// How verbose Sextant's own log is.
    pub logging: Logging,
    /// Private registries that algorithm images may come from, with the credentials to pull them.
    pub docker_registries: Vec<Registry>,
    /// A PEM file with certificate authorities to trust for the server, besides the well-known ones.
    pub ca_certificates: Option<PathBuf>,
    /// The listen address of the health endpoints; `None`: there are none. Default `[::]:8081` in a pod.
    pub health_listen: Option<SocketAddr>,
    /// What runs the algorithms.
    pub runtime: RuntimeConfig,
    /// Warnings about the file.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// The server's address without the API's path, as Socket.IO needs it: `{server_url}[:{port}]`.
    #[must_use]
    pub fn base_url(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.server_url),
            None => self.server_url.clone(),
        }
    }

    /// The address of the REST API: `{server_url}[:{port}]{api_path}`, joined as a regular node does.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}{}", self.base_url(), self.api_path)
    }

    /// The database with this label, if there is one.
    #[must_use]
    pub fn database(&self, label: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.label == label)
    }

    /// The settings of the Kubernetes runtime, if that is the one chosen.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&KubernetesConfig> {
        match &self.runtime {
            RuntimeConfig::Kubernetes(kubernetes) => Some(kubernetes),
            RuntimeConfig::Local(_) => None,
        }
    }

    /// The largest number of bytes that task inputs may take on the proxy's disk.
    #[must_use]
    pub fn proxy_tmp_size(&self) -> u64 {
        self.kubernetes().map_or(PROXY_TMP_SIZE, |kubernetes| kubernetes.proxy.tmp_size)
    }

    /// The source of `/mnt/tmp` on Kubernetes: `kubernetes.tmp`, else a folder in `task_dir`, else a private one.
    #[must_use]
    pub fn tmp(&self) -> Tmp<'_> {
        match (self.kubernetes().and_then(|kubernetes| kubernetes.tmp.as_ref()), &self.task_dir) {
            (Some(volume), _) => Tmp::Volume(volume),
            (None, Some(task_dir)) => Tmp::HostPath(task_dir),
            (None, None) => Tmp::Private,
        }
    }

    /// Whether the runs of a job share a folder.
    #[must_use]
    pub fn shares_tmp(&self) -> bool {
        matches!(self.runtime, RuntimeConfig::Local(_)) || self.tmp() != Tmp::Private
    }
}

/// The source of `/mnt/tmp`, the folder that the runs of one job share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tmp<'a> {
    /// A volume. It is shared if several pods can mount it at once.
    Volume(&'a VolumeSource),
    /// A folder for each job below this folder on the pod's machine. The runs on that machine share it.
    HostPath(&'a Path),
    /// An emptyDir. Each run has its own, which is deleted with the pod.
    Private,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("server_url", &self.server_url)
            .field("port", &self.port)
            .field("api_path", &self.api_path)
            .field("api_key", &Hidden)
            .field("task_dir", &self.task_dir)
            .field("databases", &self.databases)
            .field("encryption", &self.encryption)
            .field("policies", &self.policies)
            .field("algorithm_env", &HiddenValues(&self.algorithm_env))
            .field("run_context_file", &self.run_context_file)
            .field("share_config", &self.share_config)
            .field("share_algorithm_logs", &self.share_algorithm_logs)
            .field("report_metrics", &self.report_metrics)
            .field("logging", &self.logging)
            .field("docker_registries", &self.docker_registries)
            .field("ca_certificates", &self.ca_certificates)
            .field("health_listen", &self.health_listen)
            .field("runtime", &self.runtime)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// What runs the algorithms; a configuration has exactly one.
#[derive(Clone, Debug)]
pub enum RuntimeConfig {
    /// As Jobs on a Kubernetes cluster, the normal case.
    Kubernetes(Box<KubernetesConfig>),
    /// As processes on this machine, for a first try and for developing algorithms.
    Local(LocalConfig),
}

/// How verbose Sextant's own log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// The lowest level that is logged.
    pub level: LogLevel,
}

/// The levels of a regular node, from the most to the least verbose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything, as Python's `NOTSET`.
    NotSet,
    /// Details that help to find an error.
    Debug,
    /// Normal events. The default.
    #[default]
    Info,
    /// Events that need attention.
    Warning,
    /// Failures.
    Error,
    /// Failures that end the node.
    Critical,
}

impl LogLevel {
    /// All levels, from the most to the least verbose.
    pub const ALL: [Self; 6] = [Self::NotSet, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Python's name for the level, as in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSet => "NOTSET",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// The corresponding level of `tracing`, which has none above `error`.
    #[must_use]
    pub const fn tracing(self) -> &'static str {
        match self {
            Self::NotSet => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error | Self::Critical => "error",
        }
    }
}

/// A private container registry and the account to pull images with.
#[derive(Clone)]
pub struct Registry {
    /// The registry's host, for example `registry.example.org`.
    pub registry: String,
    /// The account's name.
    pub username: String,
    /// The account's password or token.
    pub password: SecretString,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .field("password", &Hidden)
            .finish()
    }
}

/// Replaces a secret in debug output.
pub(super) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Prints the names of environment variables without their values, which may be passwords.
pub(super) struct HiddenValues<'a>(pub &'a BTreeMap<String, String>);

impl fmt::Debug for HiddenValues<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, Hidden))).finish()
    }
}
