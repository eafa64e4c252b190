//! What is under `kubernetes:`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sextant_config::{ImagePullPolicy, PodSecurity, Tmp};

use crate::{LEAST, kubernetes_with, mistakes, warnings, with};

#[test]
fn everything_has_a_default() {
    let minute = Duration::from_secs(60);
    for text in ["", "kubernetes:", "kubernetes: {}"] {
        let kubernetes = kubernetes_with(text);
        assert_eq!(kubernetes.namespace, "v6-jobs");
        assert_eq!(kubernetes.image, concat!("sextant:", env!("CARGO_PKG_VERSION")));
        assert_eq!(kubernetes.data_port.listen.to_string(), "[::]:7654");
        assert_eq!(kubernetes.data_port.address, None);
        assert_eq!(kubernetes.proxy.listen.to_string(), "[::]:8080");
        assert_eq!(kubernetes.proxy.address, None);
        assert_eq!(kubernetes.proxy.tmp_size, 4 << 30);
        assert_eq!(kubernetes.deadline, 7 * 24 * 60 * minute);
        assert_eq!(kubernetes.keep_finished, 60 * minute);
        assert_eq!(kubernetes.pending_timeout, 60 * minute);
        assert_eq!(kubernetes.image_pull_timeout, 10 * minute);
        assert_eq!(kubernetes.retry_disrupted, 0);
        assert_eq!(kubernetes.output_limit, Some(700 << 20));
        assert_eq!(kubernetes.max_concurrent_runs, None);
        assert_eq!(kubernetes.isolation.every, 60 * minute);
        assert!(kubernetes.isolation.closed.is_empty() && !kubernetes.allow_unisolated);
    }
}

#[test]
fn everything_can_be_set() {
    let kubernetes = kubernetes_with(
        "
kubernetes:
  namespace: runs
  kubeconfig: /kubeconfig
  context: test
  image: example.org:5000/sextant@sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa
  image_pull_policy: Never
  algorithm_pull_policy: Always
  image_pull_secrets: [one, two]
  data_port: {listen: '[::]:1234', address: node.example.org:30000}
  proxy: {listen: '127.0.0.1:18080', address: proxy.example.org, tmp_size: 2Gi}
  isolation: {every: 10m, closed: ['10.0.0.7:5432', files.example.org:443]}
  allow_unisolated: true
  deadline: 1h30m
  keep_finished: 0s
  pending_timeout: 90s
  image_pull_timeout: 1d
  retry_disrupted: 2
  output_limit: 1.5Gi
  max_concurrent_runs: 4
  node_selector: {kubernetes.io/arch: amd64}
  tolerations:
  - {key: gpu, operator: Exists, effect: NoSchedule}
  labels: {team: data}
  annotations: {example.org/note: any text at all}
",
    );
    assert_eq!(kubernetes.namespace, "runs");
    assert_eq!(kubernetes.kubeconfig.as_deref(), Some(Path::new("/kubeconfig")));
    assert_eq!(kubernetes.context.as_deref(), Some("test"));
    assert_eq!(
        kubernetes.image,
        "example.org:5000/sextant@sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa"
    );
    assert_eq!(kubernetes.image_pull_policy, Some(ImagePullPolicy::Never));
    assert_eq!(kubernetes.algorithm_pull_policy, Some(ImagePullPolicy::Always));
    assert_eq!(kubernetes.image_pull_secrets, ["one", "two"]);
    assert_eq!(kubernetes.data_port.listen.to_string(), "[::]:1234");
    assert_eq!(kubernetes.data_port.address.as_deref(), Some("node.example.org:30000"));
    assert_eq!(kubernetes.isolation.every, Duration::from_secs(600));
    assert_eq!(kubernetes.isolation.closed, ["10.0.0.7:5432", "files.example.org:443"]);
    assert!(kubernetes.allow_unisolated);
    assert_eq!(kubernetes.proxy.listen.to_string(), "127.0.0.1:18080");
    assert_eq!(kubernetes.proxy.address.as_deref(), Some("proxy.example.org"));
    assert_eq!(kubernetes.proxy.tmp_size, 2 << 30);
    assert_eq!(kubernetes.deadline, Duration::from_secs(5400));
    assert_eq!(kubernetes.keep_finished, Duration::ZERO);
    assert_eq!(kubernetes.pending_timeout, Duration::from_secs(90));
    assert_eq!(kubernetes.image_pull_timeout, Duration::from_secs(86400));
    assert_eq!(kubernetes.retry_disrupted, 2);
    assert_eq!(kubernetes.output_limit, Some(3 << 29));
    assert_eq!(kubernetes.max_concurrent_runs.unwrap().get(), 4);
    assert_eq!(kubernetes.node_selector["kubernetes.io/arch"], "amd64");
    assert_eq!(kubernetes.tolerations[0].operator.as_deref(), Some("Exists"));
    assert_eq!(kubernetes.labels["team"], "data");
    assert_eq!(kubernetes.annotations["example.org/note"], "any text at all");
}

