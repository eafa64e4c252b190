//! A kubeconfig that lets others be the cluster, and the files that it names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sextant_config::check;

const CHANGED: &str = "others than root and this user";
const READ: &str = "other people on this machine may read";

/// What is said of a configuration whose kubeconfig has these clusters and users; `more` is more of the configuration.
fn said(folder: &Path, cluster: &str, user: &str, more: &str) -> String {
    let kubeconfig = format!(
        "clusters: [{{name: other, cluster: {{server: 'http://a.org'}}}}, {{name: c, cluster: {cluster}}}]\nusers: [{{name: u, user: \
         {user}}}]\ncontexts: [{{name: other, context: {{cluster: other, user: u}}}}, {{name: x, context: {{cluster: c, user: \
         u}}}}]\ncurrent-context: x\n"
    );
    fs::write(folder.join("kubeconfig"), kubeconfig).unwrap();
    let node = format!("server_url: https://a.org\napi_key: k\nkubernetes: {{kubeconfig: kubeconfig{more}}}\n");
    fs::write(folder.join("node.yaml"), node).unwrap();
    for name in ["kubeconfig", "node.yaml"] {
        mode(&folder.join(name), 0o600);
    }
    check(&folder.join("node.yaml")).to_string()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_kubeconfig_that_lets_others_be_the_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (cluster, more, refused, told) in [
        ("{server: 'https://10.0.0.1:6443'}", "", false, None),
        ("{server: 'https://10.0.0.1:6443', insecure-skip-tls-verify: false}", "", false, None),
        (
            "{server: 'https://10.0.0.1:6443', insecure-skip-tls-verify: true}",
            "",
            true,
            Some("insecure-skip-tls-verify"),
        ),
        (
            "{\"server\": \"https://k.example.org\", \"insecure-skip-tls-verify\": true}",
            "",
            true,
            Some("at k.example.org"),
        ),
        ("{server: 'http://k.example.org'}", "", true, Some("no `https://` address")),
        ("{server: 'HTTP://k.example.org'}", "", true, Some("no `https://` address")),
        ("{server: 'k.example.org:80'}", "", true, Some("no `https://` address")),
        ("{server: 'http://127.0.0.1:8001'}", "", false, Some("whoever listens on this machine")),
        ("{server: 'https://localhost:6443', insecure-skip-tls-verify: true}", "", false, Some("on this machine")),
        ("{server: 'http://localhost.evil.org'}", "", true, Some("no `https://` address")),
        // Another context than the current one.
        ("{server: 'https://10.0.0.1:6443'}", ", context: other", true, Some("no `https://` address")),
        ("{server: 'http://k.example.org'}", ", context: none", false, None),
    ] {
        let said = said(folder.path(), cluster, "{token: t}", more);
        assert_eq!(said.contains("can't be used"), refused, "{cluster} {said}");
        assert_eq!(said.contains("whoever answers at"), told.is_some(), "{cluster} {said}");
        assert!(told.is_none_or(|told| said.contains(told)), "{cluster} {said}");
    }
}

#[test]
fn of_several_kubeconfigs_the_first_with_a_name_counts() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        mode(&folder.path().join(name), 0o600);
        folder.path().join(name).display().to_string()
    };
    let first = file("1", "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n");
    let second = file("2", "clusters: [{name: c, cluster: {server: 'http://a.org'}}]\ncurrent-context: y\n");
    let node = file("node.yaml", "server_url: https://a.org\napi_key: k\n");
    let said = |list: &str, in_a_pod: bool| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cluster_access::say", "--nocapture"]).env("KUBECONFIG", list).env("NODE_YAML", &node);
        command.env_remove("KUBERNETES_SERVICE_HOST");
        if in_a_pod {
            command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let said_of = said(&format!("{first}:{second}"), false);
    assert!(said_of.contains("the usual kubeconfig: found a `server`"), "{said_of}");
    assert!(said(&second, false).contains("can be used"));
    // A pod has an account of its own.
    assert!(said(&format!("{first}:{second}"), true).contains("can be used"));
}

/// What is said of the file that the environment names: a process of its own, for an environment of its own.
#[test]
fn say() {
    if let Some(path) = std::env::var_os("NODE_YAML") {
        println!("{}", check(Path::new(&path)));
    }
}

