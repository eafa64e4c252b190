//! Files of regular nodes: accepted as they are, and nothing in them is passed over in silence.

use std::path::Path;

use sextant_config::{Config, DatabaseType, LogLevel, RuntimeConfig};
use sextant_core::policies::Combination;

use crate::{LEAST, mistakes, parse, warnings, with};

/// What the regular node's template of 4.5 gives, filled in.
const TEMPLATE_4_5: &str = "\
api_key: 8a1b0c0e-0b1d-4c52-a6a5-6f0a4a2f1a11
api_path: /api
databases:
  
  - label: default
    uri: /data/people.csv
    type: csv
  
encryption:
  enabled: false
  private_key: null
logging:
  backup_count: 5
  datefmt: '%Y-%m-%d %H:%M:%S'
  file: node_a.log
  format: '%(asctime)s - %(name)-14s - %(levelname)-8s - %(message)s'
  level: DEBUG
  max_size: 1024
  use_console: true
port: 7601
server_url: http://localhost
task_dir: /var/lib/vantage6/node_a

";

/// What its questionnaire writes: sorted keys, the port in quotes, and an empty path for no private key.
const QUESTIONNAIRE: &str = "\
api_key: 8a1b0c0e-0b1d-4c52-a6a5-6f0a4a2f1a11
api_path: ''
databases:
- label: default
  type: parquet
  uri: /data/people.parquet
encryption:
  enabled: false
  private_key: ''
logging:
  level: NOTSET
  loggers:
  - level: warning
    name: urllib3
policies:
  allowed_algorithms:
  - ^harbor2\\.vantage6\\.ai/demo/average$
port: '443'
server_url: https://server.example.org
task_dir: /var/lib/vantage6/node_b
";

#[test]
fn the_template_is_accepted() {
    let config = parse(TEMPLATE_4_5).unwrap();
    assert_eq!(config.api_url(), "http://localhost:7601/api");
    assert_eq!(config.base_url(), "http://localhost:7601");
    assert_eq!(config.logging.level, LogLevel::Debug);
    assert_eq!(config.task_dir.as_deref(), Some(Path::new("/var/lib/vantage6/node_a")));
    assert!(!config.encryption.enabled);
    assert_eq!(config.encryption.private_key, None);
    assert!(config.share_config && config.share_algorithm_logs);
    assert!(matches!(config.runtime, RuntimeConfig::Kubernetes(_)));
    let [database] = config.databases.as_slice() else { panic!("one database") };
    assert_eq!((database.label.as_str(), database.uri.as_str()), ("default", "/data/people.csv"));
    assert_eq!(database.kind, DatabaseType::Csv);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "node.yaml: no policies on allowed algorithms have been set! Every algorithm may run on this node. List the ones that you \
             trust in `policies.allowed_algorithms`.",
            "node.yaml:12:1: `logging`: `file`, `use_console`, `backup_count`, `max_size`, `format` and `datefmt` have no effect: \
             Sextant logs to standard error, in its own format.",
        ]
    );
}

#[test]
fn what_the_questionnaire_writes_is_accepted() {
    let config = parse(QUESTIONNAIRE).unwrap();
    assert_eq!(config.api_url(), "https://server.example.org:443");
    assert_eq!(config.encryption.private_key, None);
    assert_eq!(config.logging.level, LogLevel::NotSet);
    let policies = &config.policies;
    assert!(policies.allowed_algorithms[0].allows("harbor2.vantage6.ai/demo/average"));
    assert!(policies.allow_basics_algorithm);
}

#[test]
fn addresses_are_joined_as_a_regular_node_does() {
    let table = [
        ("server_url: https://a.org\nport: 443\napi_path: /api", "https://a.org:443/api"),
        ("server_url: https://a.org\napi_path: ''", "https://a.org"),
        ("server_url: https://a.org\nport: null", "https://a.org/api"),
        ("server_url: https://a.org\nport: 0", "https://a.org/api"),
        ("server_url: https://a.org\nport: ''", "https://a.org/api"),
        // Where a regular node would get lost, the meaning is clear.
        ("server_url: https://a.org/\nport: 443\napi_path: api/", "https://a.org:443/api"),
        ("server_url: https://a.org:8443", "https://a.org:8443/api"),
        ("server_url: https://a.org:443\nport: 443", "https://a.org:443/api"),
        ("server_url: https://a.org/v6", "https://a.org/v6/api"),
        ("server_url: 'http://[::1]'\nport: 5000", "http://[::1]:5000/api"),
    ];
    for (text, expected) in table {
        let config = parse(&format!("{text}\napi_key: k")).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.api_url(), expected, "{text}");
    }
}

