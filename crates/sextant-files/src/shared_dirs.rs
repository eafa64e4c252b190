//! The folders that the runs of one vantage6 job share. Nothing shows when a job is over: it may get another run while any of its runs is
//! in progress anywhere. Therefore a folder that no run has used for a long time is removed, in portions, alongside later runs.
//!
//! A file beside the folder (`job-17.9.used`) records by its modification time when the folder was last used. No algorithm can reach this
//! file, whereas an algorithm may own the folder itself and set its time to any value.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens, mkdirat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::remove_tree::{Budget, Emptied, Next, Trash, for_each_entry, reopen, set_mode};

pub mod full_volume;

/// The folder for entries that are being removed, beside those of the jobs.
pub const REMOVING: &CStr = c"removing";
/// The suffix of the file that records when a folder was last used.
const USED: &str = ".used";
/// The limits of one sweep. The next sweep continues.
const ENTRIES: u64 = 2_000_000;
const TIME: Duration = Duration::from_secs(600);
/// Images run as any user: all users in the pod may write, and remove their own files.
const EVERYBODY: Mode = Mode::from_raw_mode(0o1777);
/// 2026-01-01. A clock before this date is not set and says nothing about a folder's age.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_767_225_600);

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// How many folders of jobs were moved to the trash.
    pub put_aside: u64,
    /// How many folders could not be moved, and why the first of them could not.
    pub stuck: Option<(u64, io::Error)>,
    /// The result of emptying the trash.
    pub emptied: Emptied,
}

impl SweepReport {
    fn record_failure(&mut self, error: io::Error) {
        self.stuck.get_or_insert((0, error)).0 += 1;
    }

    /// Logs what was removed and what could not be removed.
    fn log(&self, place: &Path) {
        let Emptied { removed, unfinished, .. } = self.emptied;
        if removed > 0 {
            let rest = if unfinished { "; later runs remove the rest" } else { "" };
            tracing::info!("Removed {removed} files and folders that earlier jobs left in {}{rest}", place.display());
        }
        self.warn(place);
    }

    /// Logs what could not be removed.
    pub fn warn(&self, place: &Path) {
        for (count, error) in self.stuck.iter().chain(&self.emptied.stuck) {
            tracing::warn!(
                "Could not remove {count} files or folders that earlier runs left in {}: {error}. They use disk space; later runs retry",
                place.display()
            );
        }
    }
}

/// Creates the folder of a job for all users of a pod, and marks it as used. If the volume is full, first removes folders that were not
/// used for `keep`.
///
/// # Errors
/// The folder can't be created; the message says what to do. A folder that can't be marked is used anyway.
pub fn make(own: &Path, keep: Option<Duration>) -> io::Result<()> {
    let both = || make_parent(own).and_then(|()| mark_own(own)).and_then(|()| make_own(own));
    let made = both().or_else(|error| match keep {
        Some(keep) if full_volume::is_full(&error) => full_volume::retry(own, keep, both),
        _ => Err(error),
    });
    let made = match made {
        // The volume may only lack room for the mark.
        Err(error) if full_volume::is_full(&error) && make_own(own).is_ok() => {
            warn_unmarked(own, &error);
            Ok(())
        }
        made => made,
    };
    made.map_err(|error| full_volume::explained_with_usage(own, keep, error))
}

fn make_parent(own: &Path) -> io::Result<()> {
    let (parent, _) = split(own)?;
    std::fs::create_dir_all(parent)?;
    // Created now, so that it exists when the volume is full.
    let _ = Trash::open(open(parent)?.as_fd(), REMOVING);
    Ok(())
}

