//! What the egress of a database opens.

use super::Verdict::{Refused, Silent, Warned};
use super::{Verdict, judge};
use crate::{LEAST, parse};

pub fn egress(way: &str, expected: Verdict) {
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
        ("64:ff9b:1:7::a9fe:a9fe", Warned("metadata")),
        ("::ffff:0:a9fe:a9fe", Warned("metadata")),
        ("64:ff9b::/96", wide),
        ("64:ff9b:1::/48", wide),
        ("64:ff9b:1:7::/96", wide),
        ("64:ff9b:1:7:8::/80", wide),
        ("64:ff9b::8.0.0.0/104", wide),
        ("::ffff:0:0/96", wide),
        ("::ffff:0:0:0/96", wide),
        ("64:ff9b::198.51.100.7", Silent),
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
