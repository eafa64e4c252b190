use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn used(root: &TempDir, name: &str, when: SystemTime) {
    let file = File::create(root.path().join(marker(name))).unwrap();
    file.set_modified(when).unwrap();
}

fn job(root: &TempDir, name: &str, folder_says: SystemTime) {
    let path = root.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "x").unwrap();
    File::open(&path).unwrap().set_modified(folder_says).unwrap();
}

fn swept(root: &TempDir, now: SystemTime) -> SweepReport {
    let folder = open(root.path()).unwrap();
    let swept = sweep(folder.as_fd(), "job-", 30 * DAY, now, &mut Budget::new(1000, DAY)).unwrap();
    assert!(swept.stuck.is_none() && swept.emptied.stuck.is_none(), "{swept:?}");
    swept
}

fn names(root: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(root.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "removing");
    names.sort();
    names
}

#[test]
fn what_was_not_used_for_long_goes_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let old = now - 31 * DAY;
    for (name, when) in [("job-1", old), ("job-2.7.17", now - 29 * DAY), ("job-3.8.17", SystemTime::UNIX_EPOCH - DAY)] {
        job(&root, name, now);
        used(&root, name, when);
    }
    for name in ["tmp-4", "job-", "job-x5", "job-5.", "job-.5", "job-5..6", "job-5.x", "somebody's"] {
        job(&root, name, old);
        used(&root, name, old);
    }
    std::os::unix::fs::symlink("/etc", root.path().join("job-6")).unwrap();
    used(&root, "job-6", old);
    let swept = swept(&root, now);
    assert_eq!((swept.put_aside, swept.emptied.removed), (2, 4));
    let left: Vec<_> = names(&root).into_iter().filter(|name| !name.ends_with(USED)).collect();
    assert_eq!(
        left,
        ["job-", "job-.5", "job-2.7.17", "job-5.", "job-5..6", "job-5.x", "job-6", "job-x5", "somebody's", "tmp-4"]
    );
}

#[test]
fn the_times_of_the_folder_itself_count_for_nothing() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    // An algorithm may give its folder these.
    job(&root, "job-1", SystemTime::UNIX_EPOCH);
    job(&root, "job-2", now + 10_000 * DAY);
    used(&root, "job-1", now);
    used(&root, "job-2", now - 31 * DAY);
    assert_eq!(swept(&root, now).put_aside, 1);
    assert_eq!(names(&root), ["job-1", "job-1.used"]);
}

#[test]
fn folders_without_a_plausible_time_get_a_new_one() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    // Of an earlier version; from a time when the clock was ahead; with something else at the place of the mark.
    for name in ["job-1", "job-2", "job-3"] {
        job(&root, name, SystemTime::UNIX_EPOCH);
    }
    used(&root, "job-2", now + 10_000 * DAY);
    std::os::unix::fs::symlink("/etc/hostname", root.path().join("job-3.used")).unwrap();
    assert_eq!(swept(&root, now).put_aside, 0);
    assert_eq!(swept(&root, now + 29 * DAY).put_aside, 0);
    assert_eq!(swept(&root, now + 31 * DAY).put_aside, 3);
    assert_eq!(names(&root), [""; 0]);
}

#[test]
fn a_clock_that_was_never_set_removes_nothing() {
    let root = tempfile::tempdir().unwrap();
    job(&root, "job-1", SystemTime::UNIX_EPOCH);
    used(&root, "job-1", SystemTime::UNIX_EPOCH - 100 * DAY);
    assert_eq!(swept(&root, SystemTime::UNIX_EPOCH + DAY).put_aside, 0);
    assert_eq!(names(&root), ["job-1", "job-1.used"]);
}

#[test]
fn what_was_put_aside_by_somebody_who_was_killed_goes() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    for name in ["removing-17-job-2", "removing-17-tmp-3", "removing-x-job-3", "removing-job-3"] {
        job(&root, name, now);
    }
    fs::create_dir_all(root.path().join("removing/0123/inner")).unwrap();
    // The mark of a folder that was put aside, and that of one which is about to be made.
    used(&root, "job-7", now - 31 * DAY);
    used(&root, "job-8", now);
    let swept = swept(&root, now);
    assert_eq!((swept.put_aside, swept.emptied.removed), (1, 4));
    assert_eq!(names(&root), ["job-8.used", "removing-17-tmp-3", "removing-job-3", "removing-x-job-3"]);
}

#[test]
fn what_a_budget_leaves_the_next_sweep_removes() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    job(&root, "job-1", now);
    for number in 0..50 {
        fs::write(root.path().join(format!("job-1/{number}")), "").unwrap();
    }
    used(&root, "job-1", now - 31 * DAY);
    let folder = open(root.path()).unwrap();
    let swept = sweep(folder.as_fd(), "job-", 30 * DAY, now, &mut Budget::new(10, DAY)).unwrap();
    assert_eq!((swept.put_aside, swept.emptied.unfinished), (1, true));
    assert_eq!(names(&root), [""; 0]);
    assert!(!self::swept(&root, now).emptied.unfinished);
    assert_eq!(fs::read_dir(root.path().join("removing")).unwrap().count(), 0);
}

#[test]
fn a_folder_is_made_for_everybody_and_marked() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("sextant-x/job-1");
    for mode in [0o1777, 0o000, 0o755] {
        make(&own, None).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o7777, 0o1777);
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
    }
    let marked = root.path().join("sextant-x/job-1.used");
    File::open(&marked).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    make(&own, None).unwrap();
    assert!(fs::metadata(&marked).unwrap().modified().unwrap() > SystemTime::now() - DAY);
    // Not through a link.
    std::os::unix::fs::symlink("/", root.path().join("sextant-x/job-2")).unwrap();
    assert!(make(&root.path().join("sextant-x/job-2"), None).is_err());
    // Something else at the place of the mark is replaced, and harms no run where it can't be.
    fs::remove_file(&marked).unwrap();
    std::os::unix::fs::symlink("/no/such", &marked).unwrap();
    make(&own, None).unwrap();
    assert!(fs::symlink_metadata(&marked).unwrap().is_file());
    fs::remove_file(&marked).unwrap();
    fs::create_dir(&marked).unwrap();
    make(&own, None).unwrap();
}
