//! The kubeconfigs that the node connects to its cluster with, found as kubectl finds them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Surroundings;
use super::diagnostics::Position;
use super::reader::Section;
use super::server::beside;

/// The node's kubeconfigs, valid or not.
pub(super) struct Kubeconfigs {
    pub paths: Vec<PathBuf>,
    /// The position of `kubernetes.kubeconfig`, if it is set.
    pub at: Option<Position>,
}

impl Kubeconfigs {
    /// The kubeconfigs of a configuration file; none with the local runtime.
    pub(super) fn of(file: &Section<'_>, config: &Path, around: &Surroundings<'_>) -> Self {
        if super::is_local(file) {
            return Self { paths: Vec::new(), at: None };
        }
        let set = file.get("kubernetes").and_then(|kubernetes| kubernetes.node.entry("kubeconfig"));
        let path = set.and_then(|entry| entry.value.secret()).filter(|path| !path.is_empty());
        let at = set.filter(|_| path.is_some()).map(|entry| entry.at);
        Self { paths: paths(path.map(|path| beside(config, path)), around), at }
    }

    /// What messages call them.
    pub(super) fn name(&self) -> &'static str {
        if self.at.is_some() { "`kubernetes.kubeconfig`" } else { "the usual kubeconfig" }
    }
}

/// The configured kubeconfig, else [those that kubectl reads](of_kubectl).
pub(super) fn paths(set: Option<PathBuf>, around: &Surroundings<'_>) -> Vec<PathBuf> {
    // Services often have no HOME. The client that connects finds the home folder regardless.
    let home = (around.env)("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).or_else(|| around.files.home());
    match set {
        Some(path) => vec![path],
        None => of_kubectl((around.env)("KUBECONFIG").as_ref().map(OsStr::new), home.as_deref()),
    }
}

/// The kubeconfigs that kubectl reads: all that `$KUBECONFIG` (`list`) names, else the one in the home folder. They may not exist.
pub fn of_kubectl(list: Option<&OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    let listed = list.into_iter().flat_map(std::env::split_paths);
    let listed: Vec<PathBuf> = listed.filter(|path| !path.as_os_str().is_empty()).collect();
    if listed.is_empty() { home.map(|home| home.join(".kube/config")).into_iter().collect() } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Disk, NoFiles};

    #[test]
    fn a_service_without_home_has_the_kubeconfig_that_it_connects_with() {
        let around = Surroundings { env: &|_| None, files: &Disk, with_key: true };
        let connects_with = of_kubectl(None, std::env::home_dir().as_deref());
        assert!(!connects_with.is_empty());
        assert_eq!(paths(None, &around), connects_with);
    }

    #[test]
    fn where_a_kubeconfig_is_looked_for() {
        for (set, list, expected) in [
            (Some("/a"), Some("/b"), vec!["/a"]),
            (None, Some("/b"), vec!["/b"]),
            (None, Some("/b::/c"), vec!["/b", "/c"]),
            (None, Some(""), vec!["/home/ada/.kube/config"]),
            (None, Some(":"), vec!["/home/ada/.kube/config"]),
            (None, None, vec!["/home/ada/.kube/config"]),
        ] {
            let env = |name: &str| match name {
                "KUBECONFIG" => list.map(str::to_owned),
                "HOME" => Some("/home/ada".to_owned()),
                _ => None,
            };
            let around = Surroundings { env: &env, files: &NoFiles, with_key: true };
            let found = paths(set.map(PathBuf::from), &around);
            assert_eq!(found, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{set:?} {list:?}");
        }
    }
}
