//! What `sextant check` prints.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sextant_config::check;

fn file(name: &str, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("node.yaml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_good_file_is_told_in_words() {
    let path = file(
        "good",
        "
server_url: https://vantage6.example.org
port: 443
api_key: k
ca_certificates: ca.pem
databases:
- {label: default, type: csv}
- {label: local, type: csv, uri: /nowhere/people.csv}
- {label: omop, type: omop, uri: 'postgresql://ada:pw@db/omop'}
policies:
  allowed_algorithms: [example.org/average:1.2, '^example\\.org/glm']
  allowed_users: [2]
  allowed_organizations: [Iknl]
share_algorithm_logs: false
kubernetes:
  databases:
    default: {persistentVolumeClaim: {claimName: registry}, path: exports/people.csv}
",
    );
    fs::write(path.with_file_name("ca.pem"), ca_certificate()).unwrap();
    let report = check(&path);
    assert!(report.is_ok(), "{report}");
    let shown = path.display().to_string();
    let said = report
        .to_string()
        .replace(&shown, "node.yaml")
        .replace(&path.with_file_name("ca.pem").display().to_string(), "ca.pem")
        .replace(concat!("sextant:", env!("CARGO_PKG_VERSION")), "sextant:VERSION");
    let expected = "\
node.yaml can be used. It says:

  server       https://vantage6.example.org:443/api
               trusted by the certificates in ca.pem
  encryption   off
  runtime      Kubernetes, namespace v6-jobs; cluster: the one that Sextant runs in, or the usual kubeconfig's
               who may make Jobs or pods there, or read Secrets, is trusted with all of its runs: no node of others belongs there
  image        sextant:VERSION (receive and return)
               algorithms are pulled for each run, unless the image is named by its digest (`policies.require_algorithm_pull`)
  data port    listens at [::]:7654; pods are told an address that the node finds out by itself
  proxy        the node itself; listens at [::]:8080
  walls        no algorithm runs before they are proved; tried again every 1h
  pods         baseline: algorithms run as the user of their image, without any rights of root's
  /mnt/tmp     an emptyDir for each run, not shared
  disk         its limit (ephemeral-storage) holds against accidents, and not against malice, for which there is `kubernetes.scratch`
  limits       an algorithm is sure of cpu 100m, ephemeral-storage 100Mi, memory 256Mi; gets at most ephemeral-storage 10Gi, memory 3840Mi
               runs at once: no limit; longest run: 7d
               longest wait for a machine: 1h; for an image: 10m
               runs that the cluster disrupted: executed again 0 times; largest output: 700Mi
               finished Jobs stay for 1h; shared folders for 30d
  databases    default (csv): exports/people.csv of a volume (persistentVolumeClaim), read-only
               local (csv): hostPath /nowhere/people.csv of the machine where the pod runs, read-only
                 warning: not found on this machine (No such file or directory (os error 2))
                 works on a single machine only, or with the same file on all of them; for others, give it a volume in `kubernetes.databases`
               omop (omop): postgresql://[secret]@db/omop
  policies     only these algorithms may run:
                 this image: example.org/average:1.2
                 images whose beginning matches: ^example\\.org/glm
               tasks may only come from user 2, organization Iknl
  settings     policies, labels of databases and columns of csv files are shared with the server
  logs         algorithms' logs are kept from the server

warning: node.yaml:9:3: `databases[2]`: `omop` is an address, and algorithms reach nothing but vantage6. Say where it is in `kubernetes.databases.omop.egress`, so that the runs that ask for it can connect.
warning: node.yaml:11:3: `policies.allowed_algorithms`: vantage6's own basics algorithm does not run here, because it is not in `allowed_algorithms`. (Nodes before 4.6 let it in without.) Add `harbor2.vantage6.ai/algorithms/basics` or `ghcr.io/vantage6/algorithm-basics` to let it in, or say `allow_basics_algorithm: false`.
warning: node.yaml:11:49: `policies.allowed_algorithms[1]`: lets in `example.org/glm-evil` besides `example.org/glm`: nothing in the expression ends the name there. End it with `$`, with `(@|:|$)` for every version, or with `/` for a whole folder.
warning: node.yaml:13:27: `policies.allowed_organizations[0]`: `Iknl` is a name, which is weaker than a number: an organization that may edit itself may take any name that is free at the server. Write its id.
";
    assert_eq!(said, expected);
}

#[test]
fn a_bad_file_is_told_with_every_mistake() {
    let path = file("bad", "server_url: https://a.org\nport: x\nwhitelist: {domains: [a]}\n");
    let report = check(&path);
    assert!(!report.is_ok());
    let said = report.to_string().replace(&path.display().to_string(), "node.yaml");
    let expected = "\
node.yaml can't be used: 2 mistakes.

error: node.yaml: `api_key` is missing, expected the key that the server gave for this node. Write it here, or name a file with it in `api_key_file`, or set the environment variable SEXTANT_API_KEY.
error: node.yaml:2:7: `port`: found a text (not shown), expected a port from 1 to 65535.
warning: node.yaml:3:1: `whitelist`: has no effect here: algorithms reach nothing but vantage6, also not these addresses; those that need them will fail.
";
    assert_eq!(said, expected);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let said = check(Path::new("/nowhere/node.yaml")).to_string();
    assert!(
        said.contains("error: /nowhere/node.yaml: reading the configuration failed: No such file or directory"),
        "{said}"
    );
}

#[test]
fn files_that_pods_may_not_read_are_told() {
    let path = file("rights", "");
    let data = path.with_file_name("people.csv");
    fs::write(&data, "a\n1\n").unwrap();
    let text = format!(
        "server_url: https://a.org\napi_key: k\ndatabases: [{{label: a, type: csv, uri: {}}}]\n",
        data.display()
    );
    let said = |more: &str, mode: u32| {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&path, format!("{text}{more}")).unwrap();
        check(&path).to_string()
    };
    let local = "local: {algorithms: {a: b}}\n";
    for (more, mode, odd) in [("", 0o644, false), ("", 0o640, true), ("", 0o600, true), (local, 0o600, false)] {
        let said = said(more, mode);
        assert_eq!(said.contains("not readable by everybody (`chmod o+r`)"), odd, "{mode:o} {said}");
    }
    assert!(
        said("", 0o644)
            .contains("POLICIES     ALL ALGORITHMS ARE ALLOWED TO RUN: no policies on algorithms have been set!")
    );
}

