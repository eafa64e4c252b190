//! A folder that only this user may access, and the files in it.
//!
//! No other user may be able to replace a folder above it: that user could read inputs and forge results. Below it, all access is by
//! the folder's handle and a single name. New files are created with `O_EXCL` and renamed into place. Only regular files of this user
//! without further hard links are read.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use sextant_files::remove_tree;
use sextant_files::shared_dirs::REMOVING;

/// The most links in a path, as for the kernel.
const LINKS: u32 = 40;
/// How many bytes are read of one of our files, which have a line or two.
const MOST: u64 = 64 * 1024;
/// The permissions of group and others.
const OTHERS: Mode = Mode::RWXG.union(Mode::RWXO);

/// Why a folder can't be used; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("{} can't be {what}: {source}", .path.display())]
    Unusable { path: PathBuf, what: &'static str, source: io::Error },
    #[error(
        "{} belongs to user {owner} (mode {mode:o}), and this process is user {me}: its owner could read inputs and \
         forge results. Remove it, after you have checked its content",
        .path.display()
    )]
    OfAnother { path: PathBuf, owner: u32, mode: u32, me: u32 },
    #[error(
        "{} is of user {owner} with mode {mode:o}, so other users may read it or write to it. Remove it; or, if you \
         know that everything in it belongs to this node, `chmod 700` it",
        .path.display()
    )]
    Open { path: PathBuf, owner: u32, mode: u32 },
    #[error("{} is a link (of user {owner}) where a folder should be. Remove the link", .path.display())]
    Link { path: PathBuf, owner: u32 },
    #[error(
        "{} belongs to user {owner} and has mode {mode:o}: users other than root and this one ({me}) may replace \
         what is in it. Remove that right (`chmod go-w`)",
        .path.display()
    )]
    Replaceable { path: PathBuf, owner: u32, mode: u32, me: u32 },
    #[error("{} has more than {LINKS} links", .0.display())]
    Links(PathBuf),
}

/// What to do about missing folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Create,
    Leave,
}

