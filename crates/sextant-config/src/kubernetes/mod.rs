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
    /// The namespace that Jobs and pods are made in. Default `v6-jobs`.
    pub namespace: String,
    /// The kubeconfig to connect with, absolute after [`Config::load`](super::Config::load). `None`: as kubectl does, or as
    /// the pod that Sextant runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// Sextant's own image, which the pods' `receive` and `return` containers use. Default `sextant:<this version>`.
    pub image: String,
    /// When Sextant's own image is pulled; `None`: Kubernetes's own rule (always for `:latest`, else if it isn't there).
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// When the algorithm's image is pulled; `None`: as [`require_pull`](Self::require_pull) says.
    pub algorithm_pull_policy: Option<ImagePullPolicy>,
    /// Whether an image that is named by a tag must be pulled for each run (`policies.require_algorithm_pull`). Default true.
    pub require_pull: bool,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in [`namespace`](Self::namespace) to pull images with.
    pub image_pull_secrets: Vec<String>,
    /// Where the databases are, by label. A file database without a volume is a hostPath.
    pub databases: BTreeMap<String, DatabasePlace>,
    /// The Services of the cluster that algorithms reach, by the names under which they do.
    pub services: BTreeMap<String, ClusterService>,
    /// The volume for `/mnt/tmp`, which the runs of one job share. See [`Config::tmp`](super::Config::tmp) for the default.
    pub tmp: Option<VolumeSource>,
    /// The volume that holds all that an algorithm writes, with an end to it; `None`: folders of the machine's disk, whose limit the kubelet
    /// measures from time to time.
    pub scratch: Option<Scratch>,
    /// The algorithm container's resources: what the file says on top of the defaults.
    pub resources: ResourceRequirements,
    /// The GPUs that each algorithm gets (`algorithm_device_requests`); they are in [`resources`](Self::resources), too.
    pub gpu: Option<Gpu>,
    /// Those of Sextant's own containers (`receive`, `return`, `probe`): what the file says on top of defaults that follow
    /// [`resources`](Self::resources).
    pub helper_resources: ResourceRequirements,
    /// Where pods reach the node, for input, token and output. Default `[::]:7654`; without an address the node finds one by itself.
    pub data_port: Port,
    /// The proxy, by which algorithms reach the server.
    pub proxy: ProxyConfig,
    /// How the walls around algorithms are proved.
    pub isolation: Isolation,
    /// Whether algorithms run also where the walls around them are not proved: for trials with invented data. Default false.
    pub allow_unisolated: bool,
    /// Which of Kubernetes's Pod Security Standards the pods of runs meet.
    pub pod_security: PodSecurity,
    /// The longest that an algorithm may run. Default 7 days.
    pub deadline: Duration,
    /// How long a finished Job stays, to be looked at. Default 1 hour; zero: it goes at once.
    pub keep_finished: Duration,
    /// How long a folder that the runs of one job share stays after its last use. Default 30 days; never less than a run may last.
    pub keep_shared: Duration,
    /// How long a pod may wait for a machine. Default 1 hour.
    pub pending_timeout: Duration,
    /// How long pulling an image may fail before the run does. Default 10 minutes.
    pub image_pull_timeout: Duration,
    /// How often an algorithm that was disrupted (evicted, drained, preempted, its machine lost) is executed again. Default 0.
    pub retry_disrupted: u32,
    /// How many bytes an output may have; `None`: any number.
    pub output_limit: Option<u64>,
    /// How many runs may be in the cluster at once; `None`: as many as Kubernetes takes.
    pub max_concurrent_runs: Option<NonZeroUsize>,
    /// Labels that a machine must have to run algorithms.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that algorithm pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Labels to put on Jobs and pods besides Sextant's own, which win.
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on Jobs and pods besides Sextant's own, which win.
    pub annotations: BTreeMap<String, String>,
}

/// When Kubernetes pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At every start: nothing runs that the registry does not have.
    Always,
    /// If the machine does not have it.
    IfNotPresent,
    /// Never: it must be on the machine.
    Never,
}

impl ImagePullPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::IfNotPresent, Self::Never];

    /// Kubernetes's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The Pod Security Standard that the pods of runs meet, as far as their volumes do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// The algorithm runs as the user of its image, which may be root without root's powers.
    #[default]
    Baseline,
    /// The whole pod runs as one user who is not root. Images that insist on another one fail.
    Restricted {
        /// The user's number, and that of their group.
        user: u32,
    },
}

/// Where a database is that is not a file of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabasePlace {
    /// The volume with its files.
    pub volume: Option<DatabaseVolume>,
    /// Where on the network it is, for the runs that asked for it.
    pub egress: Vec<Egress>,
}

/// A database that lives in a volume of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseVolume {
    /// The volume.
    pub source: VolumeSource,
    /// The file or folder in it: relative, without `..`. `None`: the whole volume.
    pub path: Option<String>,
}

/// What [`VolumeSource::storage`] calls the machine that a pod runs on.
pub(super) const MACHINE: &str = "the machine";

/// Any volume that Kubernetes knows, without a name.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSource(Volume);

impl VolumeSource {
    /// Takes a volume's source, whatever its name.
    #[must_use]
    pub fn new(volume: Volume) -> Self {
        Self(Volume { name: String::new(), ..volume })
    }

    /// Kubernetes's word for the kind of volume, for example `persistentVolumeClaim`.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "of the owner's own configuration")]
    pub fn kind(&self) -> String {
        // Its only field besides the name, which is empty.
        let fields = serde_json::to_value(&self.0).ok();
        let fields = fields.as_ref().and_then(serde_json::Value::as_object);
        fields.into_iter().flatten().map(|(kind, _)| kind).find(|kind| *kind != "name").cloned().unwrap_or_default()
    }

    /// Which storage it shows, and the folder of that.
    pub(super) fn storage(&self) -> (String, String) {
        storage::of(&self.0)
    }

    /// The folder of the machine, if it is one.
    #[must_use]
    pub fn host_path(&self) -> Option<&str> {
        self.0.host_path.as_ref().map(|host| host.path.as_str())
    }

    /// The volume under a name, ready for a pod.
    #[must_use]
    pub fn named(&self, name: &str) -> Volume {
        Volume { name: name.to_owned(), ..self.0.clone() }
    }
}

/// A port that pods reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The address that it is listened at.
    pub listen: SocketAddr,
    /// What pods are told: a host name or an IP address, with or without a port.
    pub address: Option<String>,
}

/// The proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The address that it is listened at. Default `[::]:8080`.
    pub listen: SocketAddr,
    /// What pods are told, as for other ports; without a port it has 8080. `None`: the node itself is the proxy.
    pub address: Option<String>,
    /// How many bytes of its temporary files' disk the inputs of tasks on their way may take, in encrypted collaborations. Default
    /// [`PROXY_TMP_SIZE`].
    pub tmp_size: u64,
}

/// What a proxy's temporary files may take where nothing is said of it: 4 GiB.
pub const PROXY_TMP_SIZE: u64 = 4 << 30;
