//! Settings that silently mean less safety than their writer thinks: each is a mistake or a warning, and what is sound is neither.

use Verdict::{Refused, Silent, Warned};
use sextant_core::policies::AllowedAlgorithm;

use crate::{LEAST, parse};

/// What is said of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// A mistake with this in it, and the node doesn't start.
    Refused(&'static str),
    /// A warning with this in it.
    Warned(&'static str),
    /// Nothing that has to do with the subject.
    Silent,
}

/// Reads what is needed and something more. `subject` is what mistakes and warnings that count have in them.
pub fn judge(more: &str, subject: &str, expected: Verdict) {
    let (said, refused) = match parse(&format!("{LEAST}{more}")) {
        Ok(config) => (config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), false),
        Err(error) => (error.problems.iter().map(ToString::to_string).collect(), true),
    };
    let said: Vec<String> = said.into_iter().filter(|text| text.contains(subject)).collect();
    let has = |words: &str| said.iter().any(|text| text.contains(words));
    let fits = match expected {
        Refused(words) => refused && has(words),
        Warned(words) => !refused && has(words),
        Silent => !refused && said.is_empty(),
    };
    assert!(fits, "{more}\nexpected {expected:?}, refused: {refused}, said: {said:#?}");
}

fn algorithm(entry: &str, expected: Verdict) {
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
        "^[a-z]+\\.example\\.org/average$",
        "^10\\.0\\.0\\.[0-9]+/average$",
        "^approved:[0-9]+$",
        "^approved:[0-9.]+$",
        "^(registry\\.example\\.org|docker\\.io)/approved/x@",
        "^registry[12]\\.example\\.org/average$",
        "^docker\\.io/approved/[a-z]+$",
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
        algorithm(entry, if entry == "registry.example.org/average" { Warned("has no tag") } else { Silent });
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
        // Bounds that belong below the runtime.
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
        "docker_services: {redis: {restart_policy: always}}",
        "node_extra_env: {POLICIES_URL: x}",
        "kubernetes: {algorithm_pull_policy: Always, allow_unisolated: true}",
        "kubernetes: {labels: {policy: a, example.org/allowed_team: b}, annotations: {policies.example.org/x: y}}",
        "databases: [{label: policies, uri: /a.csv, type: csv}]",
        "local: {algorithms: {policy-model: python3 x}}",
        "docker_services: {redis: {deploy: {resources: {}}, blocked: x}}",
        "whitelist: {domains: [a]}",
        "base: &base {share_config: false}\n<<: *base",
        "base: &base {share_config: false}\n<<: *base\nshare_config: true",
        "share_config: false\nshare_algorithm_logs: false\nencryption: {enabled: false}",
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
fn labels_and_annotations_that_are_sextants_or_kubernetess_own() {
    let own = Refused("Sextant's own");
    let jobs = Refused("Kubernetes itself");
    let weaker = Refused("takes protection away");
    let reserved = Warned("reserved for Kubernetes");
    let network = Warned("network");
    let sidecar = Warned("inject");
    for kind in ["labels", "annotations"] {
        for (key, value, expected) in [
            ("gke-gcsfuse/volumes", "true", sidecar),
            ("vault.security.bank-vaults.io/vault-addr", "x", sidecar),
            ("secrets-webhook.security.bank-vaults.io/provider", "vault", sidecar),
            ("conjur.org/authn-identity", "x", sidecar),
            ("iam.cloud.google.com/service-account", "x", sidecar),
            ("eks.amazonaws.com/sa-token-expiration", "1", sidecar),
            ("spiffe.io/spiffe-id", "true", sidecar),
            ("operator.1password.io/status", "x", sidecar),
            ("tke.cloud.tencent.com/networks", "x", network),
            ("cni", "weave", network),
            ("networkservicemesh.io", "x", network),
            ("ns.networkservicemesh.io", "x", network),
            ("ipam.spidernet.io/ippools", "x", network),
            ("egress.antrea.io/x", "x", network),
            ("tailscale.com/expose", "true", network),
            ("kubevirt.io/x", "x", Warned("a component of the cluster")),
            ("kube-vip.io/x", "x", Warned("a component of the cluster")),
            ("cluster-autoscaler.kubernetes.io/safe-to-evict-evil", "x", reserved),
            ("policies.kyverno.io/x", "x", Warned("judges pods in the cluster")),
            ("admission.gatekeeper.sh/ignore", "x", Warned("")),
            ("vantage6.ai/probe", "prober", own),
            ("vantage6.ai/run", "7", own),
            ("vantage6.ai/anything", "7", own),
            ("vantage6.ai/reported", "completed", own),
            ("database.vantage6.ai/warehouse", "true", own),
            ("a.b.vantage6.ai/x", "y", own),
            ("app.kubernetes.io/name", "x", own),
            ("app.kubernetes.io/component", "node", own),
            ("batch.kubernetes.io/job-name", "x", jobs),
            ("batch.kubernetes.io/controller-uid", "x", jobs),
            ("controller-uid", "x", jobs),
            ("job-name", "x", jobs),
            ("kubernetes.io/anything", "x", reserved),
            ("node.kubernetes.io/x", "y", reserved),
            ("cdi.k8s.io/gpu", "x", reserved),
            ("k8s.io/x", "y", reserved),
            ("sidecar.istio.io/inject", "true", sidecar),
            ("linkerd.io/inject", "enabled", sidecar),
            ("vault.hashicorp.com/agent-inject", "true", sidecar),
            ("istio.io/rev", "default", sidecar),
            ("azure.workload.identity/use", "true", sidecar),
            ("sidecar.istio.io/inject", "false", Silent),
            ("linkerd.io/inject", "disabled", Silent),
            ("team", "data", Silent),
            ("example.org/team", "data", Silent),
            ("notvantage6.ai/x", "data", Silent),
            ("app.kubernetes.io/part-of", "study", Silent),
            ("app.kubernetes.io/managed-by", "us", Silent),
            ("kueue.x-k8s.io/queue-name", "us", Silent),
        ] {
            judge(&format!("kubernetes: {{{kind}: {{{key}: '{value}'}}}}"), "kubernetes.", expected);
        }
    }
    for (key, value, expected) in [
        ("container.apparmor.security.beta.kubernetes.io/algorithm", "unconfined", weaker),
        ("seccomp.security.alpha.kubernetes.io/pod", "unconfined", weaker),
        ("container.seccomp.security.alpha.kubernetes.io/algorithm", "unconfined", weaker),
        ("security.alpha.kubernetes.io/unsafe-sysctls", "a", weaker),
        ("k8s.v1.cni.cncf.io/networks", "storage", network),
        ("v1.multus-cni.io/default-network", "storage", network),
        ("cni.projectcalico.org/ipAddrs", "x", network),
        ("networking.gke.io/interfaces", "x", network),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false", Silent),
    ] {
        judge(&format!("kubernetes: {{annotations: {{{key}: '{value}'}}}}"), "kubernetes.annotations", expected);
    }
    // The chart says both of its release, and where its Services are.
    let both = "{app.kubernetes.io/instance: a, sextant.vantage6.ai/release: b.a}";
    let ports = "data_port: {address: 'a-node.b.svc:7654'}, proxy: {address: 'a-proxy.b.svc:8080'}";
    judge(&format!("kubernetes: {{labels: {both}, {ports}}}"), "kubernetes.", Silent);
    judge(&format!("kubernetes: {{annotations: {both}}}"), "kubernetes.", own);
    for one in ["app.kubernetes.io/instance: a", "sextant.vantage6.ai/release: b.a"] {
        judge(&format!("kubernetes: {{labels: {{{one}}}}}"), "kubernetes.", Warned("release"));
    }
    judge("kubernetes: {labels: {sextant.vantage6.ai/node: a}}", "kubernetes.", own);
}

#[test]
fn labels_of_another_release_are_refused_where_they_can_be_known() {
    let long = "n".repeat(40);
    let digest = "0123456789abcdef".repeat(4)[..63].to_owned();
    let other = Refused("the rights of another release");
    let unknown = Warned("the runs get the rights of the release");
    for (address, release, instance, expected) in [
        ("a-node.b.svc:7654", "b.a", "a", Silent),
        ("a-node.b.svc", "b.a", "a", Silent),
        ("a-node.b.svc:7654", "c.a", "a", other),
        ("a-node.b.svc:7654", "b.c", "a", other),
        ("a-node.b.svc:7654", &digest, "a", other),
        ("a-node.b.svc:7654", &digest, &long, other),
        (&format!("a-node.{long}.svc:7654"), &digest, &long, Silent),
        ("10.96.0.7:7654", "b.a", "a", unknown),
        ("10.96.0.7:7654", &digest, "a", unknown),
        ("10.96.0.7:7654", "b.c", "a", other),
        ("10.96.0.7:7654", "b", "a", other),
    ] {
        let labels = format!("{{app.kubernetes.io/instance: {instance}, sextant.vantage6.ai/release: '{release}'}}");
        judge(
            &format!("kubernetes: {{labels: {labels}, data_port: {{address: '{address}'}}}}"),
            "kubernetes.",
            expected,
        );
        judge(&format!("kubernetes: {{labels: {labels}, proxy: {{address: '{address}'}}}}"), "kubernetes.", expected);
    }
    judge(
        "kubernetes: {labels: {app.kubernetes.io/instance: a, sextant.vantage6.ai/release: b.a}}",
        "kubernetes.",
        unknown,
    );
}

#[test]
fn names_that_runtimes_of_containers_read() {
    let runtime = Warned("speaks to the runtime of containers");
    for (key, expected) in [
        ("io.kubernetes.cri-o.Devices", runtime),
        ("io.kubernetes.cri-o.userns-mode", runtime),
        ("io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", runtime),
        ("io.kubernetes.cri-o.UnifiedCgroup.algorithm", runtime),
        ("io.katacontainers.config.hypervisor.kernel", runtime),
        ("io.katacontainers.config.runtime.disable_guest_seccomp", runtime),
        ("run.oci.hooks.stdout", runtime),
        ("run.oci.keep_original_groups", runtime),
        ("run.oci.systemd.subgroup", runtime),
        ("org.systemd.property.DeviceAllow", runtime),
        ("dev.gvisor.spec.mount.data.source", runtime),
        ("irq-load-balancing.crio.io", runtime),
        ("irq-load-balancing.crio.io/x", runtime),
        ("crio.io/x", runtime),
        ("devices.noderesource.dev/pod", runtime),
        ("mounts.noderesource.dev/container.algorithm", runtime),
        ("devices.nri.containerd.io/pod", runtime),
        ("ulimits.nri.containerd.io/container.algorithm", runtime),
        ("virtual-kubelet.io/x", runtime),
        ("link-logs.cri-o.io/x", runtime),
        ("devices.nri.io/container.algorithm", runtime),
        ("io.kubernetes.cri-o.seccompProfile.algorithm", Refused("takes protection away")),
        ("seccomp-profile.kubernetes.cri-o.io/algorithm", Refused("takes protection away")),
        ("run.ocis", Silent),
        ("notcrio.io/x", Silent),
        ("io.kubernetes.cri-ology", Silent),
    ] {
        judge(&format!("kubernetes: {{annotations: {{{key}: x}}}}"), "kubernetes.annotations", expected);
    }
}

#[test]
fn resources_without_an_end() {
    let zero = Refused("takes zero for no limit");
    let none = Warned("NO LIMIT");
    for (limits, expected) in [
        ("memory: 0", zero),
        ("memory: '0'", zero),
        ("memory: 0Gi", zero),
        ("memory: '0.0'", zero),
        ("memory: 0e3", zero),
        ("cpu: 0", zero),
        ("cpu: 0m", zero),
        ("ephemeral-storage: 0", zero),
        ("memory: null", none),
        ("memory: ", none),
        ("ephemeral-storage: ~", none),
        ("memory: 900Pi", Warned("more memory than a machine has")),
        ("ephemeral-storage: 2Ei", Warned("more ephemeral-storage than a machine has")),
        ("memory: 24Ti", Silent),
        ("cpu: null", Silent),
        ("memory: 1", Silent),
        ("nvidia.com/gpu: 0", Silent),
        ("ephemeral-storage: 1Gi", Silent),
    ] {
        judge(&format!("kubernetes: {{resources: {{limits: {{{limits}}}}}}}"), "resources", expected);
    }
    judge("kubernetes: {resources: {requests: {memory: 0, cpu: null}}}", "resources", Silent);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.yaml");
    let told = |limits: &str| {
        std::fs::write(&file, format!("{LEAST}kubernetes: {{resources: {{limits: {{{limits}}}}}}}\n")).unwrap();
        sextant_config::check(&file).to_string()
    };
    let all = told("memory: null, ephemeral-storage: null");
    assert!(all.contains("memory 256Mi; NO LIMIT on memory and ephemeral-storage\n"), "{all}");
    let one = told("memory: null");
    assert!(one.contains("; gets at most ephemeral-storage 10Gi; NO LIMIT on memory\n"), "{one}");
}

#[test]
fn volumes_that_give_algorithms_secrets() {
    let token = Refused("serviceAccountToken");
    let own = Refused("a Secret of Sextant's own");
    let shown = Warned("is a Secret");
    let unwritable = Refused("a volume that can be written to");
    let projected = |source: &str| format!("projected: {{sources: [{{configMap: {{name: a}}}}, {{{source}}}]}}");
    let (token_source, secret, of_the_port) = (
        projected("serviceAccountToken: {path: token}"),
        projected("secret: {name: data}"),
        projected("secret: {name: sextant-data-port-7}"),
    );
    for (volume, as_database, as_tmp) in [
        (token_source.as_str(), token, token),
        ("secret: {secretName: sextant-data-port-abc}", own, own),
        ("secret: {secretName: sextant-registries-abc-1}", own, own),
        (&of_the_port, own, own),
        ("secret: {secretName: data}", shown, unwritable),
        (&secret, shown, unwritable),
        ("configMap: {name: data}", Silent, unwritable),
        ("projected: {sources: [{configMap: {name: a}}]}", Silent, unwritable),
        ("downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}", Silent, unwritable),
        ("persistentVolumeClaim: {claimName: data}", Silent, Silent),
        ("emptyDir: {}", Silent, Silent),
        ("nfs: {server: a, path: /a}", Silent, Silent),
        ("csi: {driver: secrets-store.csi.k8s.io, readOnly: true}", shown, shown),
        ("csi: {driver: csi.spiffe.io}", shown, shown),
        ("csi: {driver: csi.cert-manager.io}", shown, shown),
        ("csi: {driver: secrets.csi.hashicorp.com}", shown, shown),
        ("flexVolume: {driver: a/secrets}", shown, shown),
        ("hostPath: {path: /data/a, type: Socket}", Warned("a socket or a device"), Warned("a socket or a device")),
        (
            "hostPath: {path: /data/a, type: BlockDevice}",
            Warned("a socket or a device"),
            Warned("a socket or a device"),
        ),
        ("hostPath: {path: /data/a, type: Directory}", Silent, Silent),
        ("csi: {driver: nfs.csi.k8s.io}", Silent, Silent),
        ("csi: {driver: file.csi.azure.com}", Silent, Silent),
        ("csi: {driver: rook-ceph.cephfs.csi.ceph.com}", Silent, Silent),
    ] {
        let database =
            format!("databases: [{{label: a, type: other}}]\nkubernetes: {{databases: {{a: {{{volume}}}}}}}");
        judge(&database, "kubernetes.databases.a", as_database);
        judge(&format!("kubernetes: {{tmp: {{{volume}}}}}"), "kubernetes.tmp", as_tmp);
    }
}

#[test]
fn nothing_where_a_regular_node_reads_false() {
    let expected = Refused("A regular node takes nothing for false");
    for nothing in ["", "null", "~"] {
        for key in ["share_config", "share_algorithm_logs"] {
            judge(&format!("{key}: {nothing}"), key, expected);
        }
        judge(&format!("policies: {{allow_basics_algorithm: {nothing}}}"), "allow_basics_algorithm", expected);
    }
    judge("share_config: false\nshare_algorithm_logs: true", "share", Silent);
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

#[test]
fn characters_at_which_a_regular_node_ends_a_line() {
    for char in ["\u{85}", "\u{2028}", "\u{2029}"] {
        for (more, at) in [
            (format!("# once{char}share_config: false"), ":3:7:"),
            (format!("\n  # once{char}share_config: false"), ":4:9:"),
            (format!("task_dir: /a{char}b"), ":3:13:"),
            (format!("algorithm_env:\n  A: |\n    b{char}share_config: false"), ":5:6:"),
            (format!("algorithm_env:\n  A: 'é{char}' # {char}"), ":4:13:"),
            (format!("algorithm_env: {{A{char}: b}}"), ":3:18:"),
        ] {
            let said = parse(&format!("{LEAST}{more}")).unwrap_err().to_string();
            assert!(said.contains(at) && said.contains("found the character U+"), "{more:?} {said}");
        }
        for quoted in [format!("'a{char}b'"), format!("\"a{char}b\"")] {
            judge(&format!("algorithm_env:\n  A: {quoted}\n  B: 'b'\n  C: {quoted}"), "character", Silent);
        }
    }
    judge("algorithm_env: {A: \"a\\u2028b\\N\"}", "character", Silent);
}

#[test]
fn algorithms_on_the_machines_of_the_control_plane() {
    let expected = Warned("control plane");
    for more in [
        "node_selector: {node-role.kubernetes.io/control-plane: ''}",
        "node_selector: {node-role.kubernetes.io/master: ''}",
        "tolerations: [{operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/controlplane, operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/etcd, operator: Exists}]",
        "tolerations: [{key: CriticalAddonsOnly, operator: Exists}]",
        "node_selector: {node-role.kubernetes.io/controlplane: 'true'}",
        "node_selector: {node-role.kubernetes.io/etcd: 'true'}",
        "node_selector: {kubernetes.io/role: master}",
        "node_selector: {node.kubernetes.io/microk8s-controlplane: x}",
        "tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]",
        "tolerations: [{key: node-role.kubernetes.io/master, operator: Exists, effect: NoSchedule}]",
    ] {
        judge(&format!("kubernetes: {{{more}}}"), "kubernetes.", expected);
    }
    judge(
        "kubernetes: {node_selector: {kubernetes.io/arch: arm64, node.kubernetes.io/role: worker}}",
        "kubernetes.",
        Silent,
    );
    judge("kubernetes: {tolerations: [{key: nvidia.com/gpu, operator: Exists}]}", "kubernetes.", Silent);
}

fn egress(way: &str, expected: Verdict) {
    let more = format!(
        "databases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\nkubernetes: {{databases: {{w: {{egress: [{{{way}}}]}}}}}}"
    );
    judge(&more, "egress", expected);
}

#[test]
fn ways_out_that_are_wide_or_lead_somewhere_else() {
    let wide = Warned("addresses");
    for (cidr, expected) in [
        ("0.0.0.0/0", wide),
        ("10.0.0.0/8", wide),
        ("10.1.2.0/23", wide),
        ("::/0", wide),
        ("fd12::/63", wide),
        ("::ffff:10.0.0.0/104", wide),
        ("10.1.2.0/24", Silent),
        ("10.1.2.3", Silent),
        ("fd12::/64", Silent),
        ("2001:db8::7", Silent),
        ("169.254.169.254", Warned("metadata")),
        ("::ffff:169.254.169.254", Warned("metadata")),
        ("64:ff9b::a9fe:a9fe", Warned("metadata")),
        ("fd00:ec2::254", Warned("metadata")),
        ("fd00:ec2::23", Warned("metadata")),
        ("64:ff9b:1::a9fe:a9fe", Warned("metadata")),
        ("100.100.100.200", Warned("metadata")),
        ("168.63.129.16", Warned("metadata")),
        ("169.254.1.1", Warned("link-local")),
        ("169.254.20.0/24", Warned("link-local")),
        ("fe80::1", Warned("link-local")),
        ("127.0.0.1", Warned("loopback")),
        ("127.1.2.0/24", Warned("loopback")),
        ("::1", Warned("loopback")),
        ("::ffff:127.0.0.1", Warned("loopback")),
        ("224.0.0.1", Warned("multicast")),
        ("ff02::1", Warned("multicast")),
        ("255.255.255.255", Warned("multicast")),
        ("0.0.0.0", Warned("unspecified")),
        ("'::'", Warned("unspecified")),
    ] {
        egress(&format!("cidr: '{}', port: 1", cidr.trim_matches('\'')), expected);
    }
}

#[test]
fn ways_out_that_are_wide_together() {
    let ways: Vec<String> = (0..256).map(|part| format!("{{cidr: 10.1.{part}.0/24, port: 1}}")).collect();
    let at = |ways: &str| {
        format!(
            "databases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\nkubernetes: {{databases: {{w: {{egress: [{ways}]}}}}}}"
        )
    };
    judge(&at(&ways.join(", ")), "egress", Warned("as many addresses in all"));
    judge(&at(&ways[0]), "egress", Silent);
}

#[test]
fn ways_out_to_name_servers() {
    for ports in ["port: 53", "port: 853", "ports: [5432, 53]"] {
        egress(&format!("cidr: 10.1.2.3, {ports}"), Warned("name servers"));
    }
    egress("cidr: 10.1.2.3, port: 5353", Silent);
}

/// A name that the machine knows without asking anybody.
#[test]
fn a_way_to_the_server_that_has_a_name() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("node.yaml");
    let says = |cidr: &str| {
        let text = format!(
            "server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: k\n\
             databases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\n\
             kubernetes: {{databases: {{w: {{egress: [{{cidr: '{cidr}', port: 443}}]}}}}}}"
        );
        std::fs::write(&path, text).unwrap();
        let config = sextant_config::Config::load(&path).unwrap();
        config.warnings.iter().any(|warning| warning.message.contains("leads to the vantage6 server"))
    };
    assert!(says("127.0.0.0/24") && !says("10.1.2.0/24"));
}

#[test]
fn a_way_to_the_api_server_is_told_where_its_address_is_known() {
    let text = format!(
        "{LEAST}databases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\n\
         kubernetes: {{databases: {{w: {{egress: [{{cidr: 10.96.0.0/24, port: 443}}]}}}}}}"
    );
    let env = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".to_owned());
    let config = sextant_config::Config::parse(&text, std::path::Path::new("node.yaml"), &env).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.message.contains("API server")), "{:?}", config.warnings);
    egress("cidr: 10.96.0.0/24, port: 443", Silent);
}