#[test]
fn settings_without_meaning_are_named() {
    let table = [
        "ssh-tunnels: [{hostname: db}]",
        "whitelist: {domains: [example.org]}",
        "images: {node: example.org/node}",
        "alpine: example.org/alpine",
        "node_extra_env: {A: b}",
        "node_extra_mounts: ['/a:/b']",
        "node_extra_hosts: {a: 1.2.3.4}",
        "directories: {log: /var/log}",
        "debug: {socketio: true}",
    ];
    for text in table {
        let key = text.split(':').next().unwrap();
        let said = warnings(text);
        let [said] = said.as_slice() else { panic!("{text}: {said:?}") };
        assert!(said.starts_with(&format!("3:1: `{key}`: has no effect here: ")), "{said}");
    }
}

#[test]
fn the_machines_figures_are_reported_where_that_is_asked_for() {
    let seconds = |text: &str| with(text).report_metrics.map(|interval| interval.as_secs());
    for (text, expected) in [
        ("debug: {}", None),
        ("prometheus:", None),
        ("prometheus: {}", None),
        ("prometheus: {enabled: false, report_interval_seconds: 10}", None),
        ("prometheus: {enabled: true}", Some(45)),
        ("prometheus: {enabled: true, report_interval_seconds: 10}", Some(10)),
    ] {
        assert_eq!(seconds(text), expected, "{text}");
        assert!(warnings(text).is_empty(), "{text}");
    }
    for wrong in ["0", "-1", "86401", "4.5", "often", "[1]"] {
        let text = format!("prometheus: {{enabled: true, report_interval_seconds: {wrong}}}");
        let error = mistakes(&format!("{LEAST}{text}")).concat();
        assert!(error.contains("`prometheus.report_interval_seconds`") && error.contains("from 1 to 86400"), "{error}");
    }
    for wrong in ["prometheus: true", "prometheus: {enabled: perhaps}"] {
        assert_eq!(mistakes(&format!("{LEAST}{wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn settings_that_ask_for_nothing_are_not_worth_a_word() {
    let table = [
        "vpn_subnet: ''",
        "ssh-tunnels: []",
        "algorithm_device_requests: {gpu: false}",
        "algorithm_device_requests: {gpu: true}",
        "algorithm_device_requests: {}",
        "docker_services: {}",
        "docker_services: {redis: cache}\nkubernetes: {services: {redis: {namespace: tools, name: cache, port: 6379}}}",
        "algorithm_device_requests: {gpu: true}\nkubernetes: {gpu: {count: 2}, resources: {limits: {nvidia.com/gpu: 2}}}",
        "debug: {socketio: false, proxy_server: false}",
        "prometheus: {enabled: false, report_interval_seconds: 45}",
        "run_context_file: false",
        "run_context_file: true\ndatabases: [{label: a, uri: /a.csv, type: csv}]",
        "run_context_file: true\ndatabases: [{label: a, uri: b.sqlite, type: sql}]\n\
         kubernetes: {databases: {a: {persistentVolumeClaim: {claimName: c}, path: b.sqlite}}}",
        "policies: {allow_either_whitelist_or_store: false, require_algorithm_pull: false}",
        "databases: []",
        "databases: [{label: a, uri: /a.csv, type: csv, mount_mode: ro}]",
        "databases: [{label: a, uri: /a, type: folder, mount_mode: RO}]",
        "algorithm_env:",
    ];
    for text in table {
        assert_eq!(warnings(text), [""; 0], "{text}");
    }
}

#[test]
fn other_oddities_are_told_with_their_place() {
    let table = [
        ("extra: 1", "3:1: `extra`: there is no such setting, it has no effect. Take it out, or check its spelling."),
        ("databse: []", "3:1: `databse`: there is no such setting, it has no effect. Did you mean `databases`?"),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, mod: ro}",
            "4:38: `databases[0].mod`: there is no such setting, it has no effect. Take it out, or check its spelling.",
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, mount_mode: copy}",
            "4:38: `databases[0].mount_mode`: gives no writable copy here: algorithms get the data itself, read-only, at the same path. Those that write do so in /mnt/tmp (`TEMPORARY_FOLDER`).",
        ),
        (
            "databases:\n- {label: a, uri: /a, type: folder, mount_mode: copy}",
            "4:37: `databases[0].mount_mode`: gives no writable copy here: algorithms get the data itself, read-only, at the same path. Those that write do so in /mnt/tmp (`TEMPORARY_FOLDER`).",
        ),
        (
            "databases:\n- {label: a, uri: 'https://a.example/x', type: other, mount_mode: ro}\nkubernetes: {databases: {a: {egress: [{cidr: 10.0.0.1, port: 9200}]}}}",
            "4:55: `databases[0].mount_mode`: has no effect: the database is an address, of which nothing is mounted. (A regular node refuses it.)",
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, mount_mode: ro}\nlocal: {algorithms: {a: b}}",
            "4:38: `databases[0].mount_mode`: has no effect with `local`: algorithms may do with the data what this node's user may. Take the right to write from that user.",
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, mount_mode: Copy}\nlocal: {algorithms: {a: b}}",
            "4:38: `databases[0].mount_mode`: has no effect with `local`: algorithms get the data itself, and may change it if this node's user may.",
        ),
        (
            "databases:\n- {label: a, uri: /a, type: folder}",
            "4:3: `databases[0]`: the folder `a` is read-only for algorithms; on a regular node they may write to it.",
        ),
        (
            "databases:\n- {label: a, uri: 'postgresql://u:p@db/x', type: sql}",
            "4:3: `databases[0]`: `a` is an address, and algorithms reach nothing but vantage6. Say where it is in `kubernetes.databases.a.egress`, so that the runs that ask for it can connect.",
        ),
        (
            "run_context_file: true\ndatabases:\n- {label: a, uri: 'postgresql://db/x', type: sql}\n- {label: b, uri: /b, type: csv}\nkubernetes: {databases: {a: {egress: [{cidr: 10.0.0.1, port: 5432}]}}}",
            "3:1: `run_context_file`: runs that ask for `a` will fail, as at a regular node: with it, algorithms get only databases that are files.",
        ),
        (
            "kubernetes: {gpu: {count: 2}}",
            "3:14: `kubernetes.gpu`: has no effect without `algorithm_device_requests: {gpu: true}`, which gives GPUs to all algorithms.",
        ),
        (
            "algorithm_device_requests: {gpu: yes}\nkubernetes: {resources: {limits: {nvidia.com/gpu: 2}}}",
            "3:1: `algorithm_device_requests`: gives 1 nvidia.com/gpu to each algorithm, but `kubernetes.resources.limits` has another number, which counts. Take one of them out.",
        ),
        (
            "algorithm_env: {HOST: x}",
            "3:17: `algorithm_env.HOST`: replaces what the node tells every algorithm. Take it out unless that is what you want.",
        ),
        (
            "policies: {allowed_users: []}",
            "3:12: `policies.allowed_users`: is empty, which restricts nothing. Take it out, or write what is allowed.",
        ),
        (
            "policies: {allowed_algorithms: [A.org/B], allow_basics_algorithm: false}",
            "3:33: `policies.allowed_algorithms[0]`: is not the name of an image, so it allows none: 'B' can't be a repository's name: expected lower-case letters and digits, with '.', '_', '__' or '-' between them, and '/'.",
        ),
        (
            "policies: {allowed_algorithms: ['a/b:1']}",
            "3:12: `policies.allowed_algorithms`: vantage6's own basics algorithm does not run here, because it is not in `allowed_algorithms`. (Nodes before 4.6 let it in without.) Add `harbor2.vantage6.ai/algorithms/basics` or `ghcr.io/vantage6/algorithm-basics` to let it in, or say `allow_basics_algorithm: false`.",
        ),
        (
            "policies: {allowed_algorithms: ['a/b:1'], allow_basics_algorithm: true}",
            "3:43: `policies.allow_basics_algorithm`: vantage6's own basics algorithm does not run here, because it is not in `allowed_algorithms`. (Nodes before 4.6 let it in without.) Add `harbor2.vantage6.ai/algorithms/basics` or `ghcr.io/vantage6/algorithm-basics` to let it in, or say `allow_basics_algorithm: false`.",
        ),
        (
            "policies: {allowed_algorithm_stores: ['https://store.example.org']}",
            "3:39: `policies.allowed_algorithm_stores[0]`: has no path. Servers since 4.8 know a store by an address with the path of its API, and only the same address is allowed: write `https://store.example.org/api`, unless the server has it without.",
        ),
        (
            "policies: {allowed_algorithm_stores: ['http://store.example.org/api']}",
            "3:39: `policies.allowed_algorithm_stores[0]`: begins with http://. The node asks the store with its token for the vantage6 server, which others on the way can read then, and they can answer in the store's place: use https://.",
        ),
        (
            "policies: {allow_either_whitelist_or_store: true, allowed_algorithm_stores: ['https://store.example.org/api']}",
            "3:12: `policies.allow_either_whitelist_or_store`: has no effect: it needs both `allowed_algorithms` and `allowed_algorithm_stores`. Where one of them is missing, the other decides alone. (A regular node would then allow every algorithm.)",
        ),
        (
            "policies: {require_algorithm_pull: true}\nlocal: {algorithms: {a: b}}",
            "3:12: `policies.require_algorithm_pull`: has no effect here: nothing is pulled; algorithms are the commands in `local.algorithms`.",
        ),
        (
            "task_dir: C:\\tasks",
            "3:1: `task_dir`: has no effect: it is a path of Windows. Take it out, or write one of this system.",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(warnings(text), [expected], "{text}");
    }
}

