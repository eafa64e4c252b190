//! Services of the cluster that algorithms reach by a host name: the counterpart of a regular node's `docker_services`.

use std::collections::BTreeMap;

use super::super::names;
use super::super::reader::{Field, Section};
use super::super::yaml::Value;
use super::{KubernetesConfig, destinations, egress, labels};

/// A Service that all algorithms of the node reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterService {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The TCP port of the Service.
    pub port: u16,
    /// The port of the Service's pods, which network policies refer to. Default: the Service's port.
    pub target_port: u16,
    /// Labels of the Service's pods. Without any, the port is open at all pods of the namespace.
    pub pod_labels: BTreeMap<String, String>,
}

/// Reads `kubernetes.services`: the Services by the host names that algorithms use. Reports errors.
pub(super) fn read(field: &Field<'_>) -> BTreeMap<String, ClusterService> {
    field.map_of("a mapping of names for algorithms to Services, each with `namespace`, `name` and `port`", service)
}

fn service(alias: &str, field: &Field<'_>) -> Option<ClusterService> {
    if let Some(why) = destinations::taken(alias).or_else(|| {
        (!names::is_dns_name(alias))
            .then_some("The names of hosts in pods consist of small letters, digits, `-` and `.`.")
    }) {
        let message = format!(
            "`{}`: found a name that no service can have for algorithms, expected another one. {why}",
            field.path
        );
        field.findings.error(field.key_at, message);
        return None;
    }
    let section = field.section("a Service of the cluster with `namespace`, `name` and `port`")?;
    let label = |key, expected: &str| {
        let field = section.require(key, expected)?;
        let name = field.text(expected)?;
        if !names::is_dns_label(name) {
            field.wrong(expected, "");
            return None;
        }
        Some((name.to_owned(), field))
    };
    let namespace = label("namespace", "the namespace of a Service");
    let name = label("name", "the name of a Service");
    let port = |field: Field<'_>| {
        let expected = "a TCP port from 1 to 65535";
        let port: u16 = field.number(expected)?;
        if port == 0 {
            field.wrong(expected, "");
            return None;
        }
        if egress::NAME_SERVERS.contains(&port) {
            field.warn(format_args!(
                "{port} is the port of name servers, which pass questions on to everywhere: every algorithm may tell anybody anything by \
                 them. Name another service."
            ));
        }
        Some(port)
    };
    let outer = section.require("port", "the TCP port of the Service").and_then(port);
    let target = section.get("target_port").map(port);
    let pod_labels = labels::read(&section, "pod_labels", labels::label_value);
    section.finish_own();
    let (namespace, namespace_field) = namespace?;
    let (name, name_field) = name?;
    if namespace == "default" && name == "kubernetes" {
        name_field.wrong("a service for algorithms", "This one is the cluster's API server.");
        return None;
    }
    if namespace.starts_with("kube-") || namespace.starts_with("openshift-") {
        namespace_field.warn(
            "is a namespace of the cluster's own: every algorithm reaches what runs there. Name another service.",
        );
    }
    let port = outer?;
    Some(ClusterService { namespace, name, port, target_port: target.unwrap_or(Some(port))?, pod_labels })
}

/// Refuses Services in the runs' own namespace, where network policies block ingress, and containers of `docker_services` for which no
/// Service is named.
pub(in super::super) fn judge(file: &Section<'_>, config: &KubernetesConfig) {
    let written = file.get("kubernetes").and_then(|field| match &field.node.value {
        Value::Map(_) => field.section("")?.get("services"),
        _ => None,
    });
    if let Some(field) = &written
        && let Some((alias, _)) = config.services.iter().find(|(_, service)| service.namespace == config.namespace)
    {
        field.findings.error(
            field.key_at,
            format!(
                "`{}.{alias}.namespace`: found the namespace of runs, expected another one. In that one, network policies let nobody in.",
                field.path
            ),
        );
    }
    let Some(field) = file.get("docker_services").filter(|field| field.node.asks()) else { return };
    let Value::Map(entries) = &field.node.value else {
        field
            .wrong("a mapping of names to containers", "On Kubernetes, write the services into `kubernetes.services`.");
        return;
    };
    // A Service with an error has been reported already.
    let known = |alias: &str| {
        config.services.contains_key(alias)
            || written.as_ref().is_some_and(|services| {
                matches!(&services.node.value, Value::Map(entries) if entries.iter().any(|entry| entry.key == alias))
            })
    };
    for entry in entries.iter().filter(|entry| !known(&entry.key)) {
        let alias = names::shown(&entry.key);
        field.findings.error(
            entry.at,
            format!(
                "`{}.{alias}`: found a container of Docker, expected a Service of the cluster, too. Run it in the cluster and write \
                 `services: {{{alias}: {{namespace: …, name: …, port: …}}}}` under `kubernetes`, or take it out.",
                field.path
            ),
        );
    }
}