#[test]
fn a_way_to_the_server_beside_the_proxy() {
    let expected = Warned("leads to the vantage6 server");
    egress("cidr: 10.1.2.3, port: 443, host: vantage6.example.org", expected);
    egress("cidr: 10.1.2.3, port: 443, host: db.example.org", Silent);
    let at = |cidr: &str| {
        let text = format!(
            "server_url: http://10.1.2.3\napi_key: k\ndatabases: [{{label: w, type: sql, uri: 'postgresql://db/x'}}]\n\
             kubernetes: {{databases: {{w: {{egress: [{{cidr: '{cidr}', port: 443}}]}}}}}}"
        );
        parse(&text).unwrap().warnings.iter().any(|warning| warning.message.contains("leads to the vantage6 server"))
    };
    assert!(at("10.1.2.3") && at("10.1.2.0/24") && at("::ffff:10.1.2.3") && !at("10.1.2.4"));
}

#[test]
fn names_that_algorithms_use_for_something_else_are_refused() {
    for host in [
        "proxyserver",
        "ProxyServer",
        "proxyserver.",
        "a.proxyserver",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "db.localhost",
        "localhost.localdomain",
        "localhost4",
        "ip6-localhost",
        "ip6-loopback",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc.cluster.local",
        "10.0.0.1",
    ] {
        egress(&format!("cidr: 10.1.2.3, port: 1, host: {host}"), Refused("host"));
    }
    for host in ["db.example.org", "db", "proxyserver2", "notlocalhost", "localhost.example.org"] {
        egress(&format!("cidr: 10.1.2.3, port: 1, host: {host}"), Silent);
    }
}

