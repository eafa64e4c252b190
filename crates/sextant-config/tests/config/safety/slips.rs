//! Quantities, ports and names that are sound by their form, and mean less safety than their writer thinks.

use super::Verdict::{Refused, Silent, Warned};
use super::judge;

#[test]
fn slips_that_lift_a_bound_are_told() {
    let egress = |way: &str| {
        format!(
            "databases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\nkubernetes: {{databases: {{w: {{egress: [{way}]}}}}}}"
        )
    };
    for (more, subject, expected) in [
        (
            "kubernetes: {resources: {requests: {memory: 900Ti}}}".to_owned(),
            "requests.memory",
            Warned("than a machine has"),
        ),
        (
            "kubernetes: {resources: {limits: {memory: 512m}, requests: {memory: 1m}}}".into(),
            "limits.memory",
            Warned("parts of a byte"),
        ),
        ("kubernetes: {resources: {limits: {memory: 512M}}}".into(), "limits.memory", Silent),
        ("kubernetes: {resources: {limits: {cpu: 500m}}}".into(), "limits.cpu", Silent),
        ("kubernetes: {retry_disrupted: 4000000000}".into(), "retry_disrupted", Warned("without an end")),
        ("kubernetes: {retry_disrupted: 3}".into(), "retry_disrupted", Silent),
        (
            "kubernetes: {annotations: {openshift.io/required-scc: privileged}}".into(),
            "required-scc",
            Warned("component of the cluster"),
        ),
        (
            "kubernetes: {tmp: {gitRepo: {repository: 'https://a.org/x'}}}".into(),
            "kubernetes.tmp",
            Refused("found gitRepo"),
        ),
        ("kubernetes: {tmp: {image: {reference: 'a:1'}}}".into(), "kubernetes.tmp", Refused("found image")),
        (egress("{cidr: 10.1.2.3, port: 5432}"), "egress", Silent),
        (egress("{cidr: 10.1.2.3, port: 443}"), "egress", Silent),
        (egress("{cidr: 10.1.2.3, port: 22}"), "egress", Warned("SSH")),
        (egress("{cidr: 10.1.2.3, port: 25}"), "egress", Warned("mail")),
        (egress("{cidr: 10.1.2.3, ports: [5432, 3128]}"), "egress", Warned("proxies")),
        (egress("{cidr: 10.1.2.3, port: 1080}"), "egress", Warned("proxies")),
        (egress("{cidr: 10.1.2.3, port: 2379}"), "egress", Warned("etcd")),
        (egress("{cidr: 10.1.2.3, port: 10250}"), "egress", Warned("kubelets")),
        (egress("{cidr: 8.8.8.8, port: 443}"), "egress", Warned("a name server for everybody")),
        (egress("{cidr: 1.1.1.0/24, port: 443}"), "egress", Warned("a name server for everybody")),
    ] {
        judge(&more, subject, expected);
    }
}
