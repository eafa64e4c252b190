//! Reads the settings under `kubernetes:`. Everything has a default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sextant_core::image_reference::ImageReference;

use super::super::OUTPUT;
use super::super::Surroundings;
use super::super::address::{address, listen};
use super::super::kubeconfig;
use super::super::names;
use super::super::reader::{Field, Section};
use super::super::redact;
use super::super::server::beside;
use super::super::yaml::Value;
use super::isolation::{Isolation, isolation};
use super::{
    DatabasePlace, ImagePullPolicy, KubernetesConfig, PROXY_TMP_SIZE, PodSecurity, Port, ProxyConfig, destinations,
    egress, gpu, labels, resources, scratch, services, value, volume,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DATA_PORT: u16 = 7654;
const PROXY_PORT: u16 = 8080;
/// The file in which Kubernetes tells a pod its own namespace.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The customary user ID for an unprivileged user in images.
const NOBODY: u32 = 65532;

/// The runtime of a configuration that names none.
pub(in super::super) fn defaults() -> KubernetesConfig {
    KubernetesConfig {
        namespace: "v6-jobs".to_owned(),
        kubeconfig: None,
        context: None,
        image: concat!("sextant:", env!("CARGO_PKG_VERSION")).to_owned(),
        image_pull_policy: None,
        algorithm_pull_policy: None,
        require_pull: true,
        image_pull_secrets: Vec::new(),
        databases: BTreeMap::new(),
        services: BTreeMap::new(),
        tmp: None,
        scratch: None,
        gpu: None,
        resources: resources::defaults(),
        helper_resources: resources::helper_defaults(&resources::defaults()),
        data_port: Port { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, DATA_PORT)), address: None },
        proxy: ProxyConfig {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, PROXY_PORT)),
            address: None,
            tmp_size: PROXY_TMP_SIZE,
        },
        isolation: Isolation::default(),
        allow_unisolated: false,
        pod_security: PodSecurity::Baseline,
        deadline: 7 * 24 * HOUR,
        keep_finished: HOUR,
        keep_shared: 30 * 24 * HOUR,
        pending_timeout: HOUR,
        image_pull_timeout: Duration::from_secs(10 * 60),
        retry_disrupted: 0,
        output_limit: Some(OUTPUT),
        max_concurrent_runs: None,
        node_selector: BTreeMap::new(),
        tolerations: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// Applies `policies.require_algorithm_pull`, and reports a pull policy that contradicts it.
pub(in super::super) fn require_pull(file: &Section<'_>, config: &mut KubernetesConfig, required: Option<bool>) {
    config.require_pull = required.unwrap_or(true);
    let undone = matches!(config.algorithm_pull_policy, Some(ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never));
    if required != Some(true) || !undone {
        return;
    }
    let section = file.get("kubernetes").and_then(|field| field.section("a mapping of settings"));
    if let Some(field) = section.as_ref().and_then(|section| section.get("algorithm_pull_policy")) {
        field.findings.error(
            field.key_at,
            format!(
                "`{}`: with this, algorithms run that the registry does not have any more, and `policies.require_algorithm_pull: true` \
                 forbids that. Take one of the two out.",
                field.path
            ),
        );
    }
}