#[test]
fn no_output_is_larger_than_the_disk_that_an_algorithm_may_use_or_than_what_servers_can_store() {
    for (yaml, limit) in [
        ("{resources: {limits: {ephemeral-storage: 2Gi}}}", Some(700 << 20)),
        ("{resources: {limits: {ephemeral-storage: 200Mi}}}", Some(200 << 20)),
        ("{resources: {limits: {ephemeral-storage: 2Gi}}, output_limit: 3Gi}", Some(3 << 30)),
        ("{resources: {limits: {ephemeral-storage: null}}}", Some(700 << 20)),
        ("{scratch: {size: 5Gi}}", Some(700 << 20)),
        ("{scratch: {size: 500Mi}}", Some(500 << 20)),
        ("{scratch: {size: 5Gi}, output_limit: 1Gi}", Some(1 << 30)),
    ] {
        assert_eq!(kubernetes_with(&format!("kubernetes: {yaml}")).output_limit, limit, "{yaml}");
    }
}

#[test]
fn a_run_may_have_a_volume_of_its_own() {
    assert_eq!(kubernetes_with("kubernetes: {}").scratch, None);
    for (yaml, class, size, bytes) in [
        ("{size: 10Gi}", None, "10Gi", 10 << 30),
        ("{size: 1.5Gi, storage_class: fast.example.org}", Some("fast.example.org"), "1.5Gi", 3 << 29),
        ("{size: 1000000}", None, "1000000", 1_000_000),
    ] {
        let scratch = kubernetes_with(&format!("kubernetes: {{scratch: {yaml}}}")).scratch.unwrap();
        assert_eq!((scratch.storage_class.as_deref(), scratch.size.0.as_str(), scratch.bytes), (class, size, bytes));
    }
    for (yaml, words) in [
        ("{}", "`kubernetes.scratch.size` is missing"),
        ("{storage_class: fast}", "`kubernetes.scratch.size` is missing"),
        ("{size: much}", "`kubernetes.scratch.size`: found a text (not shown)"),
        ("{size: 0}", "`kubernetes.scratch.size`: found `0`"),
        ("{size: 1Gi, storage_class: Fast one}", "`kubernetes.scratch.storage_class`: found `Fast one`"),
        ("{size: 1Gi, class: fast}", "`kubernetes.scratch.class`"),
        ("10Gi", "`kubernetes.scratch`: found a single value"),
    ] {
        let said = mistakes(&format!("{LEAST}kubernetes:\n  scratch: {yaml}")).join("\n");
        assert!(said.contains(words), "{yaml}: {said}");
    }
}