#[test]
fn unencrypted_connections_are_told_except_to_this_machine() {
    for (url, odd) in [
        ("http://localhost", false),
        ("http://127.0.0.1:80", false),
        ("http://[::1]", false),
        ("https://a.org", false),
        ("http://a.org", true),
        ("http://localhost.a.org", true),
    ] {
        let config = parse(&format!("server_url: '{url}'\napi_key: k\nlocal: {{algorithms: {{a: b}}}}")).unwrap();
        assert_eq!(!config.warnings.is_empty(), odd, "{url}: {:?}", config.warnings);
    }
}

#[test]
fn environment_values_are_those_that_a_regular_node_passes_on() {
    let config = with("algorithm_env: {A: yes, B: 1.50, C: '1.50', D: 017, E: null, F: text}");
    let values: Vec<&str> = config.algorithm_env.values().map(String::as_str).collect();
    assert_eq!(values, ["True", "1.5", "1.50", "15", "None", "text"]);
}

#[test]
fn policies_are_lists_or_single_entries() {
    let config = with(
        "policies: {allowed_algorithms: 'a/b:1', allowed_users: ['2', 3], allowed_organizations: [6, root], allow_basics_algorithm: no}",
    );
    let policies = &config.policies;
    assert!(policies.allowed_algorithms[0].allows("a/b:1"));
    assert_eq!(policies.allowed_users, [2, 3]);
    assert_eq!(policies.allowed_organizations, ["6", "root"]);
    assert!(!policies.allow_basics_algorithm);
}

