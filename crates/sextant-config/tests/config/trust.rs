//! Files that steer the node or hold its secrets, and that others may change or read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use sextant_config::check;
use vantage6::OrganizationId;

use super::report::ca_certificate;
use super::{mistakes, parse, warnings};

const SERVER: &str = "server_url: https://a.org\n";
const KEY: &str = "api_key_file: key\n";

/// A folder with a configuration and the files that it may name, all of them as they should be.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["key", "ca.pem", "kubeconfig", "node.yaml"] {
        let text = if name == "ca.pem" { ca_certificate() } else { "4f1c-key".into() };
        fs::write(folder.path().join(name), text).unwrap();
        mode(&folder.path().join(name), 0o600);
    }
    folder
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn said(folder: &Path, more: &str) -> String {
    fs::write(folder.join("node.yaml"), format!("{SERVER}{more}")).unwrap();
    check(&folder.join("node.yaml")).to_string()
}

const CHANGED: &str = "others than root and this user";
const READ: &str = "other people on this machine may read";

/// Whether it is said that others may change something.
fn may_change(said: &str, called: &str) -> bool {
    said.lines().any(|line| line.contains(&format!("{called}: ")) && line.contains(CHANGED))
}

/// They are trusted beside those of `ca_certificates`, too.
#[test]
fn certificates_in_the_place_of_the_systems_are_judged() {
    let folder = folder();
    let (own, authorities) = (folder.path().join("own.pem"), folder.path().join("authorities"));
    fs::create_dir(&authorities).unwrap();
    for path in [own.clone(), authorities.join("0a1b2c3d.0")] {
        fs::write(&path, ca_certificate()).unwrap();
        mode(&path, 0o644);
    }
    said(folder.path(), &format!("{KEY}ca_certificates: ca.pem\nlocal: {{}}\n"));
    let said = |variable: &str, value: &Path| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cluster_access::say", "--nocapture"]).env_remove("SSL_CERT_FILE");
        command.env("NODE_YAML", folder.path().join("node.yaml")).env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.env_remove("SSL_CERT_DIR").env(variable, value).output().unwrap();
        may_change(&String::from_utf8(output.stdout).unwrap(), &format!("the environment variable {variable}"))
    };
    for (rights, refused) in [(0o644, false), (0o666, true)] {
        mode(&own, rights);
        assert_eq!(said("SSL_CERT_FILE", &own), refused, "{rights:o}");
    }
    for (of_folder, of_file, refused) in [
        (0o755, 0o644, false),
        (0o755, 0o646, true),
        (0o757, 0o644, true),
        // Nobody replaces what is there, but everybody may add to it.
        (0o1777, 0o644, true),
    ] {
        mode(&authorities, of_folder);
        mode(&authorities.join("0a1b2c3d.0"), of_file);
        assert_eq!(said("SSL_CERT_DIR", &authorities), refused, "{of_folder:o} {of_file:o}");
    }
    assert!(!said("SSL_CERT_DIR", &folder.path().join("missing")));
}

#[test]
fn files_that_others_may_change_are_refused_and_secrets_that_they_may_read_are_told() {
    let key = format!("{KEY}ca_certificates: ca.pem\nkubernetes: {{kubeconfig: kubeconfig}}\n");
    for (name, called) in [
        ("node.yaml", "this file"),
        ("key", "`api_key_file`"),
        ("ca.pem", "`ca_certificates`"),
        ("kubeconfig", "`kubernetes.kubeconfig`"),
    ] {
        for (rights, changed, read) in
            [(0o600, false, false), (0o604, false, true), (0o602, true, false), (0o666, true, true)]
        {
            let folder = folder();
            let path = folder.path().join(name);
            mode(&path, rights);
            let said = said(folder.path(), &key);
            assert_eq!(may_change(&said, called), changed, "{name} {rights:o} {said}");
            assert_eq!(said.contains("can be used"), !changed, "{name} {rights:o} {said}");
            // Certificates are nobody's secret, and this file has none.
            let is_secret = read && !matches!(name, "ca.pem" | "node.yaml");
            assert_eq!(said.contains(READ), is_secret, "{name} {rights:o} {said}");
        }
    }
}

#[test]
fn folders_and_links_on_the_way_count() {
    let folder = folder();
    let told = |path: &str| said(folder.path(), &format!("api_key_file: {path}\n"));
    let open = folder.path().join("open");
    fs::create_dir_all(open.join("below")).unwrap();
    fs::write(open.join("below/key"), "k").unwrap();
    mode(&open.join("below/key"), 0o600);
    symlink("open/below", folder.path().join("link")).unwrap();
    for (rights, changed) in [(0o755, false), (0o777, true), (0o1777, false)] {
        mode(&open, rights);
        for path in ["open/below/key", "link/key", "open/../open/below/key"] {
            let said = told(path);
            assert_eq!(may_change(&said, "`api_key_file`"), changed, "{path} {rights:o} {said}");
            assert_eq!(said.contains("/open, on the way to "), changed, "{path} {rights:o} {said}");
        }
    }
}

