//! What `policies` lets in: expressions that are wider than they look, and restrictions that are not in force.

use sextant_core::policies::AllowedAlgorithm;

use super::Verdict::{Refused, Silent, Warned};
use super::{Verdict, judge};

pub(super) fn algorithm(entry: &str, expected: Verdict) {
    let more = format!("policies: {{allow_basics_algorithm: false, allowed_algorithms: ['{entry}']}}");
    judge(&more, "allowed_algorithms", expected);
}

#[test]
fn expressions_that_match_the_empty_text_are_refused() {
    for entry in [
        "^registry.example/approved|",
        "|^registry\\.example/approved$",
        "a*",
        "(x)?",
        "x{0,}",
        "x{0,3}",
        ".*",
        "^.*$",
        "^",
        "$",
        "^$",
        "^(average|)",
        "(?i)",
        "(?:)",
        "()",
        "[a-z]*",
        "\\w*",
        "\\b",
        "\\B",
        "^(?:registry\\.example/)?",
        "(^registry\\.example/x$)|.*",
        "(?x) # a comment alone?",
        "(a*)+",
        "(a?){5}",
    ] {
        algorithm(entry, Refused("matches the empty text"));
    }
}

#[test]
fn expressions_that_let_in_more_than_they_seem_to_are_told() {
    const END: &str = "nothing in the expression ends the name";
    const DOT: &str = "stands for any character";
    const BEGINNING: &str = "of any registry";
    const DOMAIN: &str = "in other domains";
    const HUB: &str = "the same name is at docker.io";
    const ACCOUNT: &str = "of any account";
    const CAPITALS: &str = "in capital letters";
    const DIGEST: &str = "the digest is cut off";
    for (entry, expected) in [
        ("registry/*", END),
        ("registry/**", END),
        ("registry.example/approved/*", END),
        ("^registry\\.example/approved", END),
        ("^registry\\.example/approved.*", END),
        ("^registry\\.example/approved.*$", END),
        ("^registry\\.example/approved.+$", END),
        ("^registry\\.example/approved[a-z]+", END),
        ("^registry\\.example/approved[^:]*$", END),
        ("^registry\\.example/(average|sum)", END),
        ("^registry\\.example/average$|^registry\\.example/sum", END),
        ("^registry\\.example/x$|sum", END),
        ("(?i)^registry\\.example/approved", END),
        ("^registry\\.example/approve[dD]", END),
        ("^registry\\.example", END),
        ("^registry\\.example:5000", END),
        ("^registry\\.example/average:1", END),
        ("^registry\\.example/average\\b", END),
        ("^(r|s)/(a|b|c|d|e|f|g|h)/(a|b|c|d|e|f|g|h)/(x$|y)", END),
        ("^registry.example/approved/[a-z]+$", DOT),
        ("^registry.example.org/approved/", DOT),
        ("^registry\\.example.org/average$", DOT),
        ("^registry[.-z]example\\.org/average$", DOT),
        ("^registry\\Wexample\\wx/average$", DOT),
        ("^registry(.|-)example/average$", DOT),
        (".+", BEGINNING),
        ("[a-z]", BEGINNING),
        ("\\w+", BEGINNING),
        ("\\S+$", BEGINNING),
        ("(a|.)+", BEGINNING),
        ("^registry\\.example/x$|.+", BEGINNING),
        (".*average", BEGINNING),
        (".*/average:1$", BEGINNING),
        (".*average:1$", BEGINNING),
        ("[^/]+/average:1$", BEGINNING),
        ("\\w+/average$", BEGINNING),
        ("[a-z0-9.]+/average$", BEGINNING),
        ("(registry\\.example/|.*/)average$", BEGINNING),
        ("(registry\\.example/)?.+/average$", BEGINNING),
        ("^\\w+\\.\\w+\\.org/x@", DOMAIN),
        ("^registry\\.[a-z]+\\.org/average$", DOMAIN),
        ("^registry\\.example\\.[a-z]+/average$", DOMAIN),
        ("^registry\\.example-[a-z]+\\.org:5000/average$", DOMAIN),
        ("^(registry\\.example\\.org/)?approved/x@", HUB),
        ("^(?:localhost/|registry\\.example\\.org/)?approved/x@", HUB),
        ("^(approved/x|registry\\.example\\.org/approved/x)$", HUB),
        ("^approved:[0-9]+", END),
        ("^localhost:.*", END),
        // Names that go on with something else than letters.
        ("^registry\\.example\\.org/average[^a-z]*$", END),
        ("^registry\\.example\\.org/average\\W*$", END),
        ("^registry\\.example\\.org/average[-0-9]*$", END),
        ("^registry\\.example\\.org/average[0-9./-]*$", END),
        ("^registry\\.example\\.org/average[0-9]?$", END),
        ("^registry\\.example\\.org/average(_[0-9])*$", END),
        // Domains in which everybody may have a name.
        ("^[a-z]+\\.azurecr\\.io/average$", DOMAIN),
        ("^\\w+\\.azurecr\\.io/average@", DOMAIN),
        ("^[0-9]+\\.dkr\\.ecr\\.eu-west-1\\.amazonaws\\.com/average$", DOMAIN),
        ("^[a-z-]+\\.co\\.uk/average$", DOMAIN),
        ("^registry\\.[a-z-]+\\.co\\.uk/average$", DOMAIN),
        ("^[a-z0-9-]+\\.github\\.io/average@", DOMAIN),
        ("^[a-z0-9-]+-docker\\.pkg\\.dev/[a-z]+/average$", DOMAIN),
        // Registries at which everybody may have an account.
        ("^docker\\.io/", ACCOUNT),
        ("^docker\\.io/[^/]+/average:1$", ACCOUNT),
        ("^docker\\.io/\\w+/average$", ACCOUNT),
        ("^docker\\.io/.*/average$", ACCOUNT),
        ("^docker\\.io/.*average", ACCOUNT),
        ("^docker\\.io/approved-[a-z]+/average$", ACCOUNT),
        ("^public\\.example/[a-z]+/average@", ACCOUNT),
        ("^europe-docker\\.pkg\\.dev/[a-z]+/average$", ACCOUNT),
        ("^approved-[a-z]+/average$", ACCOUNT),
        // A host is told from an account by its capital letters.
        ("(?i)^approved/average$", CAPITALS),
        ("(?i)^approved/", CAPITALS),
        ("^[Aa]pproved/average$", CAPITALS),
        ("^registry\\.example\\.org/average@sha256:7c", DIGEST),
        ("^registry\\.example\\.org/average@sha256:7cc4b5ae", DIGEST),
        ("^registry\\.example\\.org/average@sha256:7cc4b5ae.*$", DIGEST),
    ] {
        algorithm(entry, Warned(expected));
    }
    const PART: &str = "an image of another registry";
    // Strangers of every kind: accounts, ports, numbers, hosts that end elsewhere.
    for (entry, expected) in [
        ("^[^.]+\\.example\\.org/avg$", BEGINNING),
        ("^[^.]+\\.example\\.org/", BEGINNING),
        ("^[^.]*example\\.org/avg$", BEGINNING),
        ("^[^@. ]+\\.example\\.org/avg$", BEGINNING),
        ("^[a-z/]+\\.example\\.org/", BEGINNING),
        ("^[a-z/]+\\.example\\.org/avg$", BEGINNING),
        ("^([a-z/])+\\.example\\.org/avg$", BEGINNING),
        ("^[\\w/-]+\\.example\\.org/avg$", BEGINNING),
        ("^[a-z/]{1,40}\\.example\\.org/avg$", BEGINNING),
        ("^r[^.]*\\.example\\.org/avg$", ACCOUNT),
        ("^[a-z0-9/:]+avg$", BEGINNING),
        ("^[^@]+avg$", BEGINNING),
        ("^\\d+\\.\\d+\\.\\d+\\.\\d+:5000/avg$", BEGINNING),
        ("^\\d+\\.\\d+\\.\\d+\\.\\d+/avg$", BEGINNING),
        ("^1[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+/avg$", BEGINNING),
        ("^8\\.[0-9]+\\.[0-9]+\\.[0-9]+/avg$", BEGINNING),
        ("^\\[[0-9a-f:]+\\]:5000/avg$", BEGINNING),
        ("^\\[[0-9a-f:]+\\]/avg$", BEGINNING),
        ("^registry\\.example\\.org[/-]approved/avg$", DOT),
        ("^(registry\\.example\\.)?org/avg$", PART),
        ("^registry\\.(example\\.)?org/avg$", PART),
        ("^registry\\.example(\\.org)?/avg$", PART),
        ("^registry\\.example\\.org/?approved/avg$", PART),
        ("^registry\\.example\\.org/{0,1}avg$", PART),
        ("^my-registry(:5000)?/avg$", PART),
        // Registries and clouds where everybody may have an account or a name.
        ("^index\\.docker\\.io/[a-z]+/avg$", ACCOUNT),
        ("^index\\.docker\\.io/", ACCOUNT),
        ("^registry-1\\.docker\\.io/", ACCOUNT),
        ("^registry\\.hub\\.docker\\.com/[^/]+/x$", ACCOUNT),
        ("^public\\.ecr\\.aws/[a-z0-9]+/avg$", ACCOUNT),
        ("^public\\.ecr\\.aws/", ACCOUNT),
        ("^eu\\.gcr\\.io/[a-z-]+/avg$", ACCOUNT),
        ("^eu\\.icr\\.io/[a-z]+/avg$", ACCOUNT),
        ("^registry\\.digitalocean\\.com/[a-z]+/avg$", ACCOUNT),
        ("^[a-z0-9]+\\.azurecr\\.cn/avg$", DOMAIN),
        ("^[a-z]+\\.jfrog\\.io/docker/avg$", DOMAIN),
        ("^[a-z]+\\.duckdns\\.org/avg$", DOMAIN),
    ] {
        algorithm(entry, Warned(expected));
    }
    // Parts that may be left out, and then the account is another.
    const OTHER: &str = "an image of another account";
    for (entry, expected) in [
        ("^ghcr\\.io/(iknl/)?algorithms/[a-z]+$", OTHER),
        ("^ghcr\\.io/iknl/?algorithms/", OTHER),
        ("^ghcr\\.io/(iknl-)?algorithms/avg$", OTHER),
        ("^ghcr\\.io/iknl(-algorithms)?/avg$", OTHER),
        ("^ghcr\\.io/(iknl-){0,1}algorithms/avg(@|:|$)", OTHER),
        ("^(docker\\.io/)?(our/)?algorithms/avg$", OTHER),
        ("^registry\\.gitlab\\.com/(ours/)?algorithms/[a-z]+$", OTHER),
        // Networks of which strangers have a part, and versions with an open end.
        ("^\\[2a02:[0-9a-f:]+\\]:5000/avg$", BEGINNING),
        ("^\\[2a02::[0-9a-f:]+\\]:5000/avg$", BEGINNING),
        ("^\\[2a02:1:[0-9a-f:]+\\]:5000/avg$", BEGINNING),
        ("^\\[::[0-9a-f:]+\\]:5000/avg$", BEGINNING),
        ("^registry\\.example\\.org/avg:\\d+\\.\\d+", END),
        ("^registry\\.example\\.org/avg:\\d+(\\.\\d+)*", END),
    ] {
        algorithm(entry, Warned(expected));
    }
    // What looks like a tag may be a port: the registry that has it is not let in, so there is nothing to be told.
    for entry in [
        "^approved:.*$",
        "^approved:.+$",
        "^approved:\\S+",
        "^approved:[^@]+$",
        "^approved(:.*)?$",
        "^approved:v?[0-9.]+$",
    ] {
        let entry = AllowedAlgorithm::new(entry).unwrap();
        assert!(entry.allows("approved:1.0") && !entry.allows("approved:5000/evil"), "{}", entry.as_str());
    }
}

