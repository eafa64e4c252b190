//! Other nodes with runs in this node's namespace, as their Jobs show them. A namespace is one trust domain: anyone who may create Jobs
//! and get Secrets in it can stop, read and forge what any node has there. This node's runs must not reach the endpoints of other nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::batch::v1::Job;

use super::facts::RECEIVE;
use super::job::{self, PROXY};
use super::labels;

/// The maximum number of other nodes that are reported and probed.
pub const MOST: usize = 8;

/// Another node of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its node key, which its Jobs have as a label.
    pub key: String,
    /// The address of its data port.
    pub data_port: Option<SocketAddr>,
    /// The address of its proxy. Its Jobs do not show the port.
    pub proxy: Option<IpAddr>,
}

/// The label selector of all Jobs except those of the node with this key.
pub fn selector(own_key: &str) -> String {
    format!("{}=sextant,{},{}!={own_key}", labels::APP, labels::NODE_KEY, labels::NODE_KEY)
}

/// The nodes that created these Jobs, each once, and at most [`MOST`].
pub fn read<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<Neighbour> {
    let mut found: BTreeMap<String, Neighbour> = BTreeMap::new();
    for job in jobs {
        let Some(neighbour) = one(job) else { continue };
        if found.len() == MOST && !found.contains_key(&neighbour.key) {
            continue;
        }
        let known = found.entry(neighbour.key.clone()).or_insert_with(|| neighbour.clone());
        known.data_port = known.data_port.or(neighbour.data_port);
        known.proxy = known.proxy.or(neighbour.proxy);
    }
    found.into_values().collect()
}

fn one(job: &Job) -> Option<Neighbour> {
    let key = job.metadata.labels.as_ref()?.get(labels::NODE_KEY)?.clone();
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let receive = pod.and_then(|pod| pod.init_containers.iter().flatten().find(|each| each.name == RECEIVE));
    let mut variables = receive.into_iter().flat_map(|receive| receive.env.iter().flatten());
    let data_port = variables.find(|each| each.name == job::env::ADDRESS).and_then(|each| each.value.as_deref());
    let proxy = pod.and_then(|pod| {
        let named = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name == PROXY);
        pod.host_aliases.iter().flatten().find(|alias| named(&alias.hostnames))
    });
    Some(Neighbour {
        key,
        data_port: data_port.and_then(|address| address.parse().ok()),
        proxy: proxy.and_then(|alias| alias.ip.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use super::*;
    use serde_json::{Value, json};

    fn made(key: &str, address: Value, ip: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"labels": {"vantage6.ai/node-key": key}},
            "spec": {"template": {"spec": {
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}, {"ip": ip, "hostnames": ["x", "proxyserver"]}],
                "initContainers": [{"name": "receive", "env": [{"name": "SEXTANT_DATA_ADDRESS", "value": address}]}],
                "containers": [],
            }}},
        }))
        .unwrap()
    }

    #[test]
    fn each_node_is_told_once_with_what_its_jobs_say() {
        let probe = serde_json::from_value(json!({"metadata": {"labels": {"vantage6.ai/node-key": "a"}}})).unwrap();
        let jobs = [
            probe,
            made("a", json!("10.1.1.1:7654"), "10.1.1.2"),
            made("a", json!("10.9.9.9:7654"), "10.9.9.9"),
            made("b", json!("nonsense"), "nonsense"),
            Job::default(),
        ];
        let expected = [
            Neighbour {
                key: "a".into(),
                data_port: Some("10.1.1.1:7654".parse().unwrap()),
                proxy: Some("10.1.1.2".parse().unwrap()),
            },
            Neighbour { key: "b".into(), data_port: None, proxy: None },
        ];
        assert_eq!(read(&jobs), expected);
        let many: Vec<Job> = (0..100).map(|key| made(&key.to_string(), json!(null), "")).collect();
        assert_eq!(read(&many).len(), MOST);
    }
}
