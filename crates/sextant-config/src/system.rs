//! Folders that hold a machine's own files, which algorithms must not see or write. A path is judged in its normalized form, and on this
//! machine also with links resolved.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::Surroundings;
use super::cluster_access;
use super::files::Files;
use super::kubeconfig::Kubeconfigs;
use super::reader::{Field, Section};
use super::server::beside;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Data, as far as the path's name tells.
    Data,
    /// Files or secrets of the system.
    System,
    /// The whole machine, its devices or its processes, which contain no data.
    Machine,
}

/// Including everything below.
const MACHINE: [&str; 3] = ["/proc", "/dev", "/sys"];
/// Including everything below.
const SYSTEM: [&str; 34] = [
    "/etc",
    "/boot",
    "/run",
    "/var/run",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/var/log",
    "/var/spool",
    "/var/backups",
    "/var/mail",
    "/var/db",
    "/var/snap",
    "/srv/kubernetes",
    "/opt/cni",
    "/opt/kubernetes",
    "/opt/rke",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/efi",
    "/nix",
    "/ostree",
    "/private/etc",
    "/private/var",
    "/cgroup",
];
/// The folder of services' state, including keys and passwords; and the subfolders that are data.
const STATE: &str = "/var/lib";
const DATA: [&str; 10] =
    ["sextant", "vantage6", "data", "datasets", "mariadb", "mongodb", "mysql", "pgsql", "postgresql", "rook-data"];
/// Only these folders themselves: data may be below.
const HOLDS_SYSTEM: [&str; 20] = [
    "/var",
    "/var/lib",
    "/var/home",
    "/var/tmp",
    "/usr",
    "/usr/local",
    "/root",
    "/home",
    "/tmp",
    "/snap",
    "/opt",
    "/host",
    "/hostfs",
    "/hostroot",
    "/sysroot",
    "/rootfs",
    "/mnt/host",
    "/Users",
    "/export/home",
    "/private",
];
/// Where a person's programs keep data below the home folder; and the subfolders that are data: Sextant's and those of a regular node.
const OWN_STATE: [&str; 2] = [".local/share/", ".local/state/"];
const OWN_DATA: [&str; 2] = ["sextant", "vantage6"];
/// The parents of home folders. A whole home folder contains keys; subfolders may be data.
const HOMES: [&str; 4] = ["/home", "/var/home", "/export/home", "/Users"];
/// Where other root file systems are mounted. The same rules apply below them.
const ROOTS: [&str; 6] = ["/host", "/hostfs", "/hostroot", "/mnt/host", "/sysroot", "/rootfs"];
/// Names of folders and files with secrets, in any place.
const SECRETS: [&str; 26] = [
    ".ssh",
    ".kube",
    ".docker",
    ".aws",
    ".gnupg",
    ".azure",
    ".config",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".vault-token",
    ".password-store",
    ".minikube",
    ".npmrc",
    ".pypirc",
    ".env",
    ".s3cfg",
    ".boto",
    ".terraform.d",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".psql_history",
    ".mysql_history",
    "keyrings",
];

/// Reports that a path (or a `file:` address) leads to the machine's own folders. Returns `None` if the path can't be intended.
pub(super) fn judge(field: &Field<'_>, path: &str) -> Option<()> {
    judge_named(field, &field.path, path)
}

/// A path of the node's own, which no algorithm may get.
pub(super) struct Own {
    /// The setting that names it, or "the configuration file".
    name: &'static str,
    /// The path as written, and with links resolved.
    places: Vec<PathBuf>,
}