/// Paths of the machine, with what is said of them.
fn paths() -> Vec<(&'static str, Verdict)> {
    let never = Refused("of the machine itself");
    let system = Warned("holds");
    vec![
        ("/", never),
        ("//", never),
        ("/.", never),
        ("/data/..", never),
        ("/data/../..", never),
        ("/proc", never),
        ("/proc/1/root", never),
        ("/dev", never),
        ("/dev/sda", never),
        ("/sys/fs/cgroup", never),
        ("/a/../proc/", never),
        ("/etc", system),
        ("/etc/", system),
        ("//etc", system),
        ("/etc/kubernetes/pki", system),
        ("/var/../etc", system),
        ("/./etc/.", system),
        ("/var", system),
        ("/var/", system),
        ("/var/lib", system),
        ("/var/lib/kubelet", system),
        ("/var/lib/kubelet/pods", system),
        ("/var/lib/docker", system),
        ("/var/lib/containerd/x", system),
        ("/var/lib/etcd", system),
        ("/var/log", system),
        ("/root", system),
        ("/root/.ssh", system),
        ("/home", system),
        ("/home/ada/.kube/config", system),
        ("/run", system),
        ("/var/run", system),
        ("/run/containerd/containerd.sock", system),
        ("/var/run/docker.sock", system),
        ("/srv/docker.sock", system),
        ("/boot", system),
        ("/usr", system),
        ("/usr/bin", system),
        ("/lib/modules", system),
        ("/data", Silent),
        ("/data/etc", Silent),
        ("/srv/var/lib/kubelet", Silent),
        ("/etcetera", Silent),
        ("/var/lib/sextant", Silent),
        ("/var/tmp/sextant-trial", Silent),
        ("/home/ada/data", Silent),
        ("/root/data", Silent),
        ("/tmp", system),
        ("/tmp/data", Silent),
        ("/home/ada", system),
        ("/home/ada/.config/x", system),
        ("/srv/.netrc", system),
        ("/home/ada/.pgpass", system),
        ("/host", system),
        ("/host/etc", system),
        ("/host/home/ada", system),
        ("/sysroot/var/lib/kubelet", system),
        ("/rootfs/root", system),
        ("/rootfs/proc", never),
        ("/host/data", Silent),
        ("/etc/../data", Silent),
        ("/var/lib/minikube", system),
        ("/var/lib/cloud/instances", system),
        ("/var/lib/kubernetes", system),
        ("/var/lib/vault", system),
        ("/var/lib/NetworkManager", system),
        ("/var/lib/anything", system),
        ("/var/lib/sextant/tasks", Silent),
        ("/var/lib/postgresql/17", Silent),
        ("/var/backups", system),
        ("/srv/kubernetes", system),
        ("/hostfs", system),
        ("/hostfs/etc", system),
        ("/hostfs/data", Silent),
        ("/hostroot", system),
        ("/hostroot/proc", never),
        ("/home/ada/.minikube", system),
        ("/home/ada/.npmrc", system),
        ("/home/ada/.local/share/keyrings", system),
        ("/home/ada/.anything", system),
        ("/root/.bash_history", system),
        ("/srv/.pypirc", system),
        ("/usr/local/bin", system),
        ("/srv/.hidden/data", Silent),
    ]
}