/// Marks the folder as used. Returns an error only if there is no room for the mark.
fn mark_own(own: &Path) -> io::Result<()> {
    let (parent, name) = split(own)?;
    match mark(open(parent)?.as_fd(), text(name)?) {
        Err(error) if full_volume::is_full(&error) => Err(error),
        Err(error) => {
            warn_unmarked(own, &error);
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn warn_unmarked(own: &Path, error: &io::Error) {
    tracing::warn!("Could not mark {} as used: {error}. It may be removed too early", own.display());
}

fn make_own(own: &Path) -> io::Result<()> {
    let (parent, name) = split(own)?;
    let (parent, name) = (open(parent)?, text(name)?);
    match mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(&parent, name, flags, Mode::empty())?;
    if Mode::from_raw_mode(fstat(&folder)?.st_mode) == EVERYBODY {
        return Ok(());
    }
    // An algorithm that owns the folder may have changed its mode.
    Ok(set_mode(folder.as_fd(), EVERYBODY)?)
}

/// Removes the expired folders of other jobs in a detached thread, which ends with the process.
pub fn sweep_beside(own: PathBuf, keep: Duration) {
    let sweep = move || {
        // The time is the file system's, which several machines may share.
        if let Err(error) = sweep_siblings(&own, keep, (ENTRIES, TIME), mark) {
            tracing::warn!("Could not look for folders of old jobs beside {}: {error}", own.display());
        }
    };
    let thread = std::thread::Builder::new().name("sweep".into()).stack_size(256 * 1024).spawn(sweep);
    if let Err(error) = thread {
        tracing::warn!("Not looking for folders of old jobs: {error}");
    }
}

/// Removes the expired folders of other jobs within a budget, and logs the result. `now` returns the time; its arguments are the
/// folder above the jobs' and the name of this job's folder.
fn sweep_siblings(
    own: &Path,
    keep: Duration,
    (entries, time): (u64, Duration),
    now: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<SystemTime>,
) -> io::Result<SweepReport> {
    let (parent, name) = split(own)?;
    let (folder, name) = (open(parent)?, text(name)?);
    let kind = kind(name).ok_or_else(|| io::Error::other("its name is not the name of a job's folder"))?;
    let now = now(folder.as_fd(), name)?;
    let swept = sweep(folder.as_fd(), kind, keep, now, &mut Budget::new(entries, time))?;
    swept.log(parent);
    Ok(swept)
}

/// Marks a job's folder as used now, whether the folder exists or not. Returns the time by the clock of the file system.
///
/// # Errors
/// The mark can't be written.
pub fn mark(folder: BorrowedFd<'_>, name: &str) -> io::Result<SystemTime> {
    let used = marker(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let touch = |flags| {
        let file = openat(folder, &used, flags, Mode::RUSR | Mode::WUSR)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
        Ok::<_, Errno>(file)
    };
    // The mark may belong to another user, because of earlier settings, or not be a file. Replace it.
    let file = touch(flags).or_else(|error| {
        if full_volume::is_full(&error.into()) {
            return Err(error);
        }
        unlinkat(folder, &used, AtFlags::empty())?;
        touch(flags | OFlags::EXCL)
    })?;
    File::from(file).metadata()?.modified()
}

/// Moves folders of this kind that were not used for `keep` to the trash, and empties the trash within the budget.
///
/// # Errors
/// The folder can't be read. Entries that can't be removed stay for later sweeps.
pub fn sweep(
    folder: BorrowedFd<'_>,
    kind: &str,
    keep: Duration,
    now: SystemTime,
    budget: &mut Budget,
) -> io::Result<SweepReport> {
    let mut swept = SweepReport::default();
    let clock_is_set = now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now >= CLOCK_IS_SET);
    if clock_is_set {
        for_each_entry(reopen(folder)?.as_fd(), |name, _| {
            let Some(found) = name.to_str().ok().and_then(|name| Found::read(name, kind)) else { return Next::Go };
            match found.sweep(folder, keep, now) {
                Ok(SweepOutcome::PutAside) => swept.put_aside += 1,
                Ok(SweepOutcome::Left) => {}
                Err(error) => swept.record_failure(error),
            }
            Next::Go
        })?;
    }
    match Trash::open(folder, REMOVING) {
        Ok(trash) => swept.emptied = trash.empty(budget),
        // There was no room for the trash, so nothing was moved there.
        Err(error) if full_volume::is_full(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(swept)
}

/// An entry that a sweep handles. Entries with other names are left alone.
enum Found<'a> {
    /// The folder of a job.
    Job(&'a str),
    /// The mark of the folder of this name.
    Mark(&'a str),
    /// A folder that an earlier version was about to remove.
    Aside(&'a str),
}

enum SweepOutcome {
    Left,
    PutAside,
}

impl<'a> Found<'a> {
    fn read(name: &'a str, of: &str) -> Option<Self> {
        let is_job = |name| kind(name) == Some(of);
        if is_job(name) {
            return Some(Self::Job(name));
        }
        if let Some(job) = name.strip_suffix(USED) {
            return is_job(job).then_some(Self::Mark(job));
        }
        put_aside_by_process(name).is_some_and(is_job).then_some(Self::Aside(name))
    }

    fn sweep(self, folder: BorrowedFd<'_>, keep: Duration, now: SystemTime) -> io::Result<SweepOutcome> {
        match self {
            // Links are left alone. An algorithm can't create any here, but another program may.
            Self::Job(name) | Self::Aside(name) if !is_folder(folder, name) => Ok(SweepOutcome::Left),
            Self::Aside(name) => move_to_trash(folder, &CString::new(name)?).map(|_| SweepOutcome::PutAside),
            Self::Job(name) => match Age::of(folder, name, keep, now) {
                Age::Young => Ok(SweepOutcome::Left),
                // From an earlier version, or from a time when the clock was wrong: its time starts now.
                Age::Unknown => mark(folder, name).map(|_| SweepOutcome::Left),
                Age::Old => retire(folder, name, keep, now),
            },
            Self::Mark(name) => {
                let is_orphan = matches!(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
                // A run creates the mark before the folder, so only an old mark is an orphan.
                if is_orphan && matches!(Age::of(folder, name, keep, now), Age::Old) {
                    let _ = unlinkat(folder, marker(name), AtFlags::empty());
                }
                Ok(SweepOutcome::Left)
            }
        }
    }
}

/// How long a folder has been unused.
enum Age {
    Young,
    Old,
    /// Its mark is missing, not a file, or in the future.
    Unknown,
}

impl Age {
    fn of(folder: BorrowedFd<'_>, name: &str, keep: Duration, now: SystemTime) -> Self {
        let Ok(stat) = statat(folder, marker(name), AtFlags::SYMLINK_NOFOLLOW) else { return Self::Unknown };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Self::Unknown;
        }
        let used = u64::try_from(stat.st_mtime).ok().and_then(|seconds| {
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
        });
        // A time before 1970 counts as old.
        match now.duration_since(used.unwrap_or(SystemTime::UNIX_EPOCH)) {
            Ok(age) if age > keep => Self::Old,
            Ok(_) => Self::Young,
            Err(_) => Self::Unknown,
        }
    }
}

/// Moves an old folder to the trash. A run that needs it at this moment creates another one, or has just marked this one; in that case
/// the folder is moved back.
fn retire(folder: BorrowedFd<'_>, name: &str, keep: Duration, now: SystemTime) -> io::Result<SweepOutcome> {
    let as_c = CString::new(name)?;
    let Some((trash, taken)) = move_to_trash(folder, &as_c)? else { return Ok(SweepOutcome::Left) };
    if matches!(Age::of(folder, name, keep, now), Age::Old) {
        let _ = unlinkat(folder, marker(name), AtFlags::empty());
        return Ok(SweepOutcome::PutAside);
    }
    match trash.give_back(&taken, folder, &as_c) {
        Ok(()) => Ok(SweepOutcome::Left),
        // The run has created a new folder.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(SweepOutcome::PutAside),
        Err(error) => Err(error),
    }
}

/// Moves a folder into the trash; `None` if another sweep was faster, or if the folder itself became the trash.
fn move_to_trash<'a>(folder: BorrowedFd<'a>, name: &CStr) -> io::Result<Option<(Trash<'a>, CString)>> {
    let trash = match Trash::open(folder, REMOVING) {
        Ok(trash) => trash,
        // There is no room for a trash folder: this folder becomes the trash.
        Err(error) if full_volume::is_full(&error) => {
            renameat(folder, name, folder, REMOVING)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match trash.take(folder, name) {
        Ok(taken) => Ok(Some((trash, taken))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_folder(folder: BorrowedFd<'_>, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn marker(name: &str) -> String {
    format!("{name}{USED}")
}

/// Returns `job-` for `job-17.9.1767323045000000`, and for `job-17` of earlier versions; `None` for other names.
fn kind(name: &str) -> Option<&str> {
    let numbers = name.rfind('-')? + 1;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name[numbers..].split('.').all(is_number).then(|| &name[..numbers])
}

/// Returns `job-17` for `removing-123-job-17` of earlier versions.
fn put_aside_by_process(name: &str) -> Option<&str> {
    let (process, folder) = name.strip_prefix("removing-")?.split_once('-')?;
    (!process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())).then_some(folder)
}

fn split(own: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    own.parent().zip(own.file_name()).ok_or_else(|| io::Error::other("it is not a folder in another one"))
}

fn text(name: &std::ffi::OsStr) -> io::Result<&str> {
    name.to_str().ok_or_else(|| io::Error::other("its name is not text"))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests;
