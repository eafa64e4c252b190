//! The folder in which a node keeps its runs, in `task_dir` or in a folder of its user.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sextant_config::Config;
use sextant_core::names::Identity;

use super::private::{Dir, Missing};

/// Opens the folder of this node's runs, and creates it if needed.
///
/// # Errors
/// It can't be opened, or another user could read or replace it. The message is for the operator.
pub fn create(config: &Config, identity: &Identity) -> Result<Dir, String> {
    let path = path(config, identity)?;
    let dir = Dir::at(&path, Missing::Create).map_err(|error| unusable(&path, &error))?;
    dir.ok_or_else(|| format!("The folder {} for runs can't be found.", path.display()))
}

/// Opens the folder of this node's runs, if it exists.
///
/// # Errors
/// As for [`create`].
pub fn find(config: &Config, identity: &Identity) -> Result<Option<Dir>, String> {
    let path = path(config, identity)?;
    Dir::at(&path, Missing::Leave).map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, why: &dyn std::error::Error) -> String {
    format!(
        "The folder {} for runs can't be used: {why}. Or set `task_dir` to a folder that only this user may write to.",
        path.display()
    )
}

fn path(config: &Config, identity: &Identity) -> Result<PathBuf, String> {
    let parent = match &config.task_dir {
        Some(task_dir) => task_dir.clone(),
        None => default(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"))?,
    };
    Ok(parent.join(name(identity)))
}

/// Returns the folder that earlier versions used by default, if this node has one there.
pub fn earlier(config: &Config, identity: &Identity) -> Option<PathBuf> {
    let earlier = std::env::temp_dir().join(name(identity));
    (config.task_dir.is_none() && earlier.symlink_metadata().is_ok()).then_some(earlier)
}

fn name(identity: &Identity) -> String {
    format!("sextant-{}", identity.key())
}

/// The user's state folder according to the XDG Base Directory Specification.
fn default(state: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, String> {
    let absolute = |text: OsString| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
    let state = state.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")));
    state.map(|state| state.join("sextant")).ok_or_else(|| {
        "There is no folder for runs: neither XDG_STATE_HOME nor HOME is set to an absolute path. Set one of them, or `task_dir` in \
         the configuration."
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_is_the_users_own() {
        let default = |state: &str, home: Option<&str>| default(Some(state.into()), home.map(Into::into));
        assert_eq!(default("/s", Some("/h")).unwrap(), Path::new("/s/sextant"));
        assert_eq!(
            default("s", Some("/h")).unwrap(),
            Path::new("/h/.local/state/sextant"),
            "the specification says so"
        );
        assert_eq!(default("", Some("/h")).unwrap(), Path::new("/h/.local/state/sextant"));
        for home in [None, Some(""), Some("h")] {
            assert!(default("", home).unwrap_err().contains("task_dir"));
        }
    }
}
