//! The operator's own labels and annotations of Jobs and pods. Some names mean something to Sextant, to Kubernetes or to other components
//! of the cluster. Names that would break the network isolation, or hide a run from its node, are refused.

use std::collections::BTreeMap;

use super::super::names;
use super::super::reader::{Field, Section};

/// The domain of Sextant's own names; its subdomains are Sextant's too.
const OWN: &str = "vantage6.ai";
/// The two labels that identify a release's pods. The chart sets both.
const RELEASE: [&str; 2] = [sextant_core::names::RELEASE, "app.kubernetes.io/instance"];

/// What the names belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Labels,
    Annotations,
}

/// Reads `labels`.
pub(super) fn labels(section: &Section<'_>, addresses: &[Option<&str>]) -> BTreeMap<String, String> {
    let labels = read(section, "labels", label_value);
    if let Some(field) = section.get("labels") {
        each(&field, Kind::Labels, &labels);
        judge_release(&field, &labels, addresses);
    }
    labels
}

/// Reads `annotations`.
pub(super) fn annotations(section: &Section<'_>) -> BTreeMap<String, String> {
    let annotations = read(section, "annotations", |field| field.text("a text").map(str::to_owned));
    if let Some(field) = section.get("annotations") {
        each(&field, Kind::Annotations, &annotations);
    }
    annotations
}

/// Reads `node_selector`. These are labels of machines, so other rules apply.
pub(super) fn node_selector(section: &Section<'_>) -> BTreeMap<String, String> {
    let selector = read(section, "node_selector", label_value);
    if let Some(field) =
        section.get("node_selector").filter(|_| selector.iter().any(|(key, value)| is_of_the_control_plane(key, value)))
    {
        field.warn(on_the_control_plane());
    }
    selector
}

/// Warns of tolerations that let algorithms onto machines of the control plane.
pub(super) fn judge_tolerations(section: &Section<'_>, tolerations: &[k8s_openapi::api::core::v1::Toleration]) {
    let to_the_control_plane = |key: Option<&str>| match key {
        None | Some("") => true,
        Some(key) => is_of_the_control_plane(key, ""),
    };
    if let Some(field) = section.get("tolerations")
        && tolerations.iter().any(|toleration| to_the_control_plane(toleration.key.as_deref()))
    {
        field.warn(on_the_control_plane());
    }
}

/// Whether a label or taint marks machines of the control plane or of etcd: Kubernetes's own names, and those of its distributions.
fn is_of_the_control_plane(key: &str, value: &str) -> bool {
    const ROLES: [&str; 4] = ["controlplane", "control-plane", "master", "etcd"];
    let short = key.rsplit('/').next().unwrap_or(key).to_lowercase();
    let is_role = |text: &str| ROLES.iter().any(|role| text == *role || text.ends_with(&format!("-{role}")));
    key == "CriticalAddonsOnly" || is_role(&short) || (short == "role" && is_role(&value.to_lowercase()))
}

fn on_the_control_plane() -> &'static str {
    "lets algorithms run on machines of the control plane, beside the keys of the whole cluster. Give them machines of their own, \
     unless there is only one."
}