#[test]
fn what_kubernetes_mounts_is_nobody_elses() {
    if rustix::process::geteuid().as_raw() != 0 {
        // Only root makes what kubelets make.
        return;
    }
    for (folder_mode, file_mode, group) in
        [(0o777, 0o644, 0), (0o1777, 0o644, 0), (0o3777, 0o440, 65532), (0o2777, 0o440, 65532)]
    {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("node");
        let inner = volume.join("..2026_11_26");
        fs::create_dir_all(&inner).unwrap();
        for (name, text) in
            [("node.yaml", format!("{SERVER}{KEY}algorithm_env: {{PASSWORD: geheim}}\n")), ("key", "k".into())]
        {
            fs::write(inner.join(name), text).unwrap();
            chown(inner.join(name), None, Some(group)).unwrap();
            mode(&inner.join(name), file_mode);
            symlink(format!("..data/{name}"), volume.join(name)).unwrap();
        }
        symlink("..2026_11_26", volume.join("..data")).unwrap();
        mode(&volume, folder_mode);
        let said = check(&volume.join("node.yaml")).to_string();
        assert!(said.contains("can be used") && !said.contains(READ), "{folder_mode:o} {said}");
    }
}

#[test]
fn a_group_of_others_is_somebody_else() {
    if rustix::process::geteuid().as_raw() != 0 {
        return;
    }
    for (group, rights, changed, read) in
        [(0, 0o660, false, false), (65531, 0o640, false, true), (65531, 0o660, true, true)]
    {
        let folder = folder();
        let key = folder.path().join("key");
        mode(&key, rights);
        chown(&key, None, Some(group)).unwrap();
        let said = said(folder.path(), KEY);
        assert_eq!((said.contains(CHANGED), said.contains(READ)), (changed, read), "{group} {rights:o} {said}");
    }
    let folder = folder();
    chown(folder.path().join("node.yaml"), Some(65534), None).unwrap();
    let said = said(folder.path(), KEY);
    assert!(may_change(&said, "this file"), "{said}");
}

#[test]
fn passwords_in_a_file_that_others_may_read_are_told() {
    let folder = folder();
    let file = folder.path().join("node.yaml");
    for (more, key) in [
        ("databases: [{label: w, type: sql, uri: 'postgresql://u:geheim@db/x'}]", "databases"),
        ("databases: [{label: w, type: sql, uri: 'sqlite://x', env: {password: geheim}}]", "databases"),
        ("docker_registries: [{registry: r.example.org, username: u, password: geheim}]", "docker_registries"),
        ("algorithm_env: {API_TOKEN: geheim}", "algorithm_env"),
        ("local: {algorithms: {a: {command: b, env: {PASSWORD: geheim}}}}", "local"),
    ] {
        for (rights, told) in [(0o600, false), (0o644, true)] {
            mode(&file, rights);
            let said = said(folder.path(), &format!("{KEY}{more}\n"));
            assert_eq!(said.contains(&format!("`{key}`: {READ} this file")), told, "{rights:o} {said}");
        }
    }
    mode(&file, 0o644);
    let said =
        said(folder.path(), &format!("{KEY}databases: [{{label: w, type: sql, uri: 'postgresql://reader@db/x'}}]\n"));
    assert!(!said.contains(READ), "{said}");
}

#[test]
fn the_folder_of_the_local_runtime_counts_too() {
    let folder = folder();
    let tasks = folder.path().join("tasks");
    fs::create_dir(&tasks).unwrap();
    let local = format!("{KEY}local: {{}}\ntask_dir: {}\n", tasks.display());
    for (rights, changed) in [(0o700, false), (0o1777, false), (0o757, true)] {
        mode(&tasks, rights);
        let said = said(folder.path(), &local);
        assert_eq!(may_change(&said, "`task_dir`"), changed, "{rights:o} {said}");
        // On Kubernetes it is the machine's where the pods run.
        let elsewhere = self::said(folder.path(), &local.replace("local: {}", ""));
        assert!(!may_change(&elsewhere, "`task_dir`"), "{elsewhere}");
    }
}

/// A public key can be copied: a proxy of its own has to know the organization's number.
#[test]
fn a_proxy_of_its_own_should_know_its_organization() {
    let encrypted = |more: &str| format!("encryption: {{enabled: true, private_key: key.pem{more}}}\n");
    let says =
        |text: &str| warnings(text).iter().any(|warning| warning.contains("`encryption.organization_id` is not set"));
    let separate = "kubernetes: {proxy: {address: proxy.example.org}}\n";
    assert!(says(&format!("{}{separate}", encrypted(""))));
    for known in [
        format!("{}{separate}", encrypted(", organization_id: 3")),
        encrypted(""),
        format!("encryption: {{enabled: false}}\n{separate}"),
    ] {
        assert!(!says(&known), "{known}");
    }
    let config = parse(&format!("server_url: http://x\napi_key: k\n{}", encrypted(", organization_id: 3"))).unwrap();
    assert_eq!(config.encryption.organization.map(|id| id.0), Some(3));
    assert!(config.encryption.clone().of_organization(OrganizationId(3)).is_ok());
    let error = config.encryption.of_organization(OrganizationId(4)).unwrap_err();
    assert!(error.contains("is 3, but the node with this API key is of organization 4"), "{error}");
    for (wrong, found) in
        [("0", "`0`"), ("-1", "`-1`"), ("mills", "a text (not shown)"), ("", "nothing"), ("[3]", "a list")]
    {
        let text = format!("server_url: http://x\napi_key: k\n{}", encrypted(&format!(", organization_id: {wrong}")));
        let mistakes = mistakes(&text);
        assert!(
            mistakes[0]
                .contains(&format!("`encryption.organization_id`: found {found}, expected the organization's number")),
            "{mistakes:?}"
        );
    }
}