#[test]
fn databases_may_be_in_any_volume() {
    let table = [
        ("{persistentVolumeClaim: {claimName: registry, readOnly: true}, path: a/b.csv}", "persistentVolumeClaim"),
        ("{nfs: {server: files.example.org, path: /exports}, path: b.csv}", "nfs"),
        ("{csi: {driver: example.org, volumeAttributes: {a: b}}, path: b.csv}", "csi"),
        ("{configMap: {name: a, items: [{key: k, path: b.csv, mode: 0440}]}, path: b.csv}", "configMap"),
        ("{secret: {secretName: a, defaultMode: 0400}, path: b.csv}", "secret"),
        ("{hostPath: {path: /data, type: Directory}, path: b.csv}", "hostPath"),
        ("{image: {reference: example.org/data:1}, path: b.csv}", "image"),
    ];
    for (volume, kind) in table {
        let text = format!("databases: [{{label: a, type: csv}}]\nkubernetes: {{databases: {{a: {volume}}}}}");
        let config = with(&text);
        let kubernetes = config.kubernetes().unwrap();
        let database = kubernetes.databases["a"].volume.as_ref().unwrap();
        assert_eq!(database.source.kind(), kind);
        assert_eq!(database.source.named("db-a").name, "db-a");
        // Without a `uri`, the path in the volume names the database.
        assert_eq!(Some(&config.databases[0].uri), database.path.as_ref());
    }
    let kubernetes = kubernetes_with(
        "databases: [{label: a, type: csv}]\nkubernetes: {databases: {a: {secret: {secretName: s, defaultMode: 0400}, path: p}}}",
    );
    let volume = kubernetes.databases["a"].volume.as_ref().unwrap().source.named("a");
    assert_eq!(volume.secret.unwrap().default_mode, Some(0o400));
}

#[test]
fn databases_may_be_on_the_network() {
    let config = with(
        "
databases:
- {label: a, type: sql, uri: 'postgresql://u:p@db.example.org:5432/x'}
- {label: b, type: csv}
- {label: c, type: sql, uri: 'postgresql://u:p@10.0.0.9:5432/x'}
kubernetes:
  databases:
    a: {egress: [{cidr: 10.1.2.3, port: 5432, host: db.example.org}, {cidr: 10.1.3.0/24, ports: [5432, 5433]}]}
    b: {nfs: {server: s, path: /}, path: p, egress: [{cidr: fd00::/8, port: '80'}]}
",
    );
    let databases = &config.kubernetes().unwrap().databases;
    assert_eq!(databases["a"].volume, None);
    let told = |label: &str| {
        let ways = databases[label].egress.iter();
        ways.map(|way| format!("{} {:?} {:?}", way.cidr, way.ports, way.host)).collect::<Vec<_>>()
    };
    assert_eq!(told("a"), ["10.1.2.3/32 [5432] Some(\"db.example.org\")", "10.1.3.0/24 [5432, 5433] None"]);
    assert_eq!(told("b"), ["fd00::/8 [80] None"]);
    assert!(databases["b"].volume.is_some());
    // Only the one without a way is warned of.
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains("`kubernetes.databases.c.egress`")), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.contains("databases.a")), "{warnings:?}");
}

#[test]
fn pods_meet_baseline_or_restricted() {
    let level = |text: &str| kubernetes_with(&format!("kubernetes: {text}")).pod_security;
    assert_eq!(level("{}"), PodSecurity::Baseline);
    assert_eq!(level("{pod_security: baseline}"), PodSecurity::Baseline);
    assert_eq!(level("{pod_security: restricted}"), PodSecurity::Restricted { user: 65532 });
    assert_eq!(level("{pod_security: restricted, run_as_user: 1000}"), PodSecurity::Restricted { user: 1000 });
}

#[test]
fn restricted_pods_have_no_paths_of_the_machine() {
    let text =
        "task_dir: /tasks\ndatabases: [{label: a, uri: /data, type: folder}]\nkubernetes: {pod_security: restricted}";
    assert_eq!(
        mistakes(&format!("{LEAST}{text}")),
        [
            "3:11: `task_dir`: found `/tasks`, expected no folder of the machine: `kubernetes.pod_security: restricted` allows none. \
             Take it out, or name a volume in `kubernetes.tmp`.",
            "4:13: `databases[0]`: found a database that is a path of the machine, expected a volume in `kubernetes.databases`: \
             `kubernetes.pod_security: restricted` allows no paths of machines.",
        ]
    );
}

#[test]
fn a_volume_makes_a_uri_of_any_kind_good() {
    let config = with(
        "databases: [{label: a, uri: 'C:\\a.csv', type: csv}]\nkubernetes: {databases: {a: {nfs: {server: s, path: /}, path: p}}}",
    );
    assert_eq!(config.databases[0].uri, "C:\\a.csv");
}

