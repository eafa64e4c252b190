//! The network isolation of algorithms, as NetworkPolicies of the namespace in which they run. They allow no ingress, and egress only to
//! the proxy's port, the node's data port, the services of the configuration and, for runs that ask for them, databases on the network.
//!
//! The chart creates the same policies from the same settings (`charts/sextant/templates/isolation.yaml`); a test compares the
//! two. The policies here are for a node on the host, so both ports are IP addresses; in the chart they are pods.
//!
//! Each policy isolates both directions by itself, and allows what it names. So a policy whose presence a probe confirms (by what it
//! allows) also denies everything else, whatever happened to the other policies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sextant_config::{Cidr, ClusterService, Egress, KubernetesConfig};

use super::labels;

/// The addresses that pods may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The node's data port.
    pub data_port: SocketAddr,
    /// The proxy's port.
    pub proxy: SocketAddr,
}

/// The policies for the namespace of one node's runs. Nodes that share a namespace each have their own, except for the first policy,
/// which is the same for all.
pub fn policies(config: &KubernetesConfig, node_key: &str, endpoints: Endpoints) -> Vec<NetworkPolicy> {
    let mut runs = BTreeMap::from(
        [(labels::APP, "sextant"), (labels::COMPONENT, labels::COMPONENT_ALGORITHM), (labels::NODE_KEY, node_key)]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    // A node of a release may set any node key on its pods, but only its own release, and not none. So the selector includes the release,
    // or its absence, and never matches pods of other releases.
    let release = config.labels.get(labels::RELEASE).cloned();
    let of_none = release.is_none().then(|| {
        vec![LabelSelectorRequirement {
            key: labels::RELEASE.to_owned(),
            operator: "DoesNotExist".to_owned(),
            values: None,
        }]
    });
    runs.extend(release.map(|release| (labels::RELEASE.to_owned(), release)));
    let metadata = |name: String| ObjectMeta {
        name: Some(name),
        namespace: Some(config.namespace.clone()),
        labels: Some(BTreeMap::from([(labels::APP.to_owned(), "sextant".to_owned())])),
        ..ObjectMeta::default()
    };
    let policy = |name: String, pods: BTreeMap<String, String>, egress: Vec<NetworkPolicyEgressRule>| NetworkPolicy {
        metadata: metadata(name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_expressions: of_none.clone().filter(|_| !pods.is_empty()),
                match_labels: Some(pods).filter(|pods| !pods.is_empty()),
            }),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).into()),
            egress: Some(egress).filter(|egress| !egress.is_empty()),
            ingress: None,
        }),
    };
    let mut policies = vec![
        policy("sextant-closed".to_owned(), BTreeMap::new(), vec![]),
        policy(
            format!("sextant-{node_key}"),
            runs.clone(),
            [endpoints.proxy, endpoints.data_port].map(|to| rule(Cidr::only(to.ip()), &[to.port()])).into(),
        ),
    ];
    for (label, place) in config.databases.iter().filter(|(_, place)| !place.egress.is_empty()) {
        let mut pods = runs.clone();
        pods.insert(labels::database(label), "true".to_owned());
        let name = format!("sextant-{node_key}-database-{}", label.to_lowercase().replace('_', "-"));
        let egress = place.egress.iter().map(|Egress { cidr, ports, .. }| rule(*cidr, ports)).collect();
        policies.push(policy(name, pods, egress));
    }
    for (alias, service) in &config.services {
        let name = format!("sextant-{node_key}-service-{alias}");
        policies.push(policy(name, runs.clone(), vec![to_service(service)]));
    }
    policies
}

/// To the pods behind a Service: policies don't know the address of the Service itself, which is replaced by a pod's before.
fn to_service(service: &ClusterService) -> NetworkPolicyEgressRule {
    let namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), service.namespace.clone())]);
    let selector =
        |labels: BTreeMap<String, String>| LabelSelector { match_labels: Some(labels), match_expressions: None };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(selector(namespace)),
            pod_selector: Some(service.pod_labels.clone()).filter(|labels| !labels.is_empty()).map(selector),
            ip_block: None,
        }]),
        ports: Some(vec![tcp(service.target_port)]),
    }
}

fn tcp(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort { protocol: Some("TCP".to_owned()), port: Some(IntOrString::Int(port.into())), end_port: None }
}