#[test]
fn expressions_that_say_what_they_mean_are_taken_without_a_word() {
    let digest = "0".repeat(64);
    for entry in [
        "^harbor2\\.vantage6\\.ai/demo/average(@|:|$)",
        "^average(@|:|$)",
        "^localhost/v6-average:\\d.*",
        "^registry\\.example\\.org/approved/",
        "registry\\.example\\.org/approved/.*",
        "registry\\.example\\.org/approved/.+$",
        "^registry\\.example\\.org/approved/[a-z]+$",
        "^registry\\.example\\.org/approved/[a-z-]+$",
        "^registry\\.example\\.org/approved-[a-z-]+$",
        "^registry\\.example\\.org/approved/[a-z-]+@sha256:[0-9a-f]{64}$",
        "^registry\\.example\\.org/approved/[a-z-]+@sha256:[0-9a-f]{64}",
        "^registry\\.example\\.org/average:1\\.[0-9]+$",
        "^registry\\.example\\.org(:443)?/average$",
        "^(registry\\.)?example\\.org/average$",
        "^(docker\\.io/)?approved/average$",
        "^10\\.0\\.[0-9]+\\.[0-9]+:5000/average$",
        "^registry\\.example\\.org:5000/",
        "^localhost:5000/",
        "^127\\.0\\.0\\.1:5000/",
        "^ours\\.azurecr\\.io/",
        "^123456789012\\.dkr\\.ecr\\.eu-west-1\\.amazonaws\\.com/",
        "^192\\.168\\.[0-9]+\\.[0-9]+/average$",
        "^\\[fd00::[0-9a-f:]+\\]:5000/average$",
        "^myorg\\.jfrog\\.io/docker/[a-z]+$",
        "^public\\.ecr\\.aws/approved/[a-z/]+$",
        "^registry\\.example\\.org(/v6)?/average$",
        "^registry\\.example\\.org/[a-z/]+/average$",
        "^[a-z]+\\.example\\.org/average$",
        "^10\\.0\\.0\\.[0-9]+/average$",
        "^approved:[0-9]+$",
        "^approved:[0-9.]+$",
        "^(registry\\.example\\.org|docker\\.io)/approved/x@",
        "^registry[12]\\.example\\.org/average$",
        "^docker\\.io/approved/[a-z]+$",
        "^ghcr\\.io/(iknl|iknl-algorithms)/avg$",
        "^ghcr\\.io/(iknl|vantage6)/avg$",
        "^ghcr\\.io/iknl/(algorithms/)?avg$",
        "^\\[2a02:1:2:[0-9a-f:]+\\]:5000/avg$",
        "^\\[2a02:1::[0-9a-f:]+\\]:5000/avg$",
        "^\\[::1\\]:5000/avg$",
        "^registry\\.example\\.org/avg:\\d+\\.\\d+.*",
        "^docker\\.io/approved/",
        "^approved/[a-z]+$",
        "^[a-z]+\\.example\\.co\\.uk/average$",
        "^registry\\.example\\.org/[a-z]+/average$",
        "^registry\\.example\\.org/average@sha256:",
        "(?i)^localhost/average$",
        "^(?:registry|mirror)\\.example\\.org/(?:average|sum)$",
        "(?i)^registry\\.example\\.org/average$",
        "^registry\\.example\\.org/v6.average:1.2$",
        "registry.example.org/average",
        "registry.example.org/average:1.2",
        &format!("registry.example.org/average@sha256:{digest}"),
        &format!("^registry\\.example\\.org/average@sha256:{digest}$"),
        &format!("^registry\\.example\\.org/average@sha256:{digest}"),
    ] {
        // An entry without a tag has a warning of its own.
        algorithm(entry, Silent);
    }
}