/// Reads the section. Invalid settings are reported and have their defaults in the result.
pub(in super::super) fn read(section: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> KubernetesConfig {
    let default = defaults();
    let word = |key, expected: &str| section.get(key).and_then(|field| field.word(expected)).map(str::to_owned);
    let policy = |key| section.get(key).and_then(|field| field.choice(&ImagePullPolicy::ALL, ImagePullPolicy::as_str));
    let time = |key, zero, default| section.get(key).and_then(|field| field.duration(zero)).unwrap_or(default);
    let resources = resources::read(section).unwrap_or(default.resources);
    let helper_resources = resources::read_helpers(section, &resources).unwrap_or(default.helper_resources);
    let kubeconfig = section.get("kubeconfig").and_then(|field| {
        let path = beside(config, field.word("the path of a kubeconfig")?);
        if let Err(error) = around.files.readable(&path) {
            if field.node.secret().is_some_and(redact::is_like_a_path) {
                field.wrong("a readable kubeconfig", &format!("Reading {} failed: {error}.", path.display()));
            } else {
                let advice = format!("Reading it failed: {}.", error.kind());
                field.wrong_secret("the path of a readable kubeconfig", &advice);
            }
        }
        Some(around.files.absolute(&path))
    });
    let kubeconfigs = kubeconfig::paths(kubeconfig.clone(), around);
    let api_servers = destinations::api_servers(&kubeconfigs, around);
    let scratch = section.get("scratch").and_then(|field| scratch::scratch(&field));
    let read = KubernetesConfig {
        namespace: section.get("namespace").and_then(|field| namespace(&field, around)).unwrap_or(default.namespace),
        kubeconfig,
        context: word("context", "the name of a context in the kubeconfig"),
        image: section.get("image").and_then(|field| image(&field)).unwrap_or(default.image),
        image_pull_policy: policy("image_pull_policy"),
        algorithm_pull_policy: policy("algorithm_pull_policy"),
        require_pull: default.require_pull,
        image_pull_secrets: section.get("image_pull_secrets").map_or_else(Vec::new, |field| secrets(&field)),
        databases: section.get("databases").map_or_else(BTreeMap::new, |field| {
            field.map_of("a mapping of database labels to their places", |label, field| {
                database(label, field, &api_servers)
            })
        }),
        services: section.get("services").map_or_else(BTreeMap::new, |field| services::read(&field)),
        tmp: section.get("tmp").and_then(|field| volume::tmp(&field)),
        output_limit: match section.get("output_limit") {
            Some(field) => resources::bytes(&field, "Take it out for what servers can store.").or(Some(OUTPUT)),
            None => {
                let disk = scratch.as_ref().map_or_else(|| resources::disk(&resources), |scratch| Some(scratch.bytes));
                Some(disk.map_or(OUTPUT, |disk| disk.min(OUTPUT)))
            }
        },
        scratch,
        gpu: section.get("gpu").and_then(|field| gpu::read(&field)),
        resources,
        helper_resources,
        data_port: section.get("data_port").map_or(default.data_port, |field| port(&field, DATA_PORT)),
        proxy: section.get("proxy").map_or(default.proxy, |field| proxy(&field)),
        isolation: section.get("isolation").map_or(default.isolation, |field| isolation(&field)),
        allow_unisolated: section.get("allow_unisolated").is_some_and(|field| allow_unisolated(&field)),
        pod_security: pod_security(section),
        deadline: time("deadline", false, default.deadline),
        keep_finished: time("keep_finished", true, default.keep_finished),
        keep_shared: time("keep_shared", true, default.keep_shared),
        pending_timeout: time("pending_timeout", false, default.pending_timeout),
        image_pull_timeout: time("image_pull_timeout", false, default.image_pull_timeout),
        retry_disrupted: section
            .get("retry_disrupted")
            .and_then(|field| {
                let times: u32 = field.number("how often, from 0 to 4294967295")?;
                if times > 100 {
                    field.warn("executes a run that a cluster keeps disrupting without an end. Write how often is worth it, like 3.");
                }
                Some(times)
            })
            .unwrap_or(default.retry_disrupted),
        max_concurrent_runs: section.get("max_concurrent_runs").and_then(|field| field.count()),
        node_selector: labels::node_selector(section),
        tolerations: section.get("tolerations").and_then(|field| value::parse(&field)).unwrap_or_default(),
        labels: BTreeMap::new(),
        annotations: labels::annotations(section),
    };
    let addresses = [read.data_port.address.as_deref(), read.proxy.address.as_deref()];
    let labels = labels::labels(section, &addresses);
    let read = KubernetesConfig { labels, ..read };
    labels::judge_tolerations(section, &read.tolerations);
    section.finish_own();
    read
}

/// All entries under `kubernetes.databases`, valid or not.
pub(in super::super) fn database_volumes<'a>(file: &Section<'a>) -> Vec<(&'a str, Field<'a>)> {
    let below = |field: Field<'a>| matches!(field.node.value, Value::Map(_)).then(|| field.section(""))?;
    let volumes = file.get("kubernetes").and_then(below);
    let volumes = volumes.and_then(|kubernetes| kubernetes.get("databases")).and_then(below);
    volumes.map_or_else(Vec::new, |volumes| volumes.fields().collect())
}

/// Reads a database's volume, its egress, or both.
fn database(label: &str, field: &Field<'_>, api_servers: &[IpAddr]) -> Option<DatabasePlace> {
    let expected = "a volume like `persistentVolumeClaim: {claimName: data}`, or `egress`";
    let section = field.section(expected)?;
    let ways = section.get("egress");
    if ways.is_some() && !names::is_label_value(label) {
        let advice = "It becomes part of a label of pods.";
        let message = format!(
            "`{}`: found a database with `egress` whose label begins or ends with an underscore, or is too long, expected another \
             label. {advice}",
            field.path
        );
        field.findings.error(field.key_at, message);
        return None;
    }
    section.refuse_empty();
    let egress = ways.as_ref().map_or_else(Vec::new, |ways| egress::read(ways, api_servers));
    let volume = match ways {
        Some(_) if section.rest().is_empty() => None,
        _ => Some(volume::database(field)?),
    };
    Some(DatabasePlace { volume, egress })
}