#[test]
fn folders_that_hold_the_system() {
    for (path, expected) in paths() {
        for kind in ["csv", "folder", "other"] {
            judge(&format!("databases: [{{label: a, type: {kind}, uri: {path}}}]"), "uri", expected);
        }
        judge(&format!("local: {{}}\ndatabases: [{{label: a, type: folder, uri: {path}}}]"), "uri", expected);
        judge(&format!("task_dir: {path}"), "task_dir", expected);
        judge(&format!("local: {{}}\ntask_dir: {path}"), "task_dir", expected);
        judge(&format!("kubernetes: {{tmp: {{hostPath: {{path: {path}}}}}}}"), "kubernetes.tmp", expected);
        let place = format!(
            "databases: [{{label: a, type: folder}}]\nkubernetes: {{databases: {{a: {{hostPath: {{path: {path}}}}}}}}}"
        );
        judge(&place, "kubernetes.databases.a", expected);
        judge(&format!("local: {{}}\ndatabases: [{{label: a, type: folder, uri: 'file://{path}'}}]"), "uri", expected);
    }
    for uri in [
        "file:///%65tc",
        "FILE:///etc",
        "file:/etc",
        "file://localhost/etc",
        "../../../etc",
        "../../../../../etc/shadow",
    ] {
        judge(&format!("databases: [{{label: a, type: csv, uri: '{uri}'}}]"), "uri", Warned("holds"));
    }
    let joined = "databases: [{label: a, type: folder}]\n\
                  kubernetes: {databases: {a: {hostPath: {path: /var}, path: lib/kubelet}}}";
    judge(joined, "kubernetes.databases.a", Warned("/var/lib/kubelet"));
    let elsewhere = "databases: [{label: a, type: folder}]\n\
                     kubernetes: {databases: {a: {nfs: {server: files.example.org, path: /}}}}";
    judge(elsewhere, "kubernetes.databases.a", Silent);
}