#[test]
fn a_restriction_at_the_wrong_place_is_a_mistake() {
    for more in [
        "policy: {allowed_algorithms: [a]}",
        "Policies: {allowed_algorithms: [a]}",
        "POLICIES: {}",
        "polices: {allowed_algorithms: [a]}",
        "node_policies: {allowed_algorithms: [a]}",
        "node-policies: [a]",
        "nodePolicies: {}",
        "node_polcies: {allowed: [a]}",
        "security_policy: strict",
        "allowed_algorithms: [a]",
        "allowed-algorithms: [a]",
        "allowedAlgorithms: [a]",
        "allowed_images: [a]",
        "alowed_images: [a]",
        "algorithms_allowed: [a]",
        "allowed_users: [1]",
        "allowed_organizations: [1]",
        "Allow_Basics_Algorithm: false",
        "allow_basics_algorithm: false",
        "allow_unisolated: false",
        "require_algorithm_pull: true",
        "require-algorithm-pull: true",
        "node: {policies: {allowed_algorithms: [a]}}",
        "node: {security: {allowed_images: [a]}}",
        "node: [{a: [{allowed_algorithms: [a]}]}]",
        "config: {node: {deep: {deeper: {Policies: {}}}}}",
        "whitelist: {allowed_algorithms: [a]}",
        "docker_services: {policies: {allowed_algorithms: [a]}}",
        "logging: {policies: {allowed_algorithms: [a]}}",
        "logging: {level: INFO, allowed_users: [1]}",
        "encryption: {enabled: false, policies: {allowed_users: [1]}}",
        "databases: [{label: a, uri: /a.csv, type: csv, allowed_algorithms: [a]}]",
        "databases: [{label: a, uri: /a.csv, type: csv, policies: {allowed_users: [1]}}]",
        "docker_registries: [{registry: a, username: b, password: c, policies: {allowed_users: [1]}}]",
        "kubernetes: {policies: {allowed_algorithms: [a]}}",
        "kubernetes: {allowed_algorithms: [a]}",
        "kubernetes: {isolation: {allowed_algorithms: [a]}}",
        "local: {policies: {allowed_algorithms: [a]}}",
        "local: {algorithms: {a: {command: b, allowed_users: [1]}}}",
        "policies: {policies: {allowed_algorithms: [a]}}",
        "policies: {allowed_algorithm: [a]}",
        "policies: {allowed_images: [a]}",
        "policies: {Allowed_Algorithms: [a]}",
        "policies: {denied_users: [1]}",
        "denied_users: [1]",
        "blocked_organizations: [1]",
        "trusted_algorithms: [a]",
        "permitted_images: [a]",
        "algorithms: [a]",
        "users: [1]",
        "organisations: [1]",
        "node_config: {restrictions: {images: [a]}}",
        // What is shared, and encrypted.
        "share_logs: false",
        "share_algorithm_log: false",
        "shareConfig: false",
        "SHARE_CONFIG: false",
        "logging: {share_algorithm_logs: false}",
        "policies: {share_config: false}",
        "kubernetes: {share_config: false}",
        "databases: [{label: a, uri: /a.csv, type: csv, share_columns: false}]",
        "encrypted: true",
        "encrypt: true",
        "Encryption: {enabled: true}",
        "node_config: {encryption: {enabled: true}}",
        "encryption: {enabled: false, encrypted: true}",
        "private_key: /etc/sextant/key.pem",
        // Other words for the same.
        "accept_users: [1]",
        "accepted_algorithms: [a]",
        "algorithm_images: [a]",
        "enable_algorithms: [a]",
        "verified_images: [a]",
        "vetted: [a]",
        "exclude_users: [1]",
        "limit_users: [1]",
        "acl: [1]",
        "reject: [1]",
        "disabled_algorithms: [a]",
        "databases: [{label: a, uri: /a.csv, type: csv, users: [1]}]",
        "databases: [{label: a, uri: /a.csv, type: csv, algorithms: [a]}]",
        "databases: [{label: a, uri: /a.csv, type: csv, user_ids: [1]}]",
        "no_logs: true",
        "send_logs: false",
        "upload_logs: false",
        "hide_columns: true",
        "logging: {no_logs: true}",
        "databases: [{label: a, uri: /a.csv, type: csv, hide_columns: true}]",
        // Bounds that belong below the runtime.
        "memory_limit: 1Gi",
        "max_memory: 1Gi",
        "limits: {memory: 1Gi}",
        "timeout: 1h",
        "task_timeout: 1h",
        "maxRuns: 1",
        "max_concurrent_runs: 1",
        "pod_security: restricted",
        "resources: {limits: {memory: 1Gi}}",
        "deadline: 1h",
        "isolation: {}",
    ] {
        judge(more, "", Refused(""));
    }
    // What belongs to others has names of its own.
    for more in [
        "algorithm_env: {ALLOWED_ORIGINS: x, POLICY: y}",
        "databases: [{label: a, uri: /a.csv, type: csv, env: {policy: x}}]",
        "docker_services: {redis: {restart_policy: always}}\nlocal: {algorithms: {a: b}}",
        "node_extra_env: {POLICIES_URL: x}",
        "kubernetes: {algorithm_pull_policy: Always, allow_unisolated: true}",
        "kubernetes: {labels: {policy: a, example.org/allowed_team: b}, annotations: {policies.example.org/x: y}}",
        "databases: [{label: policies, uri: /a.csv, type: csv}]",
        "local: {algorithms: {policy-model: python3 x}}",
        "docker_services: {redis: {deploy: {resources: {}}, blocked: x}}\nlocal: {algorithms: {a: b}}",
        "whitelist: {domains: [a]}",
        "base: &base {share_config: false}\n<<: *base",
        "base: &base {share_config: false}\n<<: *base\nshare_config: true",
        "share_config: false\nshare_algorithm_logs: false\nencryption: {enabled: false}",
        "databases: [{label: a, uri: /a.csv, type: csv, user: ada, timeout: 3}]",
        "prometheus: {enabled: true}\nsocket_timeout: 3\nmax_size: 1",
        "logging: {max_size: 1024, datefmt: x}",
    ] {
        judge(more, "is not in force", Silent);
        judge(more, "protects data", Silent);
    }
}

