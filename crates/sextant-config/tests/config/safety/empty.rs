//! Settings with nothing behind the colon: what `envsubst` leaves of `pod_security: $LEVEL` without the variable.

use super::Verdict::{Refused, Silent, Warned};
use super::judge;
use crate::warnings;

const NO_VALUE: &str = "has no value. Give it one, or take it out for the default.";

#[test]
fn own_settings_without_a_value_are_mistakes() {
    for path in [
        "kubernetes.pod_security",
        "kubernetes.run_as_user",
        "kubernetes.scratch",
        "kubernetes.isolation",
        "kubernetes.isolation.closed",
        "kubernetes.isolation.every",
        "kubernetes.allow_unisolated",
        "kubernetes.max_concurrent_runs",
        "kubernetes.deadline",
        "kubernetes.output_limit",
        "kubernetes.image",
        "kubernetes.image_pull_policy",
        "kubernetes.algorithm_pull_policy",
        "kubernetes.image_pull_secrets",
        "kubernetes.namespace",
        "kubernetes.kubeconfig",
        "kubernetes.context",
        "kubernetes.databases",
        "kubernetes.tmp",
        "kubernetes.resources",
        "kubernetes.resources.limits",
        "kubernetes.resources.requests",
        "kubernetes.helper_resources",
        "kubernetes.helper_resources.limits",
        "kubernetes.node_selector",
        "kubernetes.tolerations",
        "kubernetes.labels",
        "kubernetes.annotations",
        "kubernetes.data_port",
        "kubernetes.data_port.listen",
        "kubernetes.data_port.address",
        "kubernetes.proxy",
        "kubernetes.proxy.listen",
        "kubernetes.proxy.address",
        "kubernetes.proxy.tmp_size",
        "kubernetes.pending_timeout",
        "kubernetes.image_pull_timeout",
        "kubernetes.keep_finished",
        "kubernetes.keep_shared",
        "kubernetes.retry_disrupted",
        "local.algorithms",
        "local.max_concurrent_runs",
        "local.deadline",
        "local.keep_shared",
        "local.output_limit",
        "health.listen",
        "encryption",
    ] {
        for nothing in ["", "null", "~"] {
            let keys = path.split('.').enumerate().map(|(depth, key)| format!("{}{key}:", "  ".repeat(depth)));
            let text = format!("{} {nothing}", keys.collect::<Vec<_>>().join("\n"));
            judge(&text, &format!("`{path}`"), Refused(NO_VALUE));
        }
    }
    judge("kubernetes: {scratch: {size: 1Gi, storage_class: }}", "storage_class", Refused(NO_VALUE));
    judge("local: {algorithms: {a: {command: b, package: }}}", "package", Refused(NO_VALUE));
    let database = "databases: [{label: w, type: csv}]\nkubernetes: {databases: {w: {";
    judge(&format!("{database}persistentVolumeClaim: {{claimName: a}}, path: }}}}}}"), "w.path", Refused(NO_VALUE));
    judge(&format!("{database}persistentVolumeClaim: {{claimName: a}}, egress: }}}}}}"), "w.egress", Refused(NO_VALUE));
    let way = |more: &str| format!("{database}egress: [{{cidr: 10.1.2.3, {more}}}]}}}}}}");
    judge(&way("port: 5432, host: "), "host", Refused(NO_VALUE));
    judge(&way("port: 5432, ports: "), "ports", Refused(NO_VALUE));
}

#[test]
fn a_mistake_is_told_once() {
    for (more, at) in [
        ("kubernetes: {labels: , namespace: }", 2),
        ("kubernetes: {scratch: {size: }}", 1),
        ("kubernetes: {resources: {limits: }}", 1),
        ("encryption: {enabled: }", 1),
        ("encryption:", 1),
    ] {
        let said = crate::mistakes(&format!("{}{more}", crate::LEAST));
        assert_eq!(said.len(), at, "{more} {said:#?}");
    }
}

#[test]
fn nothing_that_means_something_stays() {
    judge("kubernetes: {resources: {limits: {memory: null}}}", "limits.memory", Warned("NO LIMIT"));
    judge("kubernetes: {helper_resources: {requests: {cpu: null}}}", "no value", Silent);
    for section in ["kubernetes:", "local:", "health:"] {
        judge(section, "no value", Silent);
    }
    for more in ["databases:", "algorithm_env:", "task_dir:", "logging:", "logging: {level: }", "port:", "api_path:"] {
        judge(more, "no value", Silent);
    }
    for (more, expected) in [
        ("ca_certificates:", "no certificates of your own"),
        ("docker_registries:", "without a password"),
        ("policies:", "restricts nothing"),
    ] {
        judge(more, "has no value", Warned(expected));
    }
}

#[test]
fn a_key_beside_encryption_that_is_off_is_told() {
    let off = "encryption: {enabled: false, private_key: /etc/sextant/key.pem}";
    judge(off, "encryption.private_key", Warned("nothing is encrypted"));
    for nothing in ["", "''", "null"] {
        assert_eq!(warnings(&format!("encryption: {{enabled: false, private_key: {nothing}}}")), [""; 0]);
    }
}