/// The node's own paths: its configuration, its keys, and the folder that runs share.
pub(super) fn own(file: &Section<'_>, config: &std::path::Path, around: &Surroundings<'_>) -> Vec<Own> {
    let of = |mapping: Option<Field<'_>>, key: &str| Some(mapping?.node.get(key)?.secret()?.to_owned());
    let text = |key| Some(file.get(key)?.node.secret()?.to_owned());
    let beside = |path: Option<String>| path.filter(|path| !path.is_empty()).map(|path| beside(config, &path));
    let kubeconfigs = Kubeconfigs::of(file, config, around);
    let called = kubeconfigs.name();
    let named = cluster_access::secrets(file, config, around);
    [
        ("the configuration file", Some(config.to_owned())),
        ("`api_key_file`", beside(text("api_key_file"))),
        ("`encryption.private_key`", beside(of(file.get("encryption"), "private_key"))),
        ("`task_dir`", text("task_dir").map(PathBuf::from)),
    ]
    .into_iter()
    .chain(kubeconfigs.paths.into_iter().map(|path| (called, Some(path))))
    .chain(named.into_iter().map(|path| ("a key that the kubeconfig names", Some(path))))
    .filter_map(|(name, path)| Some((name, path.filter(|path| !path.as_os_str().is_empty())?)))
    .map(|(name, path)| Own { name, places: places(&path, around.files) })
    .collect()
}

/// Reports that a database's path (or `file:` address) is, or contains, one of the node's own paths. Returns `None` if so.
pub(super) fn refuse_own(field: &Field<'_>, path: &str, own: &[Own], files: &dyn Files) -> Option<()> {
    let written = of_address(path);
    let places = places(std::path::Path::new(&written), files);
    let is_inside = |own: &&Own| own.places.iter().any(|own| places.iter().any(|place| own.starts_with(place)));
    let Some(Own { name, places }) = own.iter().find(is_inside) else { return Some(()) };
    let inside = places.first().map(|place| place.display().to_string()).unwrap_or_default();
    let message = format!(
        "`{}`: found a path that algorithms would get at {name} by ({inside}), expected one with data alone. Put data into a folder of its \
         own.",
        field.path
    );
    field.findings.error(field.node.at, message);
    None
}

/// A path as written, and with links resolved as far as it exists.
pub(super) fn places(path: &std::path::Path, files: &dyn Files) -> Vec<PathBuf> {
    let absolute = PathBuf::from(normal(&files.absolute(path).to_string_lossy()));
    let real = absolute.ancestors().find_map(|above| {
        Some(files.real(above)?.join(absolute.strip_prefix(above).ok()?)).map(|real| real.components().collect())
    });
    std::iter::once(absolute.clone()).chain(real).collect()
}

/// A path normalized without access to files.
pub(super) fn normalized(path: &std::path::Path) -> PathBuf {
    PathBuf::from(normal(&path.to_string_lossy()))
}

/// Like [`judge`]. If the path seems to lead to data, judges it with links resolved on this machine.
pub(super) fn judge_with_links(field: &Field<'_>, path: &str, files: &dyn Files) -> Option<()> {
    let written = of_address(path);
    match files.real(std::path::Path::new(&written)) {
        Some(real) if kind(&normal(&written)) == Path::Data => judge(field, &real.to_string_lossy()),
        _ => judge(field, path),
    }
}

/// Like [`judge`], for a path below the field, under its own name.
pub(super) fn judge_named(field: &Field<'_>, name: &str, path: &str) -> Option<()> {
    let path = of_address(path);
    let normal = normal(&path);
    match kind(&normal) {
        Path::Data => Some(()),
        Path::System => {
            let message = format!(
                "`{name}`: {normal} is of the system: it holds what the machine runs by, or its secrets, and algorithms would get at that. \
                 Put data into a folder of its own."
            );
            field.findings.warn(field.node.at, message);
            Some(())
        }
        Path::Machine => {
            let message = format!(
                "`{name}`: found {normal}, a folder of the machine itself (its root, devices or processes), expected one with data. Put \
                 data into a folder of its own."
            );
            field.findings.error(field.node.at, message);
            None
        }
    }
}

/// The path of a `file:` address. Other texts are paths already.
fn of_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once(':') else { return text.to_owned() };
    if !scheme.eq_ignore_ascii_case("file") {
        return text.to_owned();
    }
    // `file:///a`, `file://host/a` and `file:/a` are all /a.
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"),
        None => rest,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// A path without `.`, `..` and doubled slashes. If a relative path climbs out of its unknown folder, the rest is taken from the root,
