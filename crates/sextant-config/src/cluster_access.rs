//! How the chosen kubeconfig context reaches its cluster, and the files on this machine that decide it: certificates, keys, tokens and
//! credential plugins. The context is found as kubectl finds it: of two entries with the same name, the first file's wins.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::Surroundings;
use super::diagnostics::Diagnostics;
use super::kubeconfig::Kubeconfigs;
use super::names;
use super::reader::Section;
use super::scalar::Scalar;
use super::trust::{Step, Subject};
use super::yaml::{self, Node, Value};

/// Set by Kubernetes in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// The chosen context's cluster and user, each with the file that contains it.
struct Context {
    cluster: Option<(PathBuf, Node)>,
    user: Option<(PathBuf, Node)>,
}

/// A file that decides what the node sends, and to whom.
struct Named {
    /// The setting in the kubeconfig.
    setting: &'static str,
    path: PathBuf,
    is_secret: bool,
}

/// Refuses a connection to the cluster on which another party can impersonate it, and checks the files that the connection depends on.
pub(super) fn judge(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) {
    let kubeconfigs = Kubeconfigs::of(file, config, around);
    if is_used(&kubeconfigs, around) {
        must_be_understood(&kubeconfigs, file.findings, around);
    }
    let Some(context) = chosen(&kubeconfigs, file, around) else { return };
    if let Some((path, cluster)) = &context.cluster {
        must_be_sure(cluster, path, &kubeconfigs, file.findings);
    }
    for named in context.files(around) {
        let name = format!("{}, `{}`", kubeconfigs.name(), named.setting);
        let subject = Subject { findings: file.findings, at: kubeconfigs.at, name: &name };
        subject.must_be_ours(&named.path, around);
        if named.is_secret {
            subject.must_be_secret(&named.path, around);
        }
    }
}