fn pod_security(section: &Section<'_>) -> PodSecurity {
    const LEVELS: [&str; 2] = ["baseline", "restricted"];
    let level = section.get("pod_security").and_then(|field| field.choice(&LEVELS, |level| level));
    let user = section.get("run_as_user").map(|field| {
        let expected = "the number of a user other than root, from 1 to 2147483647";
        let user = field.number(expected).filter(|user| (1..=i32::MAX.unsigned_abs()).contains(user));
        match (user, level) {
            (None, _) => field.wrong(expected, ""),
            (Some(_), Some("restricted")) => {}
            (Some(_), _) => {
                field.wrong("none", "It belongs to `pod_security: restricted`; otherwise images choose their user.");
            }
        }
        user.unwrap_or(NOBODY)
    });
    match level {
        Some("restricted") => PodSecurity::Restricted { user: user.unwrap_or(NOBODY) },
        _ => PodSecurity::Baseline,
    }
}

fn allow_unisolated(field: &Field<'_>) -> bool {
    let allow = field.boolean().unwrap_or(false);
    if allow {
        field.warn(
            "lets algorithms run where nothing keeps them from the network, so that they may send data anywhere. Take it out for all but \
             trials with invented data.",
        );
    }
    allow
}

/// Reads the namespace of runs. The node can read Secrets in it, so it should contain nothing but runs.
fn namespace(field: &Field<'_>, around: &Surroundings<'_>) -> Option<String> {
    let expected = "the name of a namespace: small letters, digits and `-`, at most 63";
    let name = field.text(expected)?;
    if !names::is_dns_label(name) {
        field.wrong(expected, "");
        return None;
    }
    let is_openshifts = name == "openshift" || name.starts_with("openshift-");
    if name.starts_with("kube-") || is_openshifts {
        let whose = if is_openshifts { "OpenShift" } else { "Kubernetes" };
        let advice = format!("This one is of {whose} itself, with keys of the cluster in it.");
        field.wrong("a namespace for runs alone", &advice);
        return None;
    }
    let own = around.files.text(Path::new(OWN_NAMESPACE)).ok();
    if is_of_others(name) || own.is_some_and(|own| own.trim() == name) {
        field.warn(
            "is a namespace in which other things than runs may be: who may make pods there, or read Secrets, is trusted with all runs, and \
             the node may read the Secrets of others. Give runs a namespace of their own, such as `v6-jobs`.",
        );
    }
    Some(name.to_owned())
}

/// Whether a namespace is known for other things than runs. The chart's notes have the same names (`sextant.isOthers`).
fn is_of_others(name: &str) -> bool {
    const NAMES: [&str; 28] = [
        "default",
        "argo",
        "argocd",
        "cert-manager",
        "cilium",
        "external-secrets",
        "gatekeeper",
        "gitlab",
        "grafana",
        "harbor",
        "ingress-nginx",
        "jenkins",
        "keycloak",
        "kyverno",
        "linkerd",
        "logging",
        "longhorn",
        "monitoring",
        "observability",
        "olm",
        "operators",
        "prometheus",
        "rook-ceph",
        "sealed-secrets",
        "tekton-pipelines",
        "traefik",
        "vault",
        "velero",
    ];
    const ENDS: [&str; 3] = ["-system", "-operator", "-operators"];
    NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

fn image(field: &Field<'_>) -> Option<String> {
    let expected = "a container image, like `registry.example.org/sextant:1.0`";
    let image = field.text(expected)?;
    if let Err(why) = ImageReference::parse(image) {
        field.wrong(expected, &format!("No image can have this name: {why}."));
        return None;
    }
    Some(image.to_owned())
}

fn secrets(field: &Field<'_>) -> Vec<String> {
    let expected = "names of Secrets, for example `[registry-credentials]`";
    let items = field.one_or_more(expected).unwrap_or_default();
    let secret = |item: &Field<'_>| {
        let expected = "the name of a Secret: small letters, digits, `-` and `.`";
        let name = item.text(expected)?;
        if !names::is_dns_name(name) {
            item.wrong(expected, "");
            return None;
        }
        Some(name.to_owned())
    };
    items.iter().filter_map(secret).collect()
}

/// Reads a port of this node: its listen address and the address given to pods.
fn port(field: &Field<'_>, usual: u16) -> Port {
    let default = Port { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, usual)), address: None };
    let Some(section) = field.section("a mapping with `listen` and `address`") else {
        return default;
    };
    let port = listened_at(&section, default.listen);
    section.finish_own();
    port
}

fn listened_at(section: &Section<'_>, usual: SocketAddr) -> Port {
    let listen = section.get("listen").and_then(|field| listen(&field, usual.port())).unwrap_or(usual);
    Port { listen, address: section.get("address").and_then(|field| address(&field)) }
}

fn proxy(field: &Field<'_>) -> ProxyConfig {
    let default = defaults().proxy;
    let Some(section) = field.section("a mapping with `listen`, `address` and `tmp_size`") else {
        return default;
    };
    let Port { listen, address } = listened_at(&section, default.listen);
    let advice = "Take it out for `4Gi`.";
    let tmp_size =
        section.get("tmp_size").and_then(|field| resources::bytes(&field, advice)).unwrap_or(default.tmp_size);
    section.finish_own();
    ProxyConfig { listen, address, tmp_size }
}
