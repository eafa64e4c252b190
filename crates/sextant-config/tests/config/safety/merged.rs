//! Restrictions that YAML's merge keys would have brought in, and that fall away.

use super::Verdict::{Refused, Silent, Warned};
use super::judge;

#[test]
fn a_bound_that_a_merge_key_drops_is_a_mistake() {
    const DROPPED: &str = "takes the place of";
    for (more, expected) in [
        (
            "base: &b {kubernetes: {pod_security: restricted}}\n<<: *b\nkubernetes: {deadline: 1h}",
            Refused("`kubernetes.pod_security`: does not count as line 3"),
        ),
        ("base: &b {kubernetes: {pod_security: restricted}}\n<<: *b\nkubernetes: {}", Refused(DROPPED)),
        ("base: &b {kubernetes: {pod_security: restricted}}\n<<: *b\nkubernetes:", Refused(DROPPED)),
        ("k: &k {pod_security: restricted}\nkubernetes: {<<: *k, pod_security: baseline}", Refused(DROPPED)),
        ("k: &k {isolation: {closed: ['10.0.0.1:5']}}\nkubernetes: {<<: *k, isolation: {every: 2h}}", Refused(DROPPED)),
        ("k: &k {isolation: {closed: ['10.0.0.1:5']}}\nkubernetes: {<<: *k, isolation: }", Refused(DROPPED)),
        (
            "k: &k {resources: {limits: {memory: 1Gi}}}\nkubernetes: {<<: *k, resources: {limits: {cpu: 1}}}",
            Refused(DROPPED),
        ),
        ("k: &k {scratch: {size: 1Gi}}\nkubernetes: {<<: *k, scratch: null}", Refused(DROPPED)),
        ("k: &k {max_concurrent_runs: 1}\nkubernetes: {<<: *k, max_concurrent_runs: null}", Refused(DROPPED)),
        (
            "k: &k {max_concurrent_runs: 1}\nj: &j {<<: *k, max_concurrent_runs: null}\nkubernetes: {<<: *j}",
            Refused(DROPPED),
        ),
        ("k: &k {deadline: 1h}\nj: &j {deadline: null}\nkubernetes: {<<: [*j, *k]}", Refused(DROPPED)),
        ("e: &e {enabled: true}\nencryption: {<<: *e, enabled: false}", Refused(DROPPED)),
        ("base: &b {share_config: false}\n<<: *b\nshare_config: true", Warned(DROPPED)),
        (
            "d: &d {env: {schema: a}}\ndatabases: [{<<: *d, label: a, type: sql, uri: 'sqlite://x', env: {user: b}}]",
            Warned(DROPPED),
        ),
        // What merge keys are for.
        ("k: &k {pod_security: restricted, deadline: 1h}\nkubernetes: {<<: *k}", Silent),
        ("k: &k {deadline: 1h}\nkubernetes: {<<: *k, deadline: 2h}", Silent),
        ("k: &k {pod_security: baseline}\nkubernetes: {<<: *k, pod_security: restricted}", Silent),
        (
            "k: &k {resources: {limits: {memory: 1Gi}}}\nkubernetes: {<<: *k, resources: {limits: {memory: 2Gi}}}",
            Silent,
        ),
        ("base: &b {share_config: true}\n<<: *b\nshare_config: false", Silent),
        ("databases:\n- &d {label: a, type: csv, uri: /data/a.csv}\n- {<<: *d, label: b, uri: /data/b.csv}", Silent),
    ] {
        judge(more, DROPPED, expected);
    }
}
