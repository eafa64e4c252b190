//! Folders of the machine that hold the system, or files of the node itself.

use super::Verdict::{Refused, Silent, Warned};
use super::{Verdict, judge};
use crate::LEAST;

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