#[test]
fn policies_on_stores_are_read() {
    let config = with(
        "policies: {allowed_algorithms: a/b, allowed_algorithm_stores: 'https://store.example.org/api', allow_either_whitelist_or_store: yes}",
    );
    assert!(config.policies.allowed_algorithms[0].allows("a/b:1"), "without a tag it is every version");
    assert!(config.policies.allowed_stores[0].allows("https://store.example.org/api"));
    assert_eq!(config.policies.combination, Combination::Either);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for (text, required) in [
        ("", true),
        ("policies: {require_algorithm_pull: yes}", true),
        ("policies: {require_algorithm_pull: no}", false),
    ] {
        assert_eq!(with(text).kubernetes().unwrap().require_pull, required, "{text}");
    }
}

#[test]
fn the_local_runtime_is_not_said_to_keep_anything_from_algorithms() {
    let local = "local: {algorithms: {average: python3}}";
    for (text, expected) in [
        ("ssh-tunnels: [{hostname: h}]", "there are no SSH tunnels; algorithms reach what this machine reaches."),
        (
            "whitelist: {domains: [a]}",
            "nothing is kept from algorithms that run locally; they reach what this machine reaches.",
        ),
        ("docker_services: {a: b}", "no services are started beside algorithms; those that need one will fail."),
        ("algorithm_device_requests: {gpu: true}", "algorithms that run locally find the devices of this machine."),
        (
            "docker_registries: [{registry: r, username: u, password: p}]",
            "nothing is pulled; algorithms are the commands in `local.algorithms`.",
        ),
    ] {
        let key = text.split(':').next().unwrap();
        let expected = format!("3:1: `{key}`: has no effect here: {expected}");
        assert_eq!(warnings(&format!("{text}\n{local}")), [expected], "{text}");
    }
    assert!(warnings(&format!("databases: [{{label: a, uri: /a, type: folder}}]\n{local}")).is_empty());
}