pub(super) fn read(
    section: &Section<'_>,
    key: &'static str,
    value: impl Fn(&Field<'_>) -> Option<String>,
) -> BTreeMap<String, String> {
    let Some(field) = section.get(key) else {
        return BTreeMap::new();
    };
    field.map_of("a mapping of names to texts", |name, field| {
        if !names::is_label_key(name) {
            let expected = "letters, digits, `-`, `_` and `.`, at most 63, with or without a domain and `/` before";
            let message = format!("`{}`: found a name that Kubernetes does not take, expected {expected}.", field.path);
            field.findings.error(field.key_at, message);
            return None;
        }
        value(field)
    })
}

pub(super) fn label_value(field: &Field<'_>) -> Option<String> {
    let expected = "letters, digits, `-`, `_` and `.`, at most 63";
    let text = field.text(expected)?;
    if !names::is_label_value(text) {
        field.wrong(expected, "");
        return None;
    }
    Some(text.to_owned())
}

/// The verdict on a name.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Warn(&'static str),
    Refuse(&'static str),
}

/// Checks that the two release labels are those of this node's own release, since runs get the rights of the release in their labels. The
/// chart makes one label from the release's namespace and the other (`sextant.release` in its helpers), and gives pods the names of its
/// Services there.
fn judge_release(field: &Field<'_>, labels: &BTreeMap<String, String>, addresses: &[Option<&str>]) {
    let [Some(release), Some(instance)] = RELEASE.map(|name| labels.get(name)) else { return };
    let name = format!("{}.{}", field.path, names::shown(RELEASE[0]));
    let refuse = |expected: &str| {
        let message = format!(
            "`{name}`: found `{release}`, expected {expected}: runs would have the rights of another release, whose proxy and databases they \
             reach. Take it out together with `{}`; the chart sets both.",
            RELEASE[1]
        );
        field.findings.error(field.key_at, message);
    };
    let is_digest = release.len() == 63 && release.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let namespace = release.split_once('.').filter(|(_, of)| of == instance).map(|(namespace, _)| namespace);
    if namespace.is_none() && !is_digest {
        return refuse(&format!("`<namespace>.{instance}`, which belongs to `{}: {instance}`", RELEASE[1]));
    }
    let own: Vec<&str> = addresses.iter().filter_map(|address| namespace_of(address.as_deref()?)).collect();
    match (own.first(), namespace) {
        (Some(own), Some(namespace)) if *own != namespace => refuse(&format!(
            "`{own}.{instance}`, since the node's own Services are in the namespace {own}"
        )),
        // The chart uses a digest only for names that are too long for a label.
        (Some(own), None) if own.len() + 1 + instance.len() <= 63 => refuse(&format!(
            "`{own}.{instance}`, since the node's own Services are in the namespace {own}"
        )),
        (Some(_), _) => {}
        (None, _) => field.findings.warn(
            field.key_at,
            format!(
                "`{name}`: the runs get the rights of the release `{instance}` (`{release}`): NetworkPolicies of the chart let them through to \
                 its proxy, its node and its databases. Only the chart sets this; take it out unless that is this node's own release."
            ),
        ),
    }
}

/// The namespace in a Service's name, with or without a port: `name.namespace.svc`.
fn namespace_of(address: &str) -> Option<&str> {
    let host = address.split(':').next()?;
    let mut parts = host.split('.');
    let (_, namespace, svc) = (parts.next()?, parts.next()?, parts.next()?);
    (svc == "svc").then_some(namespace)
}

fn each(field: &Field<'_>, kind: Kind, all: &BTreeMap<String, String>) {
    if all.is_empty() {
        return;
    }
    let Some(section) = field.section("") else { return };
    for (name, field) in section.fields() {
        let Some(value) = all.get(name) else { continue };
        match judge(name, value, kind, all) {
            Verdict::Fine => {}
            Verdict::Warn(why) => field.warn(why),
            Verdict::Refuse(why) => {
                field.findings.error(field.key_at, format!("`{}`: {why} Take it out.", field.path));
            }
        }
    }
}

fn judge(name: &str, value: &str, kind: Kind, all: &BTreeMap<String, String>) -> Verdict {
    let (domain, short) = name.split_once('/').unwrap_or(("", name));
    let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if kind == Kind::Labels && RELEASE.contains(&name) {
        return if RELEASE.iter().all(|name| all.contains_key(*name)) {
            Verdict::Fine
        } else {
            Verdict::Warn(
                "is how the chart knows the pods of a release: its NetworkPolicies let them through. Only the chart sets it, together with \
                 the other one that it needs.",
            )
        };
    }
    if below(OWN) || matches!(name, "app.kubernetes.io/name" | "app.kubernetes.io/component") {
        return Verdict::Refuse(
            "found a name of Sextant's own, expected another one: by these the node knows its runs, and NetworkPolicies whom they let \
             through.",
        );
    }
    if below("batch.kubernetes.io") || matches!(name, "controller-uid" | "job-name") {
        return Verdict::Refuse("found a name that Kubernetes itself gives to the pods of Jobs, expected another one.");
    }
    let reserved = below("kubernetes.io") || below("k8s.io");
    if reserved && domain.split('.').any(|part| part == "security") {
        return Verdict::Refuse(
            "found a name by which Kubernetes takes protection away from a pod (AppArmor, seccomp, sysctls), expected none such.",
        );
    }
    if is_of_networks(domain, short) {
        return Verdict::Warn(
            "may give pods another network, or another place in theirs. NetworkPolicies don't hold on every network: see that nothing but \
             proxy and data port can be reached there.",
        );
    }
    if is_of_injectors(domain, short) && !is_off(value) {
        return Verdict::Warn(
            "may inject containers or credentials into pods: a network that no NetworkPolicy knows, and secrets that algorithms can read. \
             Leave it out of the pods of runs.",
        );
    }
    if short_of_seccomp(name) {
        return Verdict::Refuse(
            "found a name by which CRI-O takes protection away from a pod (seccomp), expected none such.",
        );
    }
    if is_of_runtimes(name, domain) {
        return Verdict::Warn(
            "speaks to the runtime of containers, which may give pods devices, folders or rights by it. Leave it out unless you know what \
             it opens.",
        );
    }
    if ["kyverno.io", "gatekeeper.sh"].into_iter().any(below) {
        return Verdict::Warn(
            "speaks to what judges pods in the cluster, which may let these through by it. Leave it out unless you know what it opens.",
        );
    }
    let of_the_cluster = domain.contains("kube")
        || below("openshift.io")
        || domain.split('.').any(|part| part == "seccomp" || part == "apparmor");
    if of_the_cluster && !reserved {
        return Verdict::Warn(
            "belongs to a component of the cluster, which may do something because of it. Leave it out unless you know what it opens.",
        );
    }
    if reserved && !is_harmless(name) {
        return Verdict::Warn(
            "is reserved for Kubernetes, which may do something because of it. Take one of a domain of your own.",
        );
    }
    Verdict::Fine
}

/// Names under reserved domains that anybody may use.
fn is_harmless(name: &str) -> bool {
    [
        "app.kubernetes.io/",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        "kubernetes.io/ingress-bandwidth",
        "kubernetes.io/egress-bandwidth",
        "kubernetes.io/description",
        "controller.kubernetes.io/pod-deletion-cost",
        "kubectl.kubernetes.io/default-container",
        "kubectl.kubernetes.io/default-logs-container",
    ]
    .iter()
    .any(|known| name == *known || (known.ends_with('/') && name.starts_with(known)))
}

/// Whether a name belongs to a network plugin: Multus, Calico, Cilium, OVN, Google's or Amazon's.
fn is_of_networks(domain: &str, short: &str) -> bool {
    let parts: Vec<&str> = domain.split(['.', '-']).collect();
    const PARTS: [&str; 16] = [
        "cni",
        "multus",
        "ovn",
        "cilium",
        "projectcalico",
        "networking",
        "network",
        "networks",
        "antrea",
        "spidernet",
        "submariner",
        "networkservicemesh",
        "tencent",
        "aliyun",
        "tailscale",
        "netbird",
    ];
    const NAMES: [&str; 4] = ["cni", "networks", "networkservicemesh.io", "ns.networkservicemesh.io"];
    parts.iter().any(|part| PARTS.contains(part))
        || (domain.is_empty() && (NAMES.contains(&short) || short.starts_with("io.cilium")))
        || (domain.ends_with("amazonaws.com") && short.contains("eni"))
}

/// Whether a resource is a network device: RDMA, InfiniBand, Amazon's EFA, virtual functions, tunnels.
pub(super) fn is_of_a_network(resource: &str) -> bool {
    const WORDS: [&str; 24] = [
        "cni",
        "dpdk",
        "efa",
        "eni",
        "hca",
        "hfi",
        "ib",
        "infiniband",
        "ipvlan",
        "macvlan",
        "mlnx",
        "net",
        "netdevice",
        "network",
        "networking",
        "nic",
        "openvswitch",
        "rdma",
        "roce",
        "sriov",
        "tap",
        "tun",
        "vf",
        "vhost",
    ];
    let name = resource.to_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let without_number = |word: &str| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    words.any(|word| WORDS.contains(&without_number(word).trim_end_matches('s')))
}

/// Whether a name belongs to a component that injects containers or credentials into pods: service meshes, agents, cloud identities.
fn is_of_injectors(domain: &str, short: &str) -> bool {
    const DOMAINS: [&str; 31] = [
        "1password.com",
        "1password.io",
        "akeyless",
        "cert-manager.io",
        "conjur.org",
        "datadoghq.com",
        "dynatrace.com",
        "eks.amazonaws.com",
        "getambassador.io",
        "gke-gcsfuse",
        "gke-parallelstore",
        "iam.cloud.google.com",
        "iam.gke.io",
        "infisical.com",
        "metalbear.co",
        "nsm.nginx.com",
        "okteto.com",
        "secretless.io",
        "spiffe.io",
        "istio.io",
        "linkerd.io",
        "dapr.io",
        "kuma.io",
        "openservicemesh.io",
        "appmesh.k8s.aws",
        "consul.hashicorp.com",
        "vault.hashicorp.com",
        "vault.security.banzaicloud.io",
        "instrumentation.opentelemetry.io",
        "azure.workload.identity",
        "iam.amazonaws.com",
    ];
    // Other components for secrets and identities show it in a part of their domain.
    const PARTS: [&str; 9] = ["vault", "vaults", "secret", "secrets", "iam", "identity", "admission", "mesh", "csi"];
    let below = |parent: &&str| domain == *parent || domain.ends_with(&format!(".{parent}"));
    let says_so = |text: &str| text.to_lowercase().contains("inject") || text.to_lowercase().contains("sidecar");
    let is_part = domain.split(['.', '-']).any(|part| PARTS.contains(&part));
    DOMAINS.iter().any(below)
        || is_part
        || says_so(domain)
        || says_so(short)
        || ["aadpodidbinding", "osm"].contains(&short)
}

fn is_off(value: &str) -> bool {
    ["false", "disabled", "disable", "no", "off", "0", ""].contains(&value.to_lowercase().as_str())
}

/// Whether CRI-O takes a pod's seccomp profile from this name.
fn short_of_seccomp(name: &str) -> bool {
    name.starts_with("seccomp-profile.kubernetes.cri-o.io") || name.starts_with("io.kubernetes.cri-o.seccompProfile")
}

/// Whether a container runtime reads this annotation: CRI-O, containerd, Kata, crun, runc, gVisor and their plugins. Most of their own
/// names begin with the most general part and have no slash, so the beginning of the whole name is compared. Others are domains.
fn is_of_runtimes(name: &str, domain: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "io.kubernetes.cri-o",
        "io.kubernetes.cri",
        "io.katacontainers",
        "io.containerd",
        "run.oci",
        "org.systemd.property",
        "org.criu",
        "dev.gvisor",
    ];
    const DOMAINS: [&str; 7] = [
        "crio.io",
        "cri-o.io",
        "nri.io",
        "katacontainers.io",
        "noderesource.dev",
        "containerd.io",
        "virtual-kubelet.io",
    ];
    let begins = |of: &&str| name.strip_prefix(*of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']));
    // Some of CRI-O's names are only a domain: `irq-load-balancing.crio.io`.
    let domain = if domain.is_empty() { name } else { domain };
    let below = |of: &&str| domain == *of || domain.strip_suffix(*of).is_some_and(|rest| rest.ends_with('.'));
    BEGINNINGS.iter().any(begins) || BEGINNINGS.iter().chain(&DOMAINS).any(below)
}
