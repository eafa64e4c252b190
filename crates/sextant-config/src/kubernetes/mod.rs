//! The settings of the Kubernetes runtime, all under the key `kubernetes:`.

mod destinations;
mod egress;
mod gpu;
mod isolation;
mod labels;
mod read;
mod resources;
mod scratch;
mod services;
mod storage;
mod sums;
mod value;
mod volume;

pub use egress::{Cidr, Egress};
pub use gpu::Gpu;
pub(super) use gpu::{are_requested, request};
pub use isolation::Isolation;
pub(super) use read::{database_volumes, defaults, read, require_pull};
pub(super) use resources::bytes;
pub use resources::helper_defaults;
pub use scratch::Scratch;
pub use services::ClusterService;
pub(super) use services::judge as judge_services;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration, Volume};

/// How algorithms run as Kubernetes Jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesConfig {
    /// The namespace in which Jobs and pods are created. Default `v6-jobs`.
    pub namespace: String,
    /// The kubeconfig to connect with, absolute after [`Config::load`](super::Config::load). `None`: kubectl's kubeconfig, or in a pod
    /// the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// Sextant's own image, which the pods' `receive` and `return` containers use. Default `sextant:<this version>`.
    pub image: String,
    /// When Sextant's own image is pulled. `None`: Kubernetes's default (always for `:latest`, else if the machine does not have it).
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// When the algorithm's image is pulled. `None`: depends on [`require_pull`](Self::require_pull).
    pub algorithm_pull_policy: Option<ImagePullPolicy>,
    /// Whether an image named by a tag is pulled for each run (`policies.require_algorithm_pull`). Default true.
    pub require_pull: bool,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in [`namespace`](Self::namespace) to pull images with.
    pub image_pull_secrets: Vec<String>,
    /// Where the databases are, by label. A file database without a volume becomes a hostPath.
    pub databases: BTreeMap<String, DatabasePlace>,
    /// The cluster's Services that algorithms can reach, by the host names that algorithms use.
    pub services: BTreeMap<String, ClusterService>,
    /// The volume for `/mnt/tmp`, which the runs of one job share. See [`Config::tmp`](super::Config::tmp) for the default.
    pub tmp: Option<VolumeSource>,
    /// The size-limited volume for everything that an algorithm writes. `None`: folders on the machine's disk, whose limit the kubelet
    /// measures only from time to time.
    pub scratch: Option<Scratch>,
    /// The algorithm container's resources: the configured ones on top of the defaults.
    pub resources: ResourceRequirements,
    /// The GPUs that each algorithm gets (`algorithm_device_requests`). They are also in [`resources`](Self::resources).
    pub gpu: Option<Gpu>,
    /// The resources of Sextant's own containers (`receive`, `return`, `probe`): the configured ones on top of defaults that depend on
    /// [`resources`](Self::resources).
    pub helper_resources: ResourceRequirements,
    /// The port on which pods reach the node for input, token and output. Default `[::]:7654`; without an address, the node finds one
    /// itself.
    pub data_port: Port,
    /// The proxy through which algorithms reach the server.
    pub proxy: ProxyConfig,
    /// How the network isolation of algorithms is tested.
    pub isolation: Isolation,
    /// Whether algorithms run even if their network isolation is not proved: only for trials with invented data. Default false.
    pub allow_unisolated: bool,
    /// The Pod Security Standard that the pods of runs meet.
    pub pod_security: PodSecurity,
    /// The longest time that an algorithm may run. Default 7 days.
    pub deadline: Duration,
    /// How long a finished Job is kept for inspection. Default 1 hour; zero: it is deleted at once.
    pub keep_finished: Duration,
    /// How long a job's shared folder is kept after its last use. Default 30 days; never less than the longest time of a run.
    pub keep_shared: Duration,
    /// How long a pod may wait to be scheduled. Default 1 hour.
    pub pending_timeout: Duration,
    /// How long image pulls may fail before the run fails. Default 10 minutes.
    pub image_pull_timeout: Duration,
    /// How often a disrupted algorithm (evicted, drained, preempted, its machine lost) is executed again. Default 0.
    pub retry_disrupted: u32,
    /// The largest size of an output in bytes; `None`: no limit.
    pub output_limit: Option<u64>,
    /// The largest number of runs in the cluster at the same time; `None`: no limit besides Kubernetes's own.
    pub max_concurrent_runs: Option<NonZeroUsize>,
    /// Labels that a machine must have to run algorithms.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that algorithm pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Additional labels for Jobs and pods. Sextant's own labels take precedence.
    pub labels: BTreeMap<String, String>,
    /// Additional annotations for Jobs and pods. Sextant's own annotations take precedence.
    pub annotations: BTreeMap<String, String>,
}