#[test]
fn who_has_said_what_holds_for_the_basics_algorithm_is_not_warned() {
    for text in [
        "policies: {allowed_algorithms: ['a/b:1'], allow_basics_algorithm: false}",
        "policies: {allowed_algorithms: ['a/b:1', ghcr.io/vantage6/algorithm-basics], allow_basics_algorithm: true}",
        "policies: {allowed_algorithms: ['^harbor2\\.vantage6\\.ai/']}",
        "policies: {allow_basics_algorithm: false}",
        "policies: {allowed_users: [2]}",
    ] {
        assert_eq!(warnings(text), [""; 0], "{text}");
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = with("databases:\n- &first\n  label: a\n  uri: /a.csv\n  type: csv\n- <<: *first\n  label: b\n");
    assert_eq!(config.database("b").unwrap().uri, "/a.csv");
}

#[test]
fn certificates_come_from_the_file_the_environment_or_the_regular_nodes_environment() {
    let ca = |text: &str, env: &dyn Fn(&str) -> Option<String>| {
        let text = format!("{}{text}", crate::LEAST);
        Config::parse(&text, Path::new("/etc/sextant/node.yaml"), env).unwrap().ca_certificates
    };
    let none = |_: &str| None;
    let requests = |name: &str| (name == "REQUESTS_CA_BUNDLE").then(|| "/env.pem".to_owned());
    let extra = "node_extra_env: {REQUESTS_CA_BUNDLE: /certs/ca.pem}\n";
    assert_eq!(ca("", &none), None);
    assert_eq!(ca("", &requests).unwrap(), Path::new("/env.pem"));
    assert_eq!(ca("ca_certificates: ca.pem", &requests).unwrap(), Path::new("/etc/sextant/ca.pem"));
    assert_eq!(ca(extra, &requests).unwrap(), Path::new("/env.pem"));
    assert_eq!(ca(extra, &none).unwrap(), Path::new("/certs/ca.pem"));
    let mounted = format!("{extra}node_extra_mounts: ['/home/ada/certs:/certs:ro']");
    assert_eq!(ca(&mounted, &none).unwrap(), Path::new("/home/ada/certs/ca.pem"));
}

#[test]
fn the_health_port_is_open_in_pods_and_where_it_is_asked_for() {
    let in_a_pod = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.96.0.1".to_owned());
    let read = |more: &str, pod: bool| {
        let env: &dyn Fn(&str) -> Option<String> = if pod { &in_a_pod } else { &|_| None };
        let config = Config::parse(&format!("{LEAST}{more}"), Path::new("node.yaml"), env).unwrap();
        config.health_listen.map(|address| address.to_string())
    };
    assert_eq!(read("", false), None);
    assert_eq!(read("", true).as_deref(), Some("[::]:8081"));
    assert_eq!(read("health: {listen: '127.0.0.1:9'}", false).as_deref(), Some("127.0.0.1:9"));
    assert_eq!(read("health: {listen: 9000}", true).as_deref(), Some("[::]:9000"));
    assert_eq!(
        mistakes(&format!("{LEAST}health: {{port: 1}}")),
        ["3:10: `health.port`: there is no such setting. The settings here are `listen`."]
    );
}

#[test]
fn the_proxy_needs_no_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["server_url: https://vantage6.example.org", "server_url: https://vantage6.example.org\napi_key: k\n"] {
        std::fs::write(file.path(), text).unwrap();
        let config = Config::load_for_proxy(file.path()).unwrap();
        assert_eq!(config.api_url(), "https://vantage6.example.org/api");
        assert_eq!(secrecy::ExposeSecret::expose_secret(&config.api_key), "");
    }
}