/// where it ends if it climbs far enough.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut rooted = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => rooted |= parts.pop().is_none(),
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

fn kind(normal: &str) -> Path {
    let below_root = |root: &&str| normal.strip_prefix(*root).filter(|rest| rest.starts_with('/') && rest.len() > 1);
    let below_another = ROOTS.iter().find_map(below_root);
    if let Some(rest) = below_another {
        return kind(rest);
    }
    // A whole home folder, or its hidden part: settings and keys of programs.
    let is_home = |home: &&str| {
        let name = normal.strip_prefix(*home).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| name.split_once('/').is_none_or(|(_, below)| is_hidden(below)))
    };
    let is_state = || {
        let service =
            normal.strip_prefix(STATE).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split('/').next());
        service.is_some_and(|service| !DATA.contains(&service))
    };
    let below =
        |folder: &&str| normal == *folder || normal.strip_prefix(*folder).is_some_and(|rest| rest.starts_with('/'));
    if normal == "/" || MACHINE.iter().any(&below) {
        Path::Machine
    } else if SYSTEM.iter().any(below)
        || HOLDS_SYSTEM.contains(&normal)
        || HOMES.iter().any(is_home)
        || normal.strip_prefix("/root/").is_some_and(is_hidden)
        || is_state()
        || normal.split('/').any(|part| SECRETS.contains(&part))
        || (normal.starts_with('/') && normal.ends_with(".sock"))
    {
        Path::System
    } else {
        Path::Data
    }
}

/// Whether a path below a home folder leads to hidden files of programs.
fn is_hidden(below: &str) -> bool {
    let data = OWN_STATE.iter().find_map(|state| below.strip_prefix(state)).and_then(|rest| rest.split('/').next());
    below.starts_with('.') && !data.is_some_and(|data| OWN_DATA.contains(&data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_by_where_they_lead() {
        for (path, expected, leads_to) in [
            ("/", "/", Path::Machine),
            ("/a/../..", "/", Path::Machine),
            ("//proc//1/./root", "/proc/1/root", Path::Machine),
            ("/var/../etc/", "/etc", Path::System),
            ("../../etc", "/etc", Path::System),
            ("etc", "etc", Path::Data),
            ("a/../etc", "etc", Path::Data),
            ("/process", "/process", Path::Data),
            ("/etc2/x", "/etc2/x", Path::Data),
            ("/mnt/x.sock", "/mnt/x.sock", Path::System),
            ("/host/proc/1", "/host/proc/1", Path::Machine),
            ("/host/host/etc", "/host/host/etc", Path::System),
            ("/hosts/etc", "/hosts/etc", Path::Data),
            ("/root/.local/state/sextant", "/root/.local/state/sextant", Path::Data),
            ("/home/ada/.local/share/vantage6/x", "/home/ada/.local/share/vantage6/x", Path::Data),
            ("/home/ada/.local/share/vantage6/../keys", "/home/ada/.local/share/keys", Path::System),
            ("/home/ada/.local/share/vantage6/.ssh", "/home/ada/.local/share/vantage6/.ssh", Path::System),
            ("/home/ada/.local/share/sextant2", "/home/ada/.local/share/sextant2", Path::System),
            ("/home/ada/.local/share", "/home/ada/.local/share", Path::System),
            ("/root/.local/bin/sextant", "/root/.local/bin/sextant", Path::System),
        ] {
            let normal = normal(path);
            assert_eq!((normal.as_str(), kind(&normal)), (expected, leads_to), "{path}");
        }
        for (address, expected) in [
            ("file:///etc", "/etc"),
            ("FILE://host/%65tc?x#y", "/etc"),
            ("file:/etc", "/etc"),
            ("file://host", "/"),
            ("/file:x", "/file:x"),
            ("postgresql://db/etc", "postgresql://db/etc"),
        ] {
            assert_eq!(of_address(address), expected);
        }
    }
}