#[test]
fn databases_that_hold_what_is_the_nodes_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for name in ["conf", "keys", "data", "tasks"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("keys/api"), "4f1c-key").unwrap();
    std::fs::write(at("keys/kubeconfig"), "{}").unwrap();
    std::os::unix::fs::symlink(at("keys"), at("link")).unwrap();
    let file = at("conf/node.yaml");
    let said = |more: &str| {
        let text =
            format!("server_url: https://a.org\napi_key_file: ../keys/api\ntask_dir: {}\n{more}", at("tasks/new"));
        std::fs::write(&file, text).unwrap();
        sextant_config::check(std::path::Path::new(&file)).to_string()
    };
    let kubernetes = "kubernetes: {kubeconfig: ../keys/kubeconfig}\n";
    for (kind, path, own) in [
        ("folder", at(""), "the configuration file"),
        ("folder", at("conf"), "the configuration file"),
        ("folder", at("data/../conf/"), "the configuration file"),
        ("folder", format!("file://{}", at("conf")), "the configuration file"),
        ("csv", at("conf/node.yaml"), "the configuration file"),
        ("other", at("keys"), "`api_key_file`"),
        ("folder", at("link"), "`api_key_file`"),
        ("csv", at("link/api"), "`api_key_file`"),
        ("csv", at("keys/kubeconfig"), "`kubernetes.kubeconfig`"),
        ("folder", at("tasks"), "`task_dir`"),
        ("folder", at("tasks/new"), "`task_dir`"),
    ] {
        let told = said(&format!("{kubernetes}databases: [{{label: a, type: {kind}, uri: '{path}'}}]\n"));
        let expected = format!("`databases[0].uri`: found a path that algorithms would get at {own} by");
        assert!(told.contains(&expected), "{path} {told}");
    }
    let volume = |source: &str| {
        said(&format!("databases: [{{label: a, type: other}}]\nkubernetes: {{databases: {{a: {{{source}}}}}}}\n"))
    };
    let told = volume(&format!("hostPath: {{path: {}}}, path: keys", at("")));
    assert!(
        told.contains("`kubernetes.databases.a`: found a path that algorithms would get at `api_key_file`"),
        "{told}"
    );
    for fine in [
        said(&format!("{kubernetes}databases: [{{label: a, type: folder, uri: {}}}]\n", at("data"))),
        said(&format!("databases: [{{label: a, type: csv, uri: {}}}]\n", at("conf/people.csv"))),
        volume(&format!("hostPath: {{path: {}}}", at("data"))),
        volume(&format!("nfs: {{server: a, path: {}}}", at("conf"))),
    ] {
        assert!(fine.contains("can be used"), "{fine}");
    }
    let key = "encryption: {enabled: false, private_key: /srv/keys/private.pem}\ndatabases: [{label: a, type: folder, uri: /srv/keys}]";
    judge(key, "uri", Refused("`encryption.private_key`"));
}

