//! The folders that the runs of one vantage6 job share. Nobody says when a job is over: another run of it may come as long as one is
//! under way somewhere. So a folder that no run has used for a long time is removed by whichever run comes next.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a folder that was put aside is left to whoever put it there.
const ASIDE: Duration = Duration::from_secs(24 * 60 * 60);

/// Marks a folder as used now, and removes the folders of other jobs beside it that were not used for `keep`. Gives those that
/// were removed. What has another kind of name is nobody's business here.
///
/// # Errors
/// If the folder can't be marked. A neighbour that can't be removed stays, is told of in the log, and is tried again by later runs.
pub fn sweep(own: &Path, keep: Duration, now: SystemTime) -> io::Result<Vec<PathBuf>> {
    let Swept { removed, stuck } = swept(own, keep, now)?;
    for (path, error) in stuck {
        tracing::warn!(
            "the folder {} of an earlier job could not be removed: {error}. It takes room until it is",
            path.display()
        );
    }
    Ok(removed)
}

#[derive(Debug, Default)]
struct Swept {
    removed: Vec<PathBuf>,
    /// What could not be removed, and why.
    stuck: Vec<(PathBuf, io::Error)>,
}

fn swept(own: &Path, keep: Duration, now: SystemTime) -> io::Result<Swept> {
    File::open(own)?.set_modified(now)?;
    let mut swept = Swept::default();
    let (Some(parent), Some(of_jobs)) = (own.parent(), own.file_name().and_then(|name| kind(name.to_str()?))) else {
        return Ok(swept);
    };
    for entry in fs::read_dir(parent)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        // Not following links: an algorithm can't make any here, but somebody else may.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || path == own {
            continue;
        }
        let outcome = if kind(name) == Some(of_jobs) && is_old(&path, keep, now) {
            remove(&path, keep, now)
        } else if put_aside(name).and_then(kind) == Some(of_jobs) && is_old(&path, ASIDE.min(keep), now) {
            // Somebody was killed over it, or could not remove all of it.
            fs::remove_dir_all(&path).map(|()| true)
        } else {
            continue;
        };
        match outcome {
            Ok(true) => swept.removed.push(path),
            Ok(false) => {}
            // Another run's sweep was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => swept.stuck.push((path, error)),
        }
    }
    Ok(swept)
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

/// `job-17` of `removing-123-job-17`, as [`remove`] calls it.
fn put_aside(name: &str) -> Option<&str> {
    let (process, folder) = name.strip_prefix("removing-")?.split_once('-')?;
    (!process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())).then_some(folder)
}

/// Out of the way first: a run that comes for it at this moment makes another, or has marked it as used; then it stays.
fn remove(path: &Path, keep: Duration, now: SystemTime) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default();
    let aside = path.with_file_name(format!("removing-{}-{}", std::process::id(), name.display()));
    fs::rename(path, &aside)?;
    if is_old(&aside, keep, now) {
        return fs::remove_dir_all(&aside).map(|()| true);
    }
    fs::rename(&aside, path)?;
    Ok(false)
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
    fn what_was_not_removed_is_tried_again_and_told() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mine = std::process::id();
        let in_the_way = format!("removing-{mine}-job-4");
        for (name, age) in [
            ("job-1", Duration::ZERO),
            ("removing-17-job-2", 2 * DAY),
            ("removing-17-job-3", DAY / 2),
            ("removing-17-tmp-3", 2 * DAY),
            ("removing-x-job-3", 2 * DAY),
            ("removing-job-3", 2 * DAY),
            ("job-4", 31 * DAY),
            (&in_the_way, DAY / 2),
        ] {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            File::open(&path).unwrap().set_modified(now - age).unwrap();
        }
        let Swept { removed, stuck } = swept(&root.path().join("job-1"), 30 * DAY, now).unwrap();
        assert_eq!(removed, [root.path().join("removing-17-job-2")]);
        assert_eq!(stuck.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&root.path().join("job-4")]);
        assert!(root.path().join("job-4/file").exists());
        // A day later nothing is in its way.
        let removed = sweep(&root.path().join("job-1"), 30 * DAY, now + DAY).unwrap();
        assert!(
            removed.contains(&root.path().join("removing-17-job-3"))
                && removed.contains(&root.path().join(&in_the_way))
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(sweep(Path::new("/no/such/job-1"), DAY, SystemTime::now()).is_err());
    }
}
