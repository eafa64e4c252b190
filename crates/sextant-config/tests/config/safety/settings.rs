//! Other settings that open more than their writer says, and YAML that a regular node reads in another way.

use super::Verdict::{Refused, Silent, Warned};
use super::egress::egress;
use super::judge;
use crate::{LEAST, parse};

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
        ("010.0.0.7", Refused("four numbers from 0 to 255")),
        ("10.7:5000", Refused("four numbers from 0 to 255")),
        ("10.0.0.7", Silent),
        ("'[fd00::7]:5000'", Silent),
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
fn settings_that_open_more_than_their_writer_says() {
    for (more, subject, expected) in [
        ("kubernetes: {isolation: {every: 3650d}}", "isolation", Warned("longer than a day")),
        ("kubernetes: {isolation: {every: 24h}}", "isolation", Silent),
        ("kubernetes: {isolation: {closed: []}}", "isolation", Warned("is empty")),
        ("kubernetes: {allow_unisolated: true}", "allow_unisolated", Warned("send data anywhere")),
        ("kubernetes: {allow_unisolated: false}", "allow_unisolated", Silent),
        ("kubernetes: {namespace: kube-system}", "namespace", Refused("of Kubernetes itself")),
        ("kubernetes: {namespace: openshift-etcd}", "namespace", Refused("of OpenShift itself")),
        ("kubernetes: {namespace: kube-public}", "namespace", Refused("of Kubernetes itself")),
        ("kubernetes: {namespace: default}", "namespace", Warned("other things than runs")),
        ("kubernetes: {namespace: argocd}", "namespace", Warned("other things than runs")),
        ("kubernetes: {namespace: istio-system}", "namespace", Warned("other things than runs")),
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

#[test]
fn addresses_that_programs_read_in_another_way_than_people() {
    const PLAIN: &str = "four numbers from 0 to 255";
    // Eight is the first number of the first; the second is 10.0.0.7, and the others 10.1.2.3 or none.
    for host in ["010.0.0.7", "10.7", "10.1.2.03", "167838211", "0x0a010203", "10.1.2.0x3", "10.1.2.256"] {
        judge(&format!("kubernetes: {{isolation: {{closed: ['{host}:5432']}}}}"), "closed", Refused(PLAIN));
        for setting in ["data_port", "proxy"] {
            judge(&format!("kubernetes: {{{setting}: {{address: '{host}'}}}}"), setting, Refused(PLAIN));
            judge(&format!("kubernetes: {{{setting}: {{address: '{host}:5432'}}}}"), setting, Refused(PLAIN));
        }
        egress(&format!("cidr: 10.1.2.3, port: 5432, host: '{host}'"), Refused("is an address"));
        egress(&format!("cidr: '{host}', port: 5432"), Refused("a range of IP addresses"));
    }
    for host in ["10.1.2.3", "db.example.org", "db-7", "10.example.org", "[fd00::7]"] {
        judge(&format!("kubernetes: {{isolation: {{closed: ['{host}:5432']}}}}"), "closed", Silent);
        judge(&format!("kubernetes: {{data_port: {{address: '{host}:5432'}}}}"), "data_port", Silent);
    }
    for (url, expected) in [
        ("https://010.0.0.7", Some("connect to `8.0.0.7`")),
        ("https://010.0.0.7:443/api", Some("connect to `8.0.0.7`")),
        ("https://10.7", Some("connect to `10.0.0.7`")),
        ("https://0x0a000007", Some("connect to `10.0.0.7`")),
        ("https://10.0.0.7:8443", None),
        ("https://[fd00::7]:8443", None),
        ("https://7.example.org", None),
    ] {
        let config = parse(&format!("server_url: {url}\napi_key: k\n")).unwrap();
        let told: Vec<_> =
            config.warnings.iter().map(ToString::to_string).filter(|text| text.contains(PLAIN)).collect();
        assert_eq!(told.len(), usize::from(expected.is_some()), "{url} {told:?}");
        assert!(told.iter().all(|text| text.contains(expected.unwrap_or_default())), "{url} {told:?}");
    }
}

#[test]
fn the_organization_of_a_key_is_read_as_people_read_it() {
    let expected = Refused("plain digits");
    for id in ["010", "0x10", "0b11", "1_000", "1:30", "+7", "'010'", "08"] {
        judge(&format!("encryption: {{enabled: false, organization_id: {id}}}"), "organization_id", expected);
    }
    for id in ["10", "'10'", "1"] {
        judge(&format!("encryption: {{enabled: false, organization_id: {id}}}"), "organization_id", Silent);
    }
    for slip in ["organisation_id", "organization-id", "private-key", "enable"] {
        judge(
            &format!("encryption: {{enabled: false, {slip}: 3}}"),
            slip,
            Refused("there is no such setting. Did you"),
        );
    }
    judge("encryption: {enabled: false, colour: 3}", "colour", Warned("there is no such setting"));
}