/// What is missing in the proxy's file is in the node's: as the chart writes it, it has nothing of policies.
#[test]
fn a_proxy_is_warned_of_nothing_that_only_a_node_does() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "server_url: https://vantage6.example.org\nhealth: {listen: '[::]:8081'}\nencryption: {enabled: false}\n\
                kubernetes: {proxy: {tmp_size: 8Gi}}\n";
    std::fs::write(file.path(), text).unwrap();
    assert_eq!(Config::load_for_proxy(file.path()).unwrap().warnings, []);
    std::fs::write(file.path(), format!("{text}api_key: k\n")).unwrap();
    let warnings = Config::load(file.path()).unwrap().warnings;
    assert!(
        warnings.iter().any(|warning| warning.message.contains("no policies on allowed algorithms")),
        "{warnings:?}"
    );
}

/// One sentence, instead of one for each of their settings.
#[test]
fn files_of_version_5_are_known_as_such() {
    for text in [
        // The chart's values, as `v6 node new` writes them.
        "node:\n  name: a\n  apiKey: k\n  hq: {url: 'https://hq.example', port: 443, path: /hq}\n  keycloak: {url: 'https://auth.example', \
         realm: vantage6}\n  databases:\n    fileBased: [{name: a, uri: /a.csv, type: csv}]\n  policies: {allowed_algorithms: [a]}\n",
        "node:\n  apiKey: k\n  server: {url: 'https://a.example', port: 7601, path: /server}\n",
        "node: {policies: {allowed_algorithms: [a]}}\n",
        "node: {databases: {serviceBased: []}}\nserver_url: https://a.example\n",
        "server: {url: 'https://a.example'}\napiKey: k\n",
        "apiKey: k\nhub: {url: 'https://a.example'}\n",
        "apiKey: k\n",
        "databases: {fileBased: [{name: a, uri: /a.csv, type: csv}]}\n",
        // What the node itself reads.
        "hq_url: https://hq.example\nport: 443\napi_path: /hq\ndatabases: []\n",
        "server_url: https://a.example\napi_key: k\nkeycloak: {url: 'https://auth.example'}\n",
        "server_url: https://a.example\napi_key: k\nkeycloak_realm: vantage6\n",
        "server_url: https://a.example\napi_key: k\nprivate_docker_registries: []\n",
    ] {
        let said = mistakes(text);
        assert_eq!(said.len(), 1, "{text}: {said:#?}");
        assert!(said[0].contains("layout of vantage6 5") && said[0].contains("`server_url`"), "{text}: {said:#?}");
    }
    // A slip of the finger is told as one.
    let slip = mistakes("server_url: https://a.example\napiKey: k\n");
    assert!(slip[0].contains("`api_key` is missing"), "{slip:#?}");
}

#[test]
fn an_address_of_ipv6_stands_in_brackets() {
    for (written, right) in [
        ("https://2001:db8::5", "https://[2001:db8::5]"),
        ("https://2001:db8::5/", "https://[2001:db8::5]"),
        ("http://::1", "http://[::1]"),
        ("https://2001:db8:0:0:0:0:0:5/hub", "https://[2001:db8:0:0:0:0:0:5]/hub"),
        ("2001:db8::5", "https://[2001:db8::5]"),
        ("https://[2001:db8::5", "https://[2001:db8::5]"),
    ] {
        let said = mistakes(&format!("server_url: '{written}'\napi_key: k\n"));
        assert!(said.len() == 1 && said[0].contains(&format!("brackets: `{right}`")), "{written}: {said:#?}");
    }
    for right in ["https://[2001:db8::5]", "https://[2001:db8::5]:5000/hub", "http://[::1]"] {
        Config::parse(&format!("server_url: '{right}'\napi_key: k\n"), Path::new("node.yaml"), &|_| None).unwrap();
    }
}