pub(crate) fn ca_certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    pem("CERTIFICATE", certificate.der())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    let good = ca_certificate();
    let key = rcgen::KeyPair::generate().unwrap();
    let der =
        rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec();
    let key = pem("PRIVATE KEY", &key.serialize_der());
    let path = file("certificates", "server_url: https://a.example\napi_key: k\nca_certificates: own.pem\n");
    let own = path.with_file_name("own.pem");
    let said = || check(&path).to_string();
    assert!(said().contains("own.pem can't be read: No such file"), "{}", said());
    for (content, words) in [
        (b"".to_vec(), "is empty"),
        (b"server_url: x".to_vec(), "there is no certificate in it"),
        (key.clone().into_bytes(), "private key and no certificate"),
        (der, "openssl x509 -inform der"),
        (
            format!("{good}{}", good.replace("-----END CERTIFICATE-----", "")).into_bytes(),
            "its 2nd certificate, in line",
        ),
    ] {
        fs::write(&own, content).unwrap();
        assert!(said().contains("1 mistake") && said().contains(words), "{words}: {}", said());
        assert!(said().contains(&own.display().to_string()), "{}", said());
    }
    fs::write(&own, format!("{good}{key}")).unwrap();
    assert!(said().contains("can be used") && said().contains("also holds a private key"), "{}", said());
}
