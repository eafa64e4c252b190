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

/// Each in all forms that YAML has for it: by a name, in its place, by a list, and within `policies`.
#[test]
fn a_policy_that_a_merge_key_drops_is_a_mistake() {
    const LOST: &str = "brings in only what is not there";
    for (strict, weaker) in [
        ("allowed_algorithms: ['a:1']", "allowed_algorithms: []"),
        ("allowed_algorithms: 'a:1'", "allowed_algorithms: []"),
        ("allowed_algorithm_stores: ['https://store.example.org/api']", "allowed_algorithm_stores: []"),
        ("allowed_users: [1]", "allowed_users: []"),
        ("allowed_users: 1", "allowed_users: []"),
        ("allowed_organizations: [1]", "allowed_organizations: "),
        ("allow_basics_algorithm: false", "allow_basics_algorithm: true"),
        ("allow_either_whitelist_or_store: false", "allow_either_whitelist_or_store: true"),
        ("require_algorithm_pull: true", "require_algorithm_pull: false"),
    ] {
        let another =
            if strict.starts_with("allowed_users") { "allowed_organizations: [5]" } else { "allowed_users: [5]" };
        let rest = if strict.starts_with("allow_either") { weaker } else { another };
        for more in [
            format!("base: &b {{policies: {{{strict}}}}}\n<<: *b\npolicies: {{{rest}}}"),
            format!("<<: {{policies: {{{strict}}}}}\npolicies: {{{rest}}}"),
            format!("<<: {{policies: {{{strict}}}}}\npolicies: {{{weaker}}}"),
            format!("<<: [{{policies: {{{rest}}}}}, {{policies: {{{strict}}}}}]"),
            format!("s: &s {{{strict}}}\npolicies: {{<<: *s, {weaker}}}"),
            format!("policies: {{<<: {{{strict}}}, {weaker}}}"),
            format!("policies:\n  <<: {{{strict}}}\n  {weaker}"),
            format!("policies: {{<<: [{{{weaker}}}, {{{strict}}}]}}"),
        ] {
            judge(&more, strict.split(':').next().unwrap(), Refused(LOST));
        }
        // One mistake is told once.
        let twice = format!("{}base: &b {{policies: {{allowed_users: [1]}}}}\n<<: *b\npolicies: {{}}", crate::LEAST);
        assert_eq!(crate::parse(&twice).unwrap_err().problems.len(), 1);
        // What is there, is in force.
        judge(&format!("<<: {{policies: {{{strict}}}}}"), LOST, Silent);
        judge(&format!("policies: {{<<: {{{strict}}}}}"), LOST, Silent);
        judge(&format!("policies: {{<<: {{{strict}}}, {strict}}}"), LOST, Silent);
    }
    for more in [
        "<<: {policies: {allowed_users: [1]}}\npolicies: {allowed_users: [2]}",
        "<<: {policies: {allowed_users: [], require_algorithm_pull: false}}\npolicies: {allowed_users: [2]}",
        "<<: {policies: {allow_either_whitelist_or_store: true}}\npolicies: {allowed_users: [2]}",
        "<<: {policies: {allow_basics_algorithm: true}}\npolicies: {allowed_users: [2]}",
        "policies: {<<: {allowed_users: []}, allowed_users: [1]}",
        "policies: {<<: {require_algorithm_pull: false}, require_algorithm_pull: true}",
        "policies: {<<: {allow_either_whitelist_or_store: true}, allow_either_whitelist_or_store: false}",
    ] {
        judge(more, LOST, Silent);
    }
}