/// An open folder of this user.
#[derive(Debug)]
pub struct Dir {
    handle: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the folder at a path after checking each folder above it; `None` if it is missing and must not be created.
    ///
    /// # Errors
    /// Another user could read, write or replace it, or it can't be created or opened.
    pub fn at(path: &Path, missing: Missing) -> Result<Option<Self>, Untrusted> {
        let unusable = |what, error: Errno| Untrusted::Unusable { path: path.into(), what, source: error.into() };
        let absolute = std::path::absolute(path).map_err(|source| Untrusted::Unusable {
            path: path.into(),
            what: "found",
            source,
        })?;
        let mut here = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| unusable("opened", error))?;
        let mut so_far = PathBuf::from("/");
        judge(&so_far, &fstat(&here).map_err(|error| unusable("inspected", error))?)?;
        let mut rest = components(&absolute);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let at = if name == ".." { parent(&so_far) } else { so_far.join(&name) };
            let unusable = |what, error: Errno| Untrusted::Unusable { path: at.clone(), what, source: error.into() };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = match openat(&here, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) if missing == Missing::Leave => return Ok(None),
                Err(Errno::NOENT) => {
                    match mkdirat(&here, &name, Mode::RWXU) {
                        // If another process was faster, the owner is checked below.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(unusable("made", error)),
                    }
                    openat(&here, &name, flags, Mode::empty())
                }
                result => result,
            };
            let found = found.map_err(|error| unusable("opened", error))?;
            let stat = fstat(&found).map_err(|error| unusable("inspected", error))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    if rest.is_empty() {
                        return Err(Untrusted::Link { path: at, owner: stat.st_uid });
                    }
                    if !is_ours_or_roots(&stat) {
                        return Err(replaceable(&at, &stat));
                    }
                    links += 1;
                    if links > LINKS {
                        return Err(Untrusted::Links(absolute));
                    }
                    let to = readlinkat(&found, c"", Vec::new()).map_err(|error| unusable("followed", error))?;
                    let to = PathBuf::from(OsString::from_vec(to.into_bytes()));
                    if to.is_absolute() {
                        here = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                            .map_err(|error| unusable("opened", error))?;
                        so_far = PathBuf::from("/");
                    }
                    rest.extend(components(&to));
                }
                FileType::Directory => {
                    if rest.is_empty() {
                        judge_own(&at, &stat)?;
                        let handle = remove_tree::reopen(found.as_fd()).map_err(|error| unusable("opened", error))?;
                        return Ok(Some(Self { handle, path: absolute }));
                    }
                    judge(&at, &stat)?;
                    (here, so_far) = (found, at);
                }
                _ => return Err(unusable("used", Errno::NOTDIR)),
            }
        }
        Err(unusable("used", Errno::INVAL))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a subfolder, which must belong to this user. Restores its mode if a program of this user has changed it.
    pub fn subfolder(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&self.handle, name, flags, Mode::empty())?;
        let stat = fstat(&found)?;
        if !is_ours(&stat) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it belongs to user {}, who could read and forge what is in it: remove it", stat.st_uid),
            ));
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode & (Mode::RWXU | OTHERS) != Mode::RWXU {
            remove_tree::set_mode(found.as_fd(), Mode::RWXU)?;
        }
        Ok(Self { handle: remove_tree::reopen(found.as_fd())?, path: self.path.join(name) })
    }

    /// Creates a subfolder and puts anything with its name aside.
    pub fn make_subfolder(&self, name: &str) -> io::Result<Self> {
        self.put_aside(name)?;
        mkdirat(&self.handle, name, Mode::RWXU)?;
        self.subfolder(name)
    }

    /// Puts any entry aside for later removal. A missing entry is not an error.
    pub fn put_aside(&self, name: &str) -> io::Result<()> {
        if matches!(statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
            return Ok(());
        }
        // Algorithms may have replaced the trash by something that is not a folder.
        remove_tree::remove_non_directory(self.as_fd(), REMOVING)?;
        remove_tree::move_to_trash(self.as_fd(), REMOVING, &CString::new(name)?)
    }

    /// Puts an entry aside unless it is a regular file; algorithms may have created it.
    pub fn put_aside_unless_file(&self, name: &str) -> io::Result<()> {
        match statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => self.put_aside(name),
            _ => Ok(()),
        }
    }

    /// Returns the names of its entries that are valid UTF-8.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        remove_tree::for_each_entry(remove_tree::reopen(self.as_fd())?.as_fd(), |name, _| {
            names.extend(name.to_str().ok().map(str::to_owned));
            remove_tree::Next::Go
        })?;
        Ok(names)
    }

    /// Whether it has an entry of this name.
    pub fn has(&self, name: &str) -> bool {
        statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Creates a new file that no other user may read.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Writes a file atomically, replacing the file of that name.
    pub fn replace(&self, name: &str, content: &str) -> io::Result<()> {
        let new = format!("{name}.{:016x}", rand::random::<u64>());
        self.create(&new)?.write_all(content.as_bytes())?;
        let renamed = renameat(&self.handle, &new, &self.handle, name);
        if renamed.is_err() {
            let _ = unlinkat(&self.handle, &new, AtFlags::empty());
        }
        Ok(renamed?)
    }

    /// Reads a file's text.
    pub fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.open(name)?.take(MOST).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Opens a file for reading.
    pub fn open(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDONLY)
    }

    /// Opens a file for locking, and creates it if needed.
    pub fn open_lock(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // NONBLOCK: opening a pipe must not wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fstat(&file)?;
        let wrong = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            "it is not a file".to_owned()
        } else if !is_ours(&stat) {
            format!("it belongs to user {}", stat.st_uid)
        } else if stat.st_nlink > 1 {
            "it is a file that also has another name elsewhere (a hard link)".to_owned()
        } else {
            return Ok(file.into());
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, wrong))
    }

    /// Restores the folder's mode if a program of this user has changed it.
    pub fn restore_mode(&self) {
        // If this fails, the next operation reports it.
        let _ = fchmod(&self.handle, Mode::RWXU);
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Returns the names of a path, last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw()
}

fn is_ours_or_roots(stat: &Stat) -> bool {
    stat.st_uid == 0 || is_ours(stat)
}

/// Checks a folder on the path: only root and this user may replace its entries. In a sticky folder all users may create entries but only
/// replace their own; the owner of the next folder is checked in turn.
fn judge(path: &Path, stat: &Stat) -> Result<(), Untrusted> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    let is_writable = mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX);
    if is_ours_or_roots(stat) && !is_writable { Ok(()) } else { Err(replaceable(path, stat)) }
}

/// Checks the folder itself.
fn judge_own(path: &Path, stat: &Stat) -> Result<(), Untrusted> {
    let (path, owner, mode) = (path.to_owned(), stat.st_uid, stat.st_mode & 0o7777);
    if !is_ours(stat) {
        return Err(Untrusted::OfAnother { path, owner, mode, me: geteuid().as_raw() });
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(OTHERS) {
        return Err(Untrusted::Open { path, owner, mode });
    }
    Ok(())
}

fn replaceable(path: &Path, stat: &Stat) -> Untrusted {
    let mode = stat.st_mode & 0o7777;
    Untrusted::Replaceable { path: path.into(), owner: stat.st_uid, mode, me: geteuid().as_raw() }
}

#[cfg(test)]
mod tests;
