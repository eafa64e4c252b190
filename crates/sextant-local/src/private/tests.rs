use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use rustix::fs::mknodat;
use tempfile::TempDir;

use super::*;

/// An unprivileged user, who is nobody else.
const NOBODY: u32 = 65534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether another user's things can be made here.
fn others() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can make things that belong to another user");
    }
    root
}

fn refused(path: &Path) -> String {
    Dir::at(path, Missing::Create).expect_err("refused").to_string()
}

fn made(path: &Path) -> Dir {
    Dir::at(path, Missing::Create).unwrap().unwrap()
}

#[test]
fn a_missing_folder_is_made_for_this_user_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b/sextant-x");
    assert!(Dir::at(&path, Missing::Leave).unwrap().is_none());
    assert!(!place.path().join("a").exists());
    made(&path);
    made(&path);
    for each in ["a", "a/b", "a/b/sextant-x"] {
        assert_eq!(fs::metadata(place.path().join(each)).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn a_folder_that_others_may_look_into_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sextant-x");
    fs::create_dir(&path).unwrap();
    for mode in [0o777, 0o1777, 0o770, 0o750, 0o705, 0o701, 0o710, 0o720, 0o702] {
        set_mode(&path, mode);
        let said = refused(&path);
        assert!(said.contains(&format!("mode {mode:o}")) && said.contains("chmod 700"), "{said}");
    }
    set_mode(&path, 0o700);
    made(&path);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(refused(&path).contains("can't be used"));
}

#[test]
fn a_link_in_its_place_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sextant-x");
    made(&place.path().join("other"));
    symlink(place.path().join("other"), &path).unwrap();
    assert!(refused(&path).contains("is a link"));
    assert!(Dir::at(&path, Missing::Leave).is_err());
}

#[test]
fn a_path_that_others_can_change_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let parent = place.path().join("parent");
    fs::create_dir(&parent).unwrap();
    let path = parent.join("inner/sextant-x");
    made(&path);
    for mode in [0o777, 0o775, 0o757, 0o2775] {
        set_mode(&parent, mode);
        let said = refused(&path);
        assert!(said.contains(&format!("mode {mode:o}")) && said.contains("chmod go-w"), "{said}");
    }
    // Everybody may make things in a sticky one, but not replace those of others.
    set_mode(&parent, 0o1777);
    made(&path);
}

#[test]
fn links_on_the_way_are_followed_where_nobody_else_can_change_them() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    made(&at("real/inner/sextant-x"));
    symlink(at("real"), at("absolute")).unwrap();
    symlink("real/../real/inner", at("relative")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let real = fs::metadata(at("real/inner/sextant-x")).unwrap().ino();
    for path in ["absolute/inner/sextant-x", "relative/sextant-x", "absolute/../absolute/./inner/sextant-x"] {
        let dir = made(&at(path));
        assert_eq!(fstat(&dir).unwrap().st_ino, real, "{path}");
    }
    assert!(refused(&at("loop/sextant-x")).contains("links"));
    fs::create_dir(at("open")).unwrap();
    set_mode(&at("open"), 0o777);
    symlink(at("open"), at("to-open")).unwrap();
    assert!(refused(&at("to-open/sextant-x")).contains("open belongs"));
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    if !others() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    made(&at("own/sextant-x"));
    chown(at("own/sextant-x"), Some(NOBODY), None).unwrap();
    let said = refused(&at("own/sextant-x"));
    assert!(said.contains("belongs to user 65534") && said.contains("Remove it"), "{said}");
    made(&at("theirs/sextant-x"));
    chown(at("theirs"), Some(NOBODY), None).unwrap();
    assert!(refused(&at("theirs/sextant-x")).contains("theirs belongs to user 65534"));
    // A link that another user has put into a sticky folder.
    set_mode(place.path(), 0o1777);
    made(&at("real/sextant-x"));
    symlink(at("real"), at("link")).unwrap();
    made(&at("link/sextant-x"));
    std::os::unix::fs::lchown(at("link"), Some(NOBODY), None).unwrap();
    assert!(refused(&at("link/sextant-x")).contains("link belongs to user 65534"));
}

/// A folder with things that somebody has planted at the name `file`, one after the other.
fn planted(check: impl Fn(&Dir, &str)) {
    let place = tempfile::tempdir().unwrap();
    let precious = place.path().join("precious");
    let plant = |what: &str, place: &TempDir| {
        fs::write(&precious, "kept").unwrap();
        let own = made(&place.path().join(what));
        let file = own.path().join("file");
        match what {
            "link" => symlink(&precious, &file).unwrap(),
            "hard" => fs::hard_link(&precious, &file).unwrap(),
            "pipe" => mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
            "folder" => fs::create_dir(&file).unwrap(),
            _ => {
                fs::write(&file, "theirs").unwrap();
                chown(&file, Some(NOBODY), None).unwrap();
            }
        }
        own
    };
    for what in ["link", "hard", "pipe", "folder", "owner"] {
        if what != "owner" || others() {
            check(&plant(what, &place), what);
            assert_eq!(fs::read_to_string(&precious).unwrap(), "kept", "{what}");
        }
    }
}

#[test]
fn planted_files_are_not_read() {
    planted(|own, what| {
        assert!(own.read("file").is_err(), "{what}");
        assert!(own.open_lock("file").is_err(), "{what}");
        assert!(own.create("file").is_err(), "{what}");
    });
}

#[test]
fn planted_files_are_replaced_and_not_written_to() {
    planted(|own, what| {
        let replaced = own.replace("file", "new");
        assert_eq!(replaced.is_ok(), what != "folder", "{what}: {replaced:?}");
        if what != "folder" {
            assert_eq!(own.read("file").unwrap(), "new");
            assert_eq!(fs::metadata(own.path().join("file")).unwrap().mode() & 0o7777, 0o600);
        }
        assert_eq!(own.names().unwrap().len(), 1, "nothing else is left");
    });
}

#[test]
fn a_planted_folder_is_put_aside() {
    planted(|own, _| {
        let new = own.make_subfolder("file").unwrap();
        assert_eq!(new.names().unwrap(), [""; 0]);
        assert_eq!(fs::metadata(new.path()).unwrap().mode() & 0o7777, 0o700);
    });
}

#[test]
fn a_subfolder_is_this_users_and_its_mode_is_set_right() {
    let place = tempfile::tempdir().unwrap();
    let own = made(&place.path().join("own"));
    own.make_subfolder("run").unwrap().replace("exit", "code 0").unwrap();
    for mode in [0o000, 0o777, 0o500] {
        set_mode(&own.path().join("run"), mode);
        assert_eq!(own.subfolder("run").unwrap().read("exit").unwrap(), "code 0");
        assert_eq!(fs::metadata(own.path().join("run")).unwrap().mode() & 0o777, 0o700);
    }
    symlink("run", own.path().join("link")).unwrap();
    assert!(own.subfolder("link").is_err());
    if others() {
        chown(own.path().join("run"), Some(NOBODY), None).unwrap();
        assert!(own.subfolder("run").unwrap_err().to_string().contains("65534"));
    }
}