#[test]
fn links_to_the_system_are_followed_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("data");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let file = folder.path().join("node.yaml");
    let link = link.display();
    for more in [format!("databases: [{{label: a, type: folder, uri: {link}}}]"), format!("task_dir: {link}")] {
        std::fs::write(&file, format!("{LEAST}{more}\n")).unwrap();
        let said = sextant_config::check(&file).to_string();
        assert!(said.contains("/etc is of the system"), "{said}");
    }
}

#[test]
fn registries_whose_password_goes_to_others() {
    let expected = Refused("the registry's host");
    for (registry, expected) in [
        ("'*'", Refused("send the password to every registry")),
        ("'*.*.*'", expected),
        ("'*.io'", expected),
        ("'*.co.uk'", expected),
        ("'*.azurecr.io'", expected),
        ("registry.example.org:*", expected),
        ("'[a-z]*.example.org'", expected),
        ("'registry?example.org'", expected),
        ("'registry.*.org'", expected),
        ("'registry.example.org/*'", expected),
        ("'registry.example.org/a:1'", expected),
        ("'registry.example.org@evil.org'", expected),
        ("'registry_1.example.org'", expected),
        ("'*.example.org'", Warned("every registry below example.org")),
        ("'*.sub.example.co.uk:5000'", Warned("every registry below sub.example.co.uk:5000")),
        ("registry.example.org", Silent),
        ("registry.example.org:5000", Silent),
        ("registry.example.org/approved", Silent),
        ("'registry.example.org/approved/'", Silent),
        ("https://registry.example.org", Silent),
        ("'https://index.docker.io/v1/'", Silent),
        ("docker.io", Silent),
        ("localhost", Silent),
        ("'[::1]:5000'", Silent),
        ("10.0.0.7:5000", Silent),
    ] {
        judge(
            &format!("docker_registries: [{{registry: {registry}, username: u, password: geheim123}}]"),
            "registry",
            expected,
        );
    }
}

