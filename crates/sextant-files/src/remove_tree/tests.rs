use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::mknodat;
use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use super::*;

const TRASH: &CStr = c"removing";
const NOBODY: u32 = 65534;

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// Far more than any test needs.
fn plenty() -> Budget {
    Budget::new(u64::MAX, Duration::from_secs(300))
}

fn empty(root: &TempDir, budget: &mut Budget) -> Emptied {
    let folder = open(root.path());
    Trash::open(folder.as_fd(), TRASH).unwrap().empty(budget)
}

fn discard(root: &TempDir, name: &CStr) {
    move_to_trash(open(root.path()).as_fd(), TRASH, name).unwrap();
}

/// So many folders inside each other.
fn dig(top: &Path, levels: u32) {
    fs::create_dir_all(top).unwrap();
    let mut here = open(top);
    for _ in 0..levels {
        mkdirat(&here, c"d", Mode::RWXU).unwrap();
        here = openat(&here, c"d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

fn is_empty(root: &TempDir) -> bool {
    fs::read_dir(root.path().join("removing")).unwrap().next().is_none()
}

#[test]
fn no_depth_needs_more_stack() {
    let root = tempfile::tempdir().unwrap();
    dig(&root.path().join("job-1"), 50_000);
    discard(&root, c"job-1");
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    let emptied = small.spawn(move || (empty(&root, &mut plenty()), is_empty(&root))).unwrap().join().unwrap();
    assert_eq!((emptied.0.removed, emptied.0.unfinished, emptied.1), (50_001, false, true), "{emptied:?}");
    assert!(emptied.0.stuck.is_none());
}

#[test]
fn a_huge_folder_goes_in_portions() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("job-1");
    fs::create_dir(&folder).unwrap();
    for number in 0..100_000 {
        mknodat(CWD, folder.join(number.to_string()), FileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    discard(&root, c"job-1");
    let emptied = empty(&root, &mut Budget::new(30_001, Duration::from_secs(300)));
    assert_eq!((emptied.removed, emptied.unfinished), (30_000, true));
    assert!(empty(&root, &mut Budget::new(10, Duration::ZERO)).unfinished, "no time");
    let emptied = empty(&root, &mut plenty());
    assert_eq!((emptied.removed, emptied.unfinished), (70_001, false));
    assert!(is_empty(&root));
}

#[test]
fn folders_in_folders_go_whatever_their_number() {
    let root = tempfile::tempdir().unwrap();
    // More at once than are remembered, each with a chain in it.
    for number in 0..2 * PENDING {
        dig(&root.path().join("job-1/inner").join(number.to_string()), 3);
    }
    discard(&root, c"job-1");
    let emptied = empty(&root, &mut plenty());
    assert_eq!(emptied.removed, 8 * PENDING as u64 + 2);
    assert!(is_empty(&root));
}

#[test]
fn only_what_is_inside_goes() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "kept").unwrap();
    let folder = root.path().join("job-1/inner");
    fs::create_dir_all(&folder).unwrap();
    for at in [&folder, &root.path().join("job-1")] {
        symlink(&outside, at.join("link")).unwrap();
        symlink("..", at.join("up")).unwrap();
        symlink("/no/such", at.join("nowhere")).unwrap();
        fs::hard_link(outside.join("file"), at.join("hard")).unwrap();
        mknodat(CWD, at.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
        fs::create_dir(at.join(std::ffi::OsStr::from_bytes(b"\xff\n\x1b[31m"))).unwrap();
        fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xfe")), "").unwrap();
        fs::create_dir(at.join("x".repeat(255))).unwrap();
    }
    symlink(&outside, root.path().join("job-2")).unwrap();
    discard(&root, c"job-1");
    discard(&root, c"job-2");
    discard(&root, c"job-3");
    let emptied = empty(&root, &mut plenty());
    assert!(emptied.stuck.is_none() && !emptied.unfinished, "{emptied:?}");
    assert!(is_empty(&root));
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
}

#[test]
fn a_link_is_no_trash() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("precious/inner")).unwrap();
    symlink("precious", root.path().join("removing")).unwrap();
    assert!(Trash::open(open(root.path()).as_fd(), TRASH).is_err());
    assert!(root.path().join("precious/inner").exists());
}

#[test]
fn one_that_is_filled_meanwhile_keeps_no_other() {
    let root = tempfile::tempdir().unwrap();
    for name in ["job-1", "job-2", "job-3"] {
        dig(&root.path().join(name), 20);
    }
    let filled = open(&root.path().join("job-2/d"));
    for name in [c"job-1", c"job-2", c"job-3"] {
        discard(&root, name);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ends also when its folder is gone.
            let mut number = 0;
            while !stop.load(Ordering::Relaxed)
                && !matches!(mkdirat(&filled, format!("{number}"), Mode::RWXU), Err(Errno::NOENT))
            {
                let _ = mkdirat(&filled, format!("{number}/x"), Mode::RWXU);
                number += 1;
            }
        });
        empty(&root, &mut Budget::new(u64::MAX, Duration::from_secs(3)));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!empty(&root, &mut plenty()).unfinished);
    assert!(is_empty(&root));
}