#[test]
fn the_shared_folder_is_a_volume_or_in_task_dir_or_private() {
    let both = "task_dir: /tasks\nkubernetes: {tmp: {nfs: {server: s, path: /tmp}}}";
    let ignored = "3:1: `task_dir`: has no effect beside `kubernetes.tmp`, which is what algorithms have at /mnt/tmp.";
    assert_eq!(warnings(both), [ignored]);
    let volume = with(both);
    assert!(matches!(volume.tmp(), Tmp::Volume(volume) if volume.kind() == "nfs"));
    assert_eq!(with("task_dir: /tasks").tmp(), Tmp::HostPath(Path::new("/tasks")));
    assert_eq!(with("").tmp(), Tmp::Private);
}

/// Quantities as one line: `cpu 100m, memory 256Mi`.
fn listed(quantities: Option<BTreeMap<String, Quantity>>) -> String {
    let quantities = quantities.unwrap_or_default();
    quantities.iter().map(|(name, quantity)| format!("{name} {}", quantity.0)).collect::<Vec<_>>().join(", ")
}

#[test]
fn resources_are_set_on_top_of_the_defaults() {
    // (under `resources:`, requests, limits)
    let table = [
        ("{}", "cpu 100m, ephemeral-storage 100Mi, memory 256Mi", "ephemeral-storage 10Gi, memory 3840Mi"),
        (
            "{limits: {cpu: 2}}",
            "cpu 100m, ephemeral-storage 100Mi, memory 256Mi",
            "cpu 2, ephemeral-storage 10Gi, memory 3840Mi",
        ),
        ("{limits: {memory: null}}", "cpu 100m, ephemeral-storage 100Mi, memory 256Mi", "ephemeral-storage 10Gi"),
        (
            "{limits: {nvidia.com/gpu: 1}}",
            "cpu 100m, ephemeral-storage 100Mi, memory 256Mi",
            "ephemeral-storage 10Gi, memory 3840Mi, nvidia.com/gpu 1",
        ),
        // A default gives way to what the file says.
        (
            "{limits: {memory: 128Mi}}",
            "cpu 100m, ephemeral-storage 100Mi, memory 128Mi",
            "ephemeral-storage 10Gi, memory 128Mi",
        ),
        (
            "{requests: {memory: 8Gi}}",
            "cpu 100m, ephemeral-storage 100Mi, memory 8Gi",
            "ephemeral-storage 10Gi, memory 8Gi",
        ),
    ];
    for (text, requests, limits) in table {
        let resources = kubernetes_with(&format!("kubernetes: {{resources: {text}}}")).resources;
        assert_eq!(listed(resources.requests), requests, "{text}");
        assert_eq!(listed(resources.limits), limits, "{text}");
    }
}