fn rule(cidr: Cidr, ports: &[u16]) -> NetworkPolicyEgressRule {
    let block = IPBlock { cidr: cidr.to_string(), except: None };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }]),
        ports: Some(ports.iter().copied().map(tcp).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sextant_config::Config;

    fn made(yaml: &str) -> Vec<NetworkPolicy> {
        let text = format!("server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: k\n{yaml}");
        let config = Config::parse(&text, std::path::Path::new("/etc/node.yaml"), &|_| None).unwrap();
        let endpoints =
            Endpoints { data_port: "192.0.2.7:7654".parse().unwrap(), proxy: "[2001:db8::1]:8080".parse().unwrap() };
        policies(config.kubernetes().unwrap(), "0123456789", endpoints)
    }

    #[test]
    fn each_policy_closes_both_directions_by_itself() {
        let policies = made(
            "databases: [{label: a, type: sql, uri: 'postgresql://db/x'}]\n\
             kubernetes: {databases: {a: {egress: [{cidr: 10.0.0.1, port: 1}]}}}",
        );
        assert_eq!(policies.len(), 3);
        for spec in policies.into_iter().map(|policy| policy.spec.unwrap()) {
            assert_eq!(spec.policy_types.unwrap(), ["Ingress", "Egress"]);
            assert_eq!(spec.ingress, None, "nobody gets in");
        }
    }

    #[test]
    fn everything_is_closed_and_two_ports_are_opened_for_this_nodes_runs() {
        let policies = made("kubernetes: {namespace: runs}");
        let json = serde_json::to_value(&policies).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 2);
        assert_eq!(json[0]["metadata"]["namespace"], "runs");
        assert_eq!(json[0]["spec"], serde_json::json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        let port = |port: u16| serde_json::json!([{"protocol": "TCP", "port": port}]);
        assert_eq!(
            json[1]["spec"],
            serde_json::json!({
                "podSelector": {"matchLabels": {
                    "app.kubernetes.io/name": "sextant",
                    "app.kubernetes.io/component": "algorithm",
                    "vantage6.ai/node-key": "0123456789",
                }, "matchExpressions": [{"key": "sextant.vantage6.ai/release", "operator": "DoesNotExist"}]},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [
                    {"to": [{"ipBlock": {"cidr": "2001:db8::1/128"}}], "ports": port(8080)},
                    {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": port(7654)},
                ],
            })
        );
    }

    #[test]
    fn services_are_open_to_all_runs_at_the_port_of_their_pods() {
        let policies = made(
            "kubernetes: {services: {redis: {namespace: tools, name: cache, port: 6379}, \
             web.example: {namespace: web, name: web, port: 80, target_port: 8080, pod_labels: {app: web}}}}",
        );
        assert_eq!(policies.len(), 4);
        let json = serde_json::to_value(&policies).unwrap();
        assert_eq!(json[2]["metadata"]["name"], "sextant-0123456789-service-redis");
        assert_eq!(json[2]["spec"]["podSelector"], json[1]["spec"]["podSelector"]);
        let rule = |namespace: &str, port: u16| {
            serde_json::json!({
                "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}],
                "ports": [{"protocol": "TCP", "port": port}],
            })
        };
        assert_eq!(json[2]["spec"]["egress"], serde_json::json!([rule("tools", 6379)]));
        let mut expected = rule("web", 8080);
        expected["to"][0]["podSelector"] = serde_json::json!({"matchLabels": {"app": "web"}});
        assert_eq!(json[3]["spec"]["egress"], serde_json::json!([expected]));
    }

    #[test]
    fn a_release_has_its_own() {
        let policies = made("kubernetes: {labels: {sextant.vantage6.ai/release: a.x}}");
        let json = serde_json::to_value(&policies[1]).unwrap();
        let selector = &json["spec"]["podSelector"];
        assert_eq!(selector["matchLabels"]["sextant.vantage6.ai/release"], "a.x");
        assert_eq!(selector.get("matchExpressions"), None);
    }

    #[test]
    fn a_database_on_the_network_is_open_to_the_runs_that_asked_for_it() {
        let policies = made(
            "databases: [{label: My_db, type: sql, uri: 'postgresql://db/x'}, {label: file, type: csv, uri: /a.csv}]\n\
             kubernetes: {databases: {My_db: {egress: [{cidr: 10.0.0.0/8, ports: [1, 2]}]}}}",
        );
        assert_eq!(policies.len(), 3);
        let json = serde_json::to_value(&policies[2]).unwrap();
        assert_eq!(json["metadata"]["name"], "sextant-0123456789-database-my-db");
        assert_eq!(json["spec"]["podSelector"]["matchLabels"]["database.vantage6.ai/My_db"], "true");
        assert_eq!(json["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"], "10.0.0.0/8");
        assert_eq!(json["spec"]["egress"][0]["ports"][1]["port"], 2);
    }
}
