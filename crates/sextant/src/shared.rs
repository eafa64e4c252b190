//! The folders that the runs of one vantage6 job share. Nobody says when a job is over: another run of it may come as long as one is
//! under way somewhere. So a folder that no run has used for a long time is removed by whichever run comes next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Marks a folder as used now, and removes the folders of other jobs beside it that were not used for `keep`. Gives those that
/// were removed. What has another kind of name is nobody's business here.
///
/// # Errors
/// If the folder can't be marked. A neighbour that can't be removed stays.
pub fn sweep(own: &Path, keep: Duration, now: SystemTime) -> io::Result<Vec<PathBuf>> {
    File::open(own)?.set_modified(now)?;
    let (Some(parent), Some(kind)) = (own.parent(), own.file_name().and_then(|name| kind(name.to_str()?))) else {
        return Ok(Vec::new());
    };
    let mut removed = Vec::new();
    for entry in fs::read_dir(parent)?.flatten() {
        let path = entry.path();
        let of_a_job = entry.file_name().to_str().and_then(self::kind) == Some(kind);
        // Not following links: an algorithm can't make any here, but somebody else may.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if of_a_job && is_folder && path != own && is_old(&path, keep, now) && remove(&path, keep, now).is_ok() {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// `job-` of `job-17`; `None` for names of any other form.
fn kind(name: &str) -> Option<&str> {
    let number = name.rfind('-')? + 1;
    let digits = &name[number..];
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| &name[..number])
}

fn is_old(path: &Path, keep: Duration, now: SystemTime) -> bool {
    let used = fs::metadata(path).and_then(|data| data.modified());
    used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > keep))
}

/// Out of the way first: a run that comes for it at this moment makes another, or has marked it as used.
fn remove(path: &Path, keep: Duration, now: SystemTime) -> io::Result<()> {
    let aside = path.with_file_name(format!(
        "removing-{}-{}",
        std::process::id(),
        path.file_name().unwrap_or_default().display()
    ));
    fs::rename(path, &aside)?;
    if is_old(&aside, keep, now) {
        return fs::remove_dir_all(&aside);
    }
    fs::rename(&aside, path)?;
    Err(io::Error::other("it is used again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_was_not_used_for_long_goes_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let old = now - 31 * DAY;
        for (name, used) in [
            ("job-1", old),
            ("job-2", now - 29 * DAY),
            ("job-3", old),
            ("tmp-4", old),
            ("job-", old),
            ("job-x5", old),
            ("somebody's", old),
        ] {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            File::open(&path).unwrap().set_modified(used).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("job-6")).unwrap();
        let removed = sweep(&root.path().join("job-3"), 30 * DAY, now).unwrap();
        assert_eq!(removed, [root.path().join("job-1")]);
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["job-", "job-2", "job-3", "job-6", "job-x5", "somebody's", "tmp-4"]);
        // Used now, so that it is the next one's neighbour for long.
        assert!(sweep(&root.path().join("job-2"), 30 * DAY, now + DAY).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(sweep(Path::new("/no/such/job-1"), DAY, SystemTime::now()).is_err());
    }
}