#[test]
fn variables_that_are_the_nodes_own() {
    let replaces = Warned("replaces what the node tells every algorithm");
    let database = Warned("is how algorithms are told of a database");
    let databases = "databases: [{label: w, type: csv, uri: /data/a.csv}]\n";
    for (name, expected) in [
        ("HOST", replaces),
        ("TOKEN_FILE", replaces),
        ("DB_LABELS", replaces),
        ("W_DATABASE_URI", database),
        ("W_DATABASE_TYPE", database),
        ("OTHER_DATABASE_URI", database),
        ("W_DB_PARAM_PASSWORD", database),
        ("W_QUERY", database),
        ("W_SHEET_NAME", database),
        ("W_PREPROCESSING", database),
        ("X_QUERY", Silent),
        ("HTTPS_PROXY", Silent),
        ("SEXTANT_RUN_FOLDER", Refused("knows a run's processes")),
    ] {
        judge(&format!("{databases}algorithm_env: {{{name}: x}}"), "algorithm_env", expected);
        let local = format!("{databases}local: {{algorithms: {{a: {{command: b, env: {{{name}: x}}}}}}}}");
        judge(&local, "local.algorithms.a.env", expected);
    }
}

#[test]
fn the_usual_kubeconfig_is_the_nodes_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let list = format!("{}:{}", path("nothing"), path("config"));
    let said = |more: &str| {
        let env = |name: &str| match name {
            "KUBECONFIG" => Some(list.clone()),
            _ => None,
        };
        match sextant_config::Config::parse(&format!("{LEAST}{more}"), std::path::Path::new("node.yaml"), &env) {
            Ok(config) => config.warnings.iter().map(ToString::to_string).collect(),
            Err(error) => error.to_string(),
        }
    };
    for name in ["config", "nothing", ""] {
        let more = format!("databases: [{{label: a, type: other, uri: '{}'}}]\n", path(name));
        assert!(said(&more).contains("get at the usual kubeconfig"), "{name} {}", said(&more));
        assert!(!said(&format!("{more}local: {{}}")).contains("kubeconfig"));
    }
    let set =
        format!("databases: [{{label: a, type: other, uri: '{}'}}]\nkubernetes: {{kubeconfig: /a}}", path("config"));
    assert!(!said(&set).contains("kubeconfig"));
}