#[test]
fn our_own_containers_have_limits_where_the_algorithm_has_some() {
    // (under `kubernetes:`, requests, limits)
    let table = [
        ("{}", "cpu 10m, ephemeral-storage 32Mi, memory 64Mi", "ephemeral-storage 32Mi, memory 64Mi"),
        (
            "{resources: {limits: {cpu: 2, nvidia.com/gpu: 1}}}",
            "cpu 100m, ephemeral-storage 32Mi, memory 64Mi",
            "cpu 100m, ephemeral-storage 32Mi, memory 64Mi",
        ),
        (
            "{resources: {limits: {ephemeral-storage: null}}}",
            "cpu 10m, ephemeral-storage 32Mi, memory 64Mi",
            "memory 64Mi",
        ),
        (
            "{resources: {limits: {ephemeral-storage: null}, requests: {ephemeral-storage: null}}}",
            "cpu 10m, memory 64Mi",
            "memory 64Mi",
        ),
        // What the file says has the last word.
        (
            "{helper_resources: {requests: {cpu: 50m}}}",
            "cpu 50m, ephemeral-storage 32Mi, memory 64Mi",
            "ephemeral-storage 32Mi, memory 64Mi",
        ),
        (
            "{helper_resources: {limits: {cpu: 200m, memory: 128Mi}}}",
            "cpu 200m, ephemeral-storage 32Mi, memory 128Mi",
            "cpu 200m, ephemeral-storage 32Mi, memory 128Mi",
        ),
        (
            "{helper_resources: {limits: {cpu: 200m}, requests: {cpu: 20m, memory: 32Mi}}}",
            "cpu 20m, ephemeral-storage 32Mi, memory 32Mi",
            "cpu 200m, ephemeral-storage 32Mi, memory 64Mi",
        ),
        (
            "{resources: {limits: {cpu: 2}}, helper_resources: {limits: {cpu: null, memory: null}}}",
            "cpu 100m, ephemeral-storage 32Mi, memory 64Mi",
            "ephemeral-storage 32Mi",
        ),
    ];
    for (text, requests, limits) in table {
        let resources = kubernetes_with(&format!("kubernetes: {text}")).helper_resources;
        assert_eq!(listed(resources.requests), requests, "{text}");
        assert_eq!(listed(resources.limits), limits, "{text}");
    }
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    const VOLUME: &str = "expected one volume of Kubernetes, like `persistentVolumeClaim: {claimName: data}`.";
    const TIME: &str =
        "expected a time like `30s`, `10m` or `7d`, from `1s` to `3650d`. Write a number with its unit: s, m, h or d.";
    let time = |found: &str| format!("4:13: `kubernetes.deadline`: found {found}, {TIME}");
    let volume = |at: &str, found: &str| format!("{at}: `kubernetes.tmp`: found {found}, {VOLUME}");
    let table: &[(&str, &[&str])] = &[
        ("namespce: a", &["4:3: `kubernetes.namespce`: there is no such setting. Did you mean `namespace`?"]),
        (
            "namespace: A",
            &[
                "4:14: `kubernetes.namespace`: found `A`, expected the name of a namespace: small letters, digits and `-`, at most 63.",
            ],
        ),
        (
            "image: a b",
            &[
                "4:10: `kubernetes.image`: found `a b`, expected a container image, like `registry.example.org/sextant:1.0`. \
                 No image can have this name: 'a b' can't be a repository's name: expected lower-case letters and digits, with '.', '_', '__' or '-' between them, and '/'.",
            ],
        ),
        (
            "image_pull_policy: always",
            &[
                "4:22: `kubernetes.image_pull_policy`: found `always`, expected one of `Always`, `IfNotPresent` or `Never`. Did you mean `Always`?",
            ],
        ),
        ("deadline: 10", &[&time("`10`")]),
        ("deadline: 0s", &[&time("`0s`")]),
        ("deadline: -1h", &[&time("`-1h`")]),
        ("deadline: 1 month", &[&time("a text (not shown)")]),
        ("deadline: 20000d", &[&time("`20000d`")]),
        (
            "max_concurrent_runs: 0",
            &[
                "4:24: `kubernetes.max_concurrent_runs`: found `0`, expected a whole number from 1 on. Take it out if there should be no limit.",
            ],
        ),
        (
            "data_port: {listen: 70000}",
            &[
                "4:23: `kubernetes.data_port.listen`: found `70000`, expected an IP address with a port, like `0.0.0.0:7654`, or a port.",
            ],
        ),
        (
            "proxy: {listen: http}",
            &[
                "4:19: `kubernetes.proxy.listen`: found a text (not shown), expected an IP address with a port, like `0.0.0.0:8080`, or a port.",
            ],
        ),
        (
            "proxy: {tmp_size: much}",
            &[
                "4:21: `kubernetes.proxy.tmp_size`: found a text (not shown), expected a size like `500M` or `2Gi`. Take it out for `4Gi`.",
            ],
        ),
        (
            "data_port: {address: 'https://a'}",
            &[
                "4:24: `kubernetes.data_port.address`: found `https://a`, expected a host name or an IP address that pods can reach, with or without a port. Write it without `https://`.",
            ],
        ),
        (
            "data_port: {address: '[2001:db8::2]'}",
            &[
                "4:24: `kubernetes.data_port.address`: found `[2001:db8::2]`, expected a host name or an IP address that pods can reach, with or without a port. Without a port it is written without brackets, `2001:db8::2`; with one, `[2001:db8::2]:7654`.",
            ],
        ),
        (
            "proxy: {address: '2001:db8:0:0:0:0:0:2:80'}",
            &[
                "4:20: `kubernetes.proxy.address`: found `2001:db8:0:0:0:0:0:2:80`, expected a host name or an IP address that pods can reach, with or without a port. An IPv6 address with a port has brackets, like `[2001:db8::2]:80`.",
            ],
        ),
        (
            "data_port: {listen: '2001:db8::2'}",
            &[
                "4:23: `kubernetes.data_port.listen`: found `2001:db8::2`, expected an IP address with a port, like `0.0.0.0:7654`, or a port. An IPv6 address with a port has brackets, like `[2001:db8::2]:7654`.",
            ],
        ),
        ("tmp: {nfss: {}}", &["4:9: `kubernetes.tmp.nfss`: there is no such setting. Did you mean `nfs`?"]),
        (
            "tmp: {nfs: {server: a, pth: /}}",
            &[
                "4:8: `kubernetes.tmp.nfs.path` is missing, expected what Kubernetes calls by that name.",
                "4:26: `kubernetes.tmp.nfs.pth`: there is no such setting. Did you mean `path`?",
            ],
        ),
        (
            "tmp: {emptyDir: {sizeLimit: much}}",
            &[
                "4:31: `kubernetes.tmp.emptyDir.sizeLimit`: found a text (not shown), expected a quantity like `500m`, `2` or `4Gi`.",
            ],
        ),
        (
            "tmp: {persistentVolumeClaim: {claimName: a, readOnly: maybe}}",
            &[
                "4:57: `kubernetes.tmp.persistentVolumeClaim.readOnly`: found a text (not shown), expected true or false. Write it without quotes.",
            ],
        ),
        ("tmp: {}", &[&volume("4:8", "none")]),
        ("tmp: a", &[&volume("4:8", "`a`")]),
        ("tmp: {nfs: {}, emptyDir: {}}", &[&volume("4:8", "`nfs` and `emptyDir`")]),
        (
            "tolerations:\n  - operater: Exists",
            &["5:5: `kubernetes.tolerations[0].operater`: there is no such setting. Did you mean `operator`?"],
        ),
        (
            "tolerations: [{tolerationSeconds: soon}]",
            &[
                "4:37: `kubernetes.tolerations[0].tolerationSeconds`: found a text (not shown), expected a whole number.",
            ],
        ),
        (
            "resources: {limits: {memory: 4GB}}",
            &[
                "4:32: `kubernetes.resources.limits.memory`: found `4GB`, expected a quantity like `500m`, `2` or `4Gi`.",
            ],
        ),
        (
            "resources: {limits: {gpu: 1}}",
            &[
                "4:24: `kubernetes.resources.limits.gpu`: there is no such resource, expected `cpu`, `memory` or `ephemeral-storage`. Did you mean `cpu`?",
            ],
        ),
        (
            "resources: {requests: {memory: 5Gi}, limits: {memory: 4Gi}}",
            &["4:34: `kubernetes.resources.requests.memory`: found `5Gi`, expected no more than the limit, `4Gi`."],
        ),
        (
            "helper_resources: {limits: {cpu: 0}}",
            &[
                "4:36: `kubernetes.helper_resources.limits.cpu`: found `0`, expected a quantity above zero. Kubernetes takes zero for no limit at all. Write `null` if there is to be none.",
            ],
        ),
        (
            "helper_resources: {requests: {memory: 1Gi}, limits: {memory: 64Mi}}",
            &[
                "4:41: `kubernetes.helper_resources.requests.memory`: found `1Gi`, expected no more than the limit, `64Mi`.",
            ],
        ),
        (
            "labels: {a b: c}",
            &[
                "4:12: `kubernetes.labels.a b`: found a name that Kubernetes does not take, expected letters, digits, `-`, `_` and `.`, at most 63, with or without a domain and `/` before.",
            ],
        ),
        (
            "pod_security: privileged",
            &["4:17: `kubernetes.pod_security`: found a text (not shown), expected one of `baseline` or `restricted`."],
        ),
        (
            "run_as_user: 0",
            &[
                "4:16: `kubernetes.run_as_user`: found `0`, expected the number of a user other than root, from 1 to 2147483647.",
            ],
        ),
        (
            "run_as_user: 1000",
            &[
                "4:16: `kubernetes.run_as_user`: found `1000`, expected none. It belongs to `pod_security: restricted`; otherwise images choose their user.",
            ],
        ),
        (
            "databases: {b: {nfs: {server: s, path: /}, path: p}}",
            &[
                "4:15: `kubernetes.databases.b`: there is no database of this label, expected one of `databases`. Add it to `databases`, or take it out here.",
            ],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(mistakes(&format!("{LEAST}kubernetes:\n  {text}")), *expected, "{text}");
    }
}

#[test]
fn ways_out_must_be_exact() {
    let table = [
        (
            "{cidr: 10.1.2.3/24, port: 1}",
            "`kubernetes.databases.a.egress[0].cidr`: found `10.1.2.3/24`, expected a range of IP addresses, like `10.1.2.3/32`. Did you mean `10.1.2.0/24`?",
        ),
        (
            "{cidr: db.example.org, port: 1}",
            "`kubernetes.databases.a.egress[0].cidr`: found `db.example.org`, expected a range of IP addresses, like `10.1.2.3/32`.",
        ),
        (
            "{cidr: 10.1.2.3}",
            "`kubernetes.databases.a.egress[0].port` is missing, expected the TCP port that the database listens at.",
        ),
        (
            "{cidr: 10.1.2.3, port: 0}",
            "`kubernetes.databases.a.egress[0].port`: found `0`, expected a port from 1 to 65535.",
        ),
        (
            "{cidr: 10.1.2.0/24, port: 1, host: db}",
            "`kubernetes.databases.a.egress[0].host`: found `db`, expected no name for a whole range. Give the host a way of its own, with its address as `cidr`.",
        ),
        (
            "{cidr: 10.1.2.3, prot: 1, port: 1}",
            "`kubernetes.databases.a.egress[0].prot`: there is no such setting. Did you mean `port`?",
        ),
    ];
    for (way, expected) in table {
        let text = format!(
            "databases: [{{label: a, uri: 'x:y', type: sql}}]\nkubernetes: {{databases: {{a: {{egress: [{way}]}}}}}}"
        );
        let found = mistakes(&format!("{LEAST}{text}"));
        assert!(found.iter().any(|mistake| mistake.ends_with(expected)), "{way}: {found:?}");
    }
    let text = "databases: [{label: a_, uri: 'x:y', type: sql}]\nkubernetes: {databases: {a_: {egress: [{cidr: 10.0.0.1, port: 1}]}}}";
    assert!(mistakes(&format!("{LEAST}{text}"))[0].contains("underscore"));
}

#[test]
fn paths_in_volumes_must_be_given_and_must_not_lead_out() {
    for (path, place) in [("/a", "4:73"), ("../a", "4:73"), ("a/../../b", "4:73"), ("/", "4:73")] {
        let text = format!(
            "databases: [{{label: a, type: csv}}]\nkubernetes: {{databases: {{a: {{nfs: {{server: example.org, path: /}}, path: {path}}}}}}}"
        );
        let expected = format!(
            "{place}: `kubernetes.databases.a.path`: found `{path}`, expected a path in the volume, without `/` at its beginning and without `..`."
        );
        assert!(mistakes(&format!("{LEAST}{text}")).contains(&expected), "{:?}", mistakes(&format!("{LEAST}{text}")));
    }
    let text = "databases: [{label: a, uri: x, type: csv}]\nkubernetes: {databases: {a: {nfs: {server: s, path: /}}}}";
    assert_eq!(
        mistakes(&format!("{LEAST}{text}")),
        [
            "3:13: `databases[0]`: found a csv database in a volume, expected to be told which file. Add `path: …` to `kubernetes.databases.a`."
        ]
    );
}