#[test]
fn several_may_work_at_once() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..200 {
        let top = root.path().join("job-1").join(number.to_string());
        dig(&top, 30);
        fs::write(top.join("d/d/file"), "").unwrap();
    }
    discard(&root, c"job-1");
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| empty(&root, &mut plenty()))).collect();
        for worker in workers {
            let emptied = worker.join().unwrap();
            assert!(emptied.stuck.is_none() && !emptied.unfinished, "{emptied:?}");
        }
    });
    assert!(is_empty(&root));
}

/// Does something as a common user, who is nobody else: in a thread of its own, which alone changes its user.
fn as_nobody(work: impl FnOnce() + Send + 'static) {
    let work = move || {
        if geteuid().is_root() {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
        }
        work();
    };
    std::thread::spawn(work).join().unwrap();
}

#[test]
fn modes_that_let_nobody_in_are_no_hindrance() {
    as_nobody(|| {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("job-1");
        for mode in [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600, 0o7000] {
            let inner = top.join(format!("{mode:o}/inner"));
            fs::create_dir_all(&inner).unwrap();
            fs::write(inner.join("file"), "").unwrap();
            for folder in [inner.as_path(), inner.parent().unwrap()] {
                fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(&top, fs::Permissions::from_mode(0o000)).unwrap();
        discard(&root, c"job-1");
        let emptied = empty(&root, &mut plenty());
        assert!(emptied.stuck.is_none(), "{emptied:?}");
        assert!(is_empty(&root));
    });
}

#[test]
fn what_can_not_be_removed_keeps_nothing_else() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can make what another user can't remove");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let top = root.path().join("job-1");
    dig(&top.join("a/roots/inner"), 2);
    dig(&top.join("b"), 2);
    for each in ["job-1", "job-1/a", "job-1/b", "job-1/b/d"] {
        std::os::unix::fs::chown(root.path().join(each), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let path = root.path().to_owned();
    as_nobody(move || {
        let folder = open(&path);
        move_to_trash(folder.as_fd(), TRASH, c"job-1").unwrap();
        let emptied = Trash::open(folder.as_fd(), TRASH).unwrap().empty(&mut plenty());
        let (count, error) = emptied.stuck.unwrap();
        assert_eq!((count, error.kind(), emptied.unfinished), (1, io::ErrorKind::PermissionDenied, false));
    });
    let left: Vec<_> = fs::read_dir(root.path().join("removing")).unwrap().collect();
    assert_eq!(left.len(), 1, "the folder that holds root's");
    assert!(empty(&root, &mut plenty()).stuck.is_none());
    assert!(is_empty(&root));
}