#[test]
fn a_restriction_that_yaml_leaves_out_is_a_mistake() {
    const LOST: &str = "is not in force";
    for more in [
        "strict: &strict {allowed_algorithms: ['a:1']}\npolicies: {<<: *strict, allowed_algorithms: []}",
        "strict: &strict {allowed_algorithms: ['a:1']}\npolicies: {<<: *strict, allowed_algorithms: }",
        "strict: &strict {allowed_users: [1]}\npolicies: {<<: *strict, allowed_users: []}",
        "open: &open {allowed_users: []}\nstrict: &strict {allowed_users: [1]}\npolicies: {<<: [*open, *strict]}",
        "base: &base {policies: {allowed_users: [1]}}\n<<: *base\npolicies: {allow_basics_algorithm: false}",
        "base: &base {policies: {allowed_users: [1]}}\n<<: *base\npolicies:",
        "strict: &strict {allowed_algorithms: ['a:1']}\npolicies: {allow_basics_algorithm: false}",
        "strict: &strict [{allowed_algorithms: ['a:1']}]",
        // The value of another policy.
        "policies: {allow_basics_algorithm: &t true}\nrequire_algorithm_pull: *t",
        "policies: {allowed_organizations: &l [5]}\nallowed_users: *l",
        "policies: {allowed_organizations: &l [5]}\nnode: {allowed_users: *l}",
    ] {
        judge(more, LOST, Refused(LOST));
    }
    for more in [
        "strict: &strict {allowed_algorithms: ['a:1'], allow_basics_algorithm: false}\npolicies: *strict",
        "strict: &strict {allowed_algorithms: ['a:1'], allow_basics_algorithm: false}\npolicies: {<<: *strict}",
        "strict: &strict {allowed_algorithms: ['a:1'], allow_basics_algorithm: false}\n\
         policies: {<<: *strict, allowed_algorithms: ['b:1']}",
        "allowed: &allowed ['a:1']\npolicies: {allow_basics_algorithm: false, allowed_algorithms: *allowed}",
        "base: &base {policies: {allowed_users: [1]}}\n<<: *base",
        "base: &base {policies: {allowed_users: [1]}}\n<<: *base\npolicies: {allowed_users: [2]}",
        "my-policies: &p {allowed_users: [1]}\npolicies: *p",
        "allowed_users: &l [1]\npolicies: {allowed_users: *l}",
    ] {
        judge(more, LOST, Silent);
    }
}

#[test]
fn names_of_organizations_are_told_to_be_weaker_than_numbers() {
    let weak = Warned("may take any name that is free");
    judge("policies: {allowed_organizations: [Hospital]}", "allowed_organizations", weak);
    judge("policies: {allowed_organizations: [2, '*']}", "allowed_organizations[1]", weak);
    judge("policies: {allowed_organizations: [2, '3']}", "allowed_organizations", Silent);
}

#[test]
fn ids_that_yaml_reads_in_another_way_than_people() {
    let expected = Refused("plain digits");
    for key in ["allowed_organizations", "allowed_users"] {
        for id in ["010", "0x10", "0b11", "1_000", "1:30", "+7", "'010'", "'+7'", "08", "'07'"] {
            judge(&format!("policies: {{{key}: [{id}]}}"), key, expected);
        }
        for id in ["10", "'10'", "1"] {
            judge(&format!("policies: {{{key}: [{id}]}}"), key, Silent);
        }
    }
}