#[test]
fn settings_that_open_more_than_their_writer_says() {
    for (more, subject, expected) in [
        ("kubernetes: {isolation: {every: 3650d}}", "isolation", Warned("longer than a day")),
        ("kubernetes: {isolation: {every: 24h}}", "isolation", Silent),
        ("kubernetes: {isolation: {closed: []}}", "isolation", Warned("is empty")),
        ("kubernetes: {allow_unisolated: true}", "allow_unisolated", Warned("send data anywhere")),
        ("kubernetes: {allow_unisolated: false}", "allow_unisolated", Silent),
        ("kubernetes: {namespace: kube-system}", "namespace", Refused("of Kubernetes itself")),
        ("kubernetes: {namespace: kube-public}", "namespace", Refused("of Kubernetes itself")),
        ("kubernetes: {namespace: default}", "namespace", Warned("other things than runs")),
        ("kubernetes: {namespace: kubernetes-runs}", "namespace", Silent),
        ("health: {listen: 8081}", "health", Warned("all addresses")),
        ("health: {listen: ':8081'}", "health", Warned("all addresses")),
        ("health: {listen: '0.0.0.0:8081'}", "health", Silent),
        ("health: {listen: '127.0.0.1:8081'}", "health", Silent),
    ] {
        judge(more, subject, expected);
    }
    egress("cidr: 10.1.2.3, ports: []", Refused("a port, or a list of them"));
    egress("cidr: 10.1.2.3, port: 1, ports: []", Refused("a port, or a list of them"));
    let config = parse("server_url: https://vantag\u{435}6.example.org\napi_key: k\n").unwrap();
    let told = |warning: &sextant_config::Warning| warning.message.contains("connect to `xn--vantag6-");
    assert!(config.warnings.iter().any(told), "{:?}", config.warnings);
}