/// The files with secrets that the chosen context names.
pub(super) fn secrets(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Vec<PathBuf> {
    let context = chosen(&Kubeconfigs::of(file, config, around), file, around);
    let files = context.map(|context| context.files(around)).unwrap_or_default();
    files.into_iter().filter(|named| named.is_secret).map(|named| named.path).collect()
}

/// Refuses kubeconfigs that this parser reads differently from the client that connects with them, because their contents would go
/// unchecked. Unreadable files are skipped: no client can connect with them.
fn must_be_understood(kubeconfigs: &Kubeconfigs, findings: &Diagnostics, around: &Surroundings<'_>) {
    for path in &kubeconfigs.paths {
        let why = match around.files.text(path) {
            Ok(text) => {
                let heard = Diagnostics::new(path);
                yaml::read(&text, &heard);
                match heard.first_error() {
                    Some(problem) if !text.trim().is_empty() => problem,
                    _ => continue,
                }
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                format!("{}: found something else than text in UTF-8.", path.display())
            }
            Err(_) => continue,
        };
        let name = kubeconfigs.name();
        findings.error(
            kubeconfigs.at,
            format!(
                "{name}: can't be judged, so that what others may change of it, or answer in the cluster's place, would go unnoticed. {why} \
                 `kubectl config view --raw --flatten --minify` writes one that can."
            ),
        );
    }
}

fn must_be_sure(cluster: &Node, path: &Path, kubeconfigs: &Kubeconfigs, findings: &Diagnostics) {
    let server = text(cluster, "server").unwrap_or_default();
    let url = Url::parse(server).ok();
    let is_this_machine = url.as_ref().is_some_and(is_loopback);
    let skips = cluster.get("insecure-skip-tls-verify").and_then(Node::scalar) == Some(Scalar::Bool(true));
    let is_plain = !server.is_empty() && url.as_ref().is_none_or(|url| url.scheme() != "https");
    let found = match (skips, is_plain) {
        (_, true) => "a `server` that is no `https://` address",
        (true, false) => "`insecure-skip-tls-verify: true`",
        (false, false) => return,
    };
    let (name, path) = (kubeconfigs.name(), path.display());
    let host = url.as_ref().and_then(Url::host_str).map_or_else(|| "that address".to_owned(), names::shown);
    let message = format!(
        "{name}: found {found} in {path}, expected `https://` with the cluster's authority in `certificate-authority-data`: the node would \
         send its credentials, and all runs with their data, to whoever answers at {host}."
    );
    if is_this_machine {
        findings.warn(kubeconfigs.at, format!("{message} Here that is whoever listens on this machine."));
    } else {
        findings.error(kubeconfigs.at, message);
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether the node connects by a kubeconfig. A pod has an account of its own.
fn is_used(kubeconfigs: &Kubeconfigs, around: &Surroundings<'_>) -> bool {
    kubeconfigs.at.is_some() || (around.env)(IN_A_POD).is_none()
}

/// Returns `None` if no kubeconfig is used or none can be parsed. The client that connects reports the error.
fn chosen(kubeconfigs: &Kubeconfigs, file: &Section<'_>, around: &Surroundings<'_>) -> Option<Context> {
    if !is_used(kubeconfigs, around) {
        return None;
    }
    // The client that connects with it reports its errors.
    let unheard = Diagnostics::new(Path::new("kubeconfig"));
    let read = |path: &PathBuf| Some((path.clone(), yaml::read(&around.files.text(path).ok()?, &unheard)?));
    let roots: Vec<(PathBuf, Node)> = kubeconfigs.paths.iter().filter_map(read).collect();
    let set = file.get("kubernetes").and_then(|field| text(field.node, "context").map(str::to_owned));
    let current = || roots.iter().find_map(|(_, root)| text(root, "current-context")).map(str::to_owned);
    let name = set.or_else(current)?;
    let (_, context) = entry(&roots, "contexts", &name, "context")?;
    let part = |key, list, inner| entry(&roots, list, text(&context, key)?, inner);
    Some(Context { cluster: part("cluster", "clusters", "cluster"), user: part("user", "users", "user") })
}

/// Finds a named entry in a list, and the file that contains it.
fn entry(roots: &[(PathBuf, Node)], list: &str, name: &str, inner: &str) -> Option<(PathBuf, Node)> {
    roots.iter().find_map(|(path, root)| {
        let Value::List(entries) = &root.get(list)?.value else { return None };
        let found = entries.iter().find(|entry| text(entry, "name") == Some(name))?;
        Some((path.clone(), found.get(inner)?.clone()))
    })
}

impl Context {
    fn files(&self, around: &Surroundings<'_>) -> Vec<Named> {
        let mut files = Vec::new();
        let mut take = |of: &Option<(PathBuf, Node)>, setting: &'static str, instead: &str, is_secret: bool| {
            if let Some((kubeconfig, node)) = of
                && let Some(path) = text(node, setting)
                && text(node, instead).is_none()
            {
                files.push(Named { setting, path: beside(kubeconfig, path), is_secret });
            }
        };
        take(&self.cluster, "certificate-authority", "certificate-authority-data", false);
        take(&self.user, "client-certificate", "client-certificate-data", false);
        take(&self.user, "client-key", "client-key-data", true);
        // If both are given, the file wins.
        take(&self.user, "tokenFile", "", true);
        if let Some((kubeconfig, user)) = &self.user
            && let Some(exec) = user.get("exec")
        {
            files.extend(plugin(kubeconfig, exec, around));
        }
        files
    }
}

/// The plugin's program, the `PATH` folders in which another program would be found first, and the files among its arguments.
fn plugin(kubeconfig: &Path, exec: &Node, around: &Surroundings<'_>) -> Vec<Named> {
    let named = |path: PathBuf| Named { setting: "exec", path, is_secret: false };
    let exists = |path: &PathBuf| !around.files.path_steps(path).is_empty();
    let command = text(exec, "command").unwrap_or_default();
    let mut files = Vec::new();
    if command.contains('/') {
        files.push(named(beside(kubeconfig, command)));
    } else if !command.is_empty() {
        // The plugin is looked up with the `PATH` that is passed to it.
        let path = variable(exec, "PATH").or_else(|| (around.env)("PATH")).unwrap_or_default();
        for folder in std::env::split_paths(&path) {
            // An empty entry means Sextant's working directory.
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            let program = folder.join(command);
            let is_there = around.files.path_steps(&program).last().is_some_and(Step::is_program);
            files.push(named(if is_there { program } else { folder }));
            if is_there {
                break;
            }
        }
    }
    if let Some(Value::List(arguments)) = exec.get("args").map(|node| &node.value) {
        let values =
            arguments.iter().filter_map(Node::secret).map(|text| text.split_once('=').map_or(text, |(_, value)| value));
        files.extend(values.filter(|text| text.starts_with('/')).map(|text| named(PathBuf::from(text))));
    }
    files.into_iter().filter(|named| exists(&named.path)).collect()
}

/// The last value that a plugin's `env` gives to a variable.
fn variable(exec: &Node, name: &str) -> Option<String> {
    let Value::List(variables) = &exec.get("env")?.value else { return None };
    let values = variables.iter().filter(|each| text(each, "name") == Some(name)).filter_map(|each| each.get("value"));
    values.filter_map(Node::secret).next_back().map(str::to_owned)
}

fn beside(kubeconfig: &Path, path: &str) -> PathBuf {
    kubeconfig.parent().unwrap_or(Path::new("")).join(path)
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::secret).filter(|text| !text.is_empty())
}
