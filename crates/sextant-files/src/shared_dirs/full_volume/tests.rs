use std::error::Error;
use std::fs::{self, File};
use std::process::Command;

use super::super::{make, marker};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// What a volume ends by.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Inodes,
    Ext4,
    ReadOnly,
}

/// Where the volume is, in a test's second process.
const VOLUME: &str = "SEXTANT_TEST_VOLUME";

/// Runs the test of this name once more, with a small volume that nobody else sees, and there what it does with the volume.
fn with_volume(kind: Kind, name: &str, test: impl FnOnce(&Path)) {
    if let Some(volume) = std::env::var_os(VOLUME) {
        if volume.to_string_lossy().contains(&format!("{kind:?}")) {
            test(Path::new(&volume));
        }
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join(format!("{kind:?}"));
    let (volume, image) = (at.display(), place.path().join("image").display().to_string());
    fs::create_dir(&at).unwrap();
    let mount = match kind {
        Kind::Inodes => format!("mount -t tmpfs -o size=64m,nr_inodes=60 tmpfs {volume}"),
        Kind::ReadOnly => format!("mount -t tmpfs -o ro tmpfs {volume}"),
        Kind::Ext4 => {
            format!("truncate -s 8M {image} && mkfs.ext4 -q -F -m 0 {image} && mount -o loop {image} {volume}")
        }
    };
    let script = format!("{mount} || exit 77; exec \"$0\" --exact shared_dirs::full_volume::tests::{name} --nocapture");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(std::env::current_exe().unwrap()).env(VOLUME, &at);
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{kind:?}: {}", String::from_utf8_lossy(&output.stderr))
        }
        other => eprintln!("SKIPPED: {kind:?}: this user may not mount such a volume: {other:?}"),
    }
}

fn used(volume: &Path, name: &str, days: u32) {
    File::create(volume.join(marker(name))).unwrap().set_modified(SystemTime::now() - days * DAY).unwrap();
}

/// Makes small files until there is no room for more.
fn fill(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for size in [8192, 1] {
        let write = |number: u64| fs::write(folder.join(format!("{size}-{number}")), vec![1; size]).err();
        assert!(is_full(&(0..).find_map(write).unwrap()));
    }
}

/// Makes chains of folders until there is no room for more.
fn fill_with_folders(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let error = (0..).find_map(|number: u64| fs::create_dir_all(folder.join(format!("{number}/a/b/c/d/e"))).err());
    assert!(is_full(&error.unwrap()));
    fill(folder);
}

fn is_emptied(volume: &Path, fill: impl Fn(&Path), with_trash: bool) {
    let own = volume.join("job-3");
    used(volume, "job-1", 2);
    used(volume, "job-2", 0);
    fs::create_dir(volume.join("job-2")).unwrap();
    if with_trash {
        fs::create_dir(volume.join("removing")).unwrap();
    }
    fill(&volume.join("job-1"));
    assert!(is_full(&make(&own, None).unwrap_err()));
    make(&own, Some(DAY)).unwrap();
    assert!(own.is_dir() && volume.join("job-2").is_dir() && volume.join(marker("job-3")).is_file());
    assert!(!volume.join("job-1").exists());
}

#[test]
fn in_a_full_volume_expired_folders_are_removed() {
    let name = "in_a_full_volume_expired_folders_are_removed";
    with_volume(Kind::Inodes, name, |volume| is_emptied(volume, fill, true));
    with_volume(Kind::Ext4, name, |volume| is_emptied(volume, fill, true));
}

#[test]
fn without_space_for_the_trash_too() {
    let name = "without_space_for_the_trash_too";
    with_volume(Kind::Inodes, name, |volume| is_emptied(volume, fill, false));
    with_volume(Kind::Ext4, name, |volume| is_emptied(volume, fill, false));
}

#[test]
fn without_space_for_names_in_the_trash_too() {
    let name = "without_space_for_names_in_the_trash_too";
    with_volume(Kind::Inodes, name, |volume| is_emptied(volume, fill_with_folders, true));
    with_volume(Kind::Ext4, name, |volume| is_emptied(volume, fill_with_folders, true));
}

#[test]
fn folders_that_have_not_expired_stay_and_are_reported() {
    for kind in [Kind::Inodes, Kind::Ext4] {
        with_volume(kind, "folders_that_have_not_expired_stay_and_are_reported", |volume| {
            let own = volume.join("job-3");
            used(volume, "job-1", 2);
            fill(&volume.join("job-1"));
            let files = fs::read_dir(volume.join("job-1")).unwrap().count();
            let error = make(&own, Some(30 * DAY)).unwrap_err();
            assert!(is_full(&error));
            let text = error.to_string();
            for part in [
                "The volume is full (",
                " inodes free",
                "720 h (`keep_shared`)",
                "The largest of them holds",
                "Enlarge the",
            ] {
                assert!(text.contains(part), "{text}");
            }
            // Whose job it is, is nobody else's business.
            assert!(!text.contains("job-1"), "{text}");
            assert_eq!(fs::read_dir(volume.join("job-1")).unwrap().count(), files);
        });
    }
}

#[test]
fn a_folder_that_is_there_is_used_although_the_volume_is_full() {
    with_volume(Kind::Inodes, "a_folder_that_is_there_is_used_although_the_volume_is_full", |volume| {
        let own = volume.join("job-1");
        make(&own, Some(DAY)).unwrap();
        fs::remove_file(volume.join(marker("job-1"))).unwrap();
        fill(&own);
        make(&own, Some(DAY)).unwrap();
        assert!(!volume.join(marker("job-1")).exists());
    });
}

#[test]
fn other_reasons_have_their_own_advice() {
    with_volume(Kind::ReadOnly, "other_reasons_have_their_own_advice", |volume| {
        let text = make(&volume.join("job-1"), Some(DAY)).unwrap_err().to_string();
        assert!(text.contains("read-only") && !text.contains("full"), "{text}");
    });
    let denied = |errno: Errno| explained(Path::new("/proc/job-1"), Some(DAY), errno.into());
    for errno in [Errno::ACCESS, Errno::PERM] {
        let text = denied(errno).to_string();
        assert!(text.contains("may not write there; /proc belongs to user 0"), "{text}");
    }
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MLINK] {
        let error = denied(errno);
        assert!(is_full(&error) && error.to_string().contains("The volume is full"));
        assert!(error.get_ref().and_then(Error::source).is_some());
    }
    assert_eq!(denied(Errno::IO).to_string(), io::Error::from(Errno::IO).to_string());
}

#[test]
fn sizes_are_told_in_units() {
    for (bytes, told) in
        [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (16 << 20, "16 MiB"), (u64::MAX, "16777215 TiB")]
    {
        assert_eq!(size(bytes), told);
    }
}
