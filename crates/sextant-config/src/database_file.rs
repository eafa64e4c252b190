//! Checks a database's file on this machine: what a pod or a process will find there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Config;

/// Describes the file or folder of a database that has no volume of its own.
pub(super) fn describe(config: &Config, path: &Path) -> Vec<String> {
    let on_kubernetes = config.kubernetes().is_some();
    let mut sights = Vec::new();
    match path.metadata() {
        Err(error) => sights.push(format!("warning: not found on this machine ({error})")),
        // A process has the rights of the user who starts Sextant, so nothing else is required.
        Ok(_) if !on_kubernetes => {}
        Ok(metadata) => {
            if let Some(closed) = closed_folder(path) {
                sights.push(format!("warning: not everybody may enter {} (`chmod o+x`)", closed.display()));
            }
            let needed = if metadata.is_dir() { 0o005 } else { 0o004 };
            if metadata.permissions().mode() & needed != needed {
                let right = if metadata.is_dir() { "o+rx" } else { "o+r" };
                sights.push(format!(
                    "warning: not readable by everybody (`chmod {right}`); pods run without CAP_DAC_OVERRIDE, so even as root \
                     they may only read what file permissions let them"
                ));
            }
        }
    }
    if on_kubernetes {
        sights.push(
            "works on a single machine only, or with the same file on all of them; for others, give it a volume in \
             `kubernetes.databases`"
                .to_owned(),
        );
    }
    sights
}

/// The outermost folder above a file that not everybody may enter.
fn closed_folder(path: &Path) -> Option<&Path> {
    let is_closed = |folder: &&Path| folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0);
    path.ancestors().skip(1).filter(is_closed).last()
}