#[test]
fn files_that_a_kubeconfig_names_are_judged_like_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("named");
    fs::write(&path, "x").unwrap();
    let server = "server: 'https://10.0.0.1:6443'";
    let plain = format!("{{{server}}}");
    let absolute = path.display();
    for (cluster, user, setting, is_secret) in [
        (format!("{{{server}, certificate-authority: named}}"), "{}".to_owned(), "certificate-authority", false),
        (plain.clone(), "{client-certificate: named}".into(), "client-certificate", false),
        (plain.clone(), format!("{{client-key: '{absolute}'}}"), "client-key", true),
        (plain.clone(), "{tokenFile: named}".into(), "tokenFile", true),
        (plain.clone(), "{exec: {command: ./named}}".into(), "exec", false),
        (plain.clone(), format!("{{exec: {{command: sh, args: ['{absolute}']}}}}"), "exec", false),
        (plain.clone(), format!("{{exec: {{command: sh, args: ['--config={absolute}']}}}}"), "exec", false),
    ] {
        for (rights, changed, read) in
            [(0o600, false, false), (0o604, false, true), (0o602, true, false), (0o777, true, true)]
        {
            mode(&path, rights);
            let said = said(folder.path(), &cluster, &user, "");
            let name = format!("`kubernetes.kubeconfig`, `{setting}`: ");
            let has = |what: &str| said.lines().any(|line| line.contains(&name) && line.contains(what));
            assert_eq!(has(CHANGED), changed, "{user} {rights:o} {said}");
            assert_eq!(has(READ), read && is_secret, "{user} {rights:o} {said}");
        }
    }
    // What is written in the place of a file counts.
    let said = said(folder.path(), &plain, "{client-key: named, client-key-data: eA==}", "");
    assert!(!said.contains(CHANGED), "{said}");
}

#[test]
fn a_plugin_is_looked_for_in_the_path_that_it_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, open) = (folder.path().join("ours"), folder.path().join("open"));
    for (path, rights) in [(&ours, 0o700), (&open, 0o777)] {
        fs::create_dir(path).unwrap();
        mode(path, rights);
    }
    fs::write(ours.join("plugin"), "x").unwrap();
    let path = |folders: &[&str]| folders.join(":");
    let (ours_is, open_is) = (ours.to_str().unwrap(), open.to_str().unwrap());
    for (rights, path, refused) in [
        (0o700, path(&[open_is]), true),
        (0o700, path(&[open_is, ours_is]), true),
        (0o700, path(&[ours_is]), false),
        (0o700, path(&[ours_is, open_is]), false),
        // What can't be executed is passed over.
        (0o600, path(&[ours_is, open_is]), true),
    ] {
        mode(&ours.join("plugin"), rights);
        let user = format!("{{exec: {{command: plugin, env: [{{name: PATH, value: '{path}'}}]}}}}");
        let said = said(folder.path(), "{server: 'https://10.0.0.1:6443'}", &user, "");
        assert_eq!(said.contains(CHANGED), refused, "{path} {rights:o} {said}");
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_judged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, "x").unwrap();
    mode(&path, 0o666);
    let text = "clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority: ca.pem}}]\n\
                users: [{name: u, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n\
                current-context: x\n";
    let said = |kubeconfig: &[u8]| {
        let (kube, node) = (folder.path().join("kubeconfig"), folder.path().join("node.yaml"));
        fs::write(&kube, kubeconfig).unwrap();
        fs::write(&node, "server_url: https://a.org\napi_key: k\nkubernetes: {kubeconfig: kubeconfig}\n").unwrap();
        mode(&kube, 0o600);
        mode(&node, 0o600);
        check(&node).to_string()
    };
    let utf_16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let large = format!("{text}# {}\n", "x".repeat(1 << 20));
    let tagged = text.replace("name: x,", "name: !x x,");
    for (kubeconfig, told) in [
        (text.as_bytes(), CHANGED),
        (format!("---\n{text}").as_bytes(), CHANGED),
        (format!("{text}---\nkind: Config\n").as_bytes(), "a second document"),
        (large.as_bytes(), "bytes, expected at most"),
        (text.replace("ca.pem}", "other.pem, certificate-authority: ca.pem}").as_bytes(), "a second time"),
        (tagged.as_bytes(), "a tag"),
        (&utf_16, "in UTF-8"),
    ] {
        let said = said(kubeconfig);
        assert!(said.contains("can't be used") && said.contains(told), "{told}: {said}");
    }
    // Whoever connects says what is wrong with it.
    assert!(said(b"").contains("can be used"), "{}", said(b""));
}

#[test]
fn a_database_with_a_key_that_a_kubeconfig_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("key"), "x").unwrap();
    mode(&data.path().join("key"), 0o600);
    let user = format!("{{client-key: '{}'}}", data.path().join("key").display());
    let more = format!(
        "}}\ndatabases: [{{label: w, type: folder, uri: '{}'}}]\nlogging: {{level: INFO",
        data.path().display()
    );
    let said = said(folder.path(), "{server: 'https://10.0.0.1:6443'}", &user, &more);
    assert!(said.contains("get at a key that the kubeconfig names by"), "{said}");
}