/// When Kubernetes pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At every start, so that an image that the registry does not have never runs.
    Always,
    /// If the machine does not have the image.
    IfNotPresent,
    /// Never: the image must already be on the machine.
    Never,
}

impl ImagePullPolicy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Always, Self::IfNotPresent, Self::Never];

    /// Kubernetes's name for the policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The Pod Security Standard that the pods of runs meet, as far as their volumes allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// The algorithm runs as its image's user, which may be root without root's capabilities.
    #[default]
    Baseline,
    /// The whole pod runs as one user other than root. Images that require another user fail.
    Restricted {
        /// The user ID, and the group ID.
        user: u32,
    },
}

/// Where a database is if it is not a file of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabasePlace {
    /// The volume with its files.
    pub volume: Option<DatabaseVolume>,
    /// The destinations on the network that runs may reach if they requested the database.
    pub egress: Vec<Egress>,
}

/// A database in a volume of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseVolume {
    /// The volume.
    pub source: VolumeSource,
    /// The file or folder in the volume: relative, without `..`. `None`: the whole volume.
    pub path: Option<String>,
}

/// The name by which [`VolumeSource::storage`] refers to the pod's machine.
pub(super) const MACHINE: &str = "the machine";

/// Any volume source of Kubernetes, without a name.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSource(Volume);

impl VolumeSource {
    /// Takes a volume and removes its name.
    #[must_use]
    pub fn new(volume: Volume) -> Self {
        Self(Volume { name: String::new(), ..volume })
    }

    /// Kubernetes's name for the kind of volume, for example `persistentVolumeClaim`.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "of the owner's own configuration")]
    pub fn kind(&self) -> String {
        // The only field besides the name, which is empty.
        let fields = serde_json::to_value(&self.0).ok();
        let fields = fields.as_ref().and_then(serde_json::Value::as_object);
        fields.into_iter().flatten().map(|(kind, _)| kind).find(|kind| *kind != "name").cloned().unwrap_or_default()
    }

    /// The storage that the volume shows, and the folder within it.
    pub(super) fn storage(&self) -> (String, String) {
        storage::of(&self.0)
    }

    /// The folder of the machine, if the volume is a hostPath.
    #[must_use]
    pub fn host_path(&self) -> Option<&str> {
        self.0.host_path.as_ref().map(|host| host.path.as_str())
    }

    /// The volume with a name, ready for a pod.
    #[must_use]
    pub fn named(&self, name: &str) -> Volume {
        Volume { name: name.to_owned(), ..self.0.clone() }
    }
}

/// A port that pods reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The listen address.
    pub listen: SocketAddr,
    /// The address given to pods: a host name or an IP address, with or without a port.
    pub address: Option<String>,
}

/// The proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The listen address. Default `[::]:8080`.
    pub listen: SocketAddr,
    /// The address given to pods; its default port is 8080. `None`: the node itself is the proxy.
    pub address: Option<String>,
    /// The largest number of bytes that task inputs may take on the disk of the proxy's temporary files, in encrypted collaborations.
    /// Default [`PROXY_TMP_SIZE`].
    pub tmp_size: u64,
}

/// The default size limit of a proxy's temporary files: 4 GiB.
pub const PROXY_TMP_SIZE: u64 = 4 << 30;
