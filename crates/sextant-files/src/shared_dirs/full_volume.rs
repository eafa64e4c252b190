//! Handles a full volume with folders of jobs. If an algorithm has filled the volume, nothing can be created in it, and the removal that
//! runs alongside later runs is never reached. The start of a run therefore removes expired folders first, for a limited time.
//!
//! Folders that have not expired stay even if the volume is full. Nothing shows that a job is over, and otherwise an algorithm could get
//! other jobs' files removed by filling the volume.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat, fstatvfs,
    futimens, openat2, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{open, sweep_siblings};
use crate::remove_tree::{Budget, Next, for_each_entry, reopen};

/// How long a start waits for room.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much is removed before the next check for room. A little room is enough to start; the rest is removed alongside the run.
const PORTION: (u64, Duration) = (20_000, Duration::from_secs(5));
/// How many consecutive portions may remove nothing: another pod may be removing the same folders.
const IDLE: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// How many entries are read, for how long and how deep, to find out what uses the space.
const LOOK: (u64, Duration) = (20_000, Duration::from_secs(2));
const DEPTH: u32 = 8;

/// Whether the error means that there is no room for another file or folder: no bytes, inodes, quota or links.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::TooManyLinks)
}

/// Removes expired folders until `attempt` finds room.
///
/// # Errors
/// The last error of `attempt`, if no expired folder is left, or after [`PATIENCE`].
pub fn retry(own: &Path, keep: Duration, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut idle = 0;
    loop {
        match attempt() {
            Err(error) if is_full(&error) && idle < IDLE && Instant::now() < until => {}
            result => return result,
        }
        match sweep_siblings(own, keep, PORTION, |folder, _| clock(folder)) {
            Ok(swept) if swept.put_aside + swept.emptied.removed > 0 => idle = 0,
            _ => {
                idle += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Returns the time of the file system. This needs no room on the volume.
fn clock(folder: BorrowedFd<'_>) -> io::Result<SystemTime> {
    let (now, as_it_is) = (Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }, Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    futimens(folder, &Timestamps { last_access: as_it_is, last_modification: now })?;
    std::fs::File::from(reopen(folder)?).metadata()?.modified()
}

/// Adds to the error what it means for a volume and what to do. `keep` is the time after which unused folders of jobs are removed.
pub fn explained(own: &Path, keep: Option<Duration>, error: io::Error) -> io::Error {
    explained_with(own, keep, error, None)
}

/// Like [`explained`], and adds what uses the space if the volume is full. This reads at most [`LOOK`] entries of the volume.
pub fn explained_with_usage(own: &Path, keep: Option<Duration>, error: io::Error) -> io::Error {
    let usage = if is_full(&error) { largest_beside(own) } else { None };
    explained_with(own, keep, error, usage)
}

fn explained_with(own: &Path, keep: Option<Duration>, error: io::Error, largest: Option<Usage>) -> io::Error {
    let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
        _ if is_full(&error) => full(own, keep, largest),
        Some(Errno::ROFS) => {
            "The volume is mounted read-only: check `readOnly` and the access modes of the volume, and whether its \
             file system was remounted read-only after an error"
                .into()
        }
        Some(Errno::ACCESS | Errno::PERM) => forbidden(own),
        _ => return error,
    };
    io::Error::new(error.kind(), Explained { advice, error })
}

#[derive(Debug)]
struct Explained {
    advice: String,
    error: io::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.error, self.advice)
    }
}

impl std::error::Error for Explained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Describes what is full, what uses the space, and what to do.
fn full(own: &Path, keep: Option<Duration>, largest: Option<Usage>) -> String {
    let room = nearest(own).and_then(|(_, folder)| fstatvfs(folder).ok()).map_or(String::new(), |stat| {
        let block = stat.f_frsize.max(1);
        format!(
            " ({} of {} free; {} of {} inodes free; a quota may be lower)",
            size(stat.f_bavail.saturating_mul(block)),
            size(stat.f_blocks.saturating_mul(block)),
            stat.f_favail,
            stat.f_files
        )
    });
    let keep =
        keep.map_or("`keep_shared`".into(), |keep| format!("{} h (`keep_shared`)", keep.as_secs().div_ceil(3600)));
    let largest = largest.map_or(String::new(), |usage| {
        format!(" The largest of them holds at least {} in {} files.", size(usage.bytes), usage.files)
    });
    format!(
        "The volume is full{room}. Folders of jobs are removed only after no run has used them for {keep}.{largest} \
         Enlarge the volume, remove folders of finished jobs, or lower `keep_shared`"
    )
}

/// Returns the usage of the largest folder. Its name goes only to this container's log, because the folder may belong to another
/// researcher's job.
fn largest_beside(own: &Path) -> Option<Usage> {
    let (path, folder) = nearest(own)?;
    let (name, usage) = Usage::largest(folder.as_fd())?;
    tracing::warn!("{} holds at least {} in {} files", path.join(name).display(), size(usage.bytes), usage.files);
    Some(usage)
}

fn forbidden(own: &Path) -> String {
    let owner = nearest(own).and_then(|(path, folder)| {
        let stat = fstat(folder).ok()?;
        Some(format!(
            "{} belongs to user {} and group {} and has mode {:o}",
            path.display(),
            stat.st_uid,
            stat.st_gid,
            stat.st_mode & 0o7777
        ))
    });
    format!(
        "User {} may not write there{}: change that on the volume (a network file system may map root to another user)",
        geteuid().as_raw(),
        owner.map_or(String::new(), |owner| format!("; {owner}"))
    )
}

/// Returns the nearest existing folder above the job's.
fn nearest(own: &Path) -> Option<(&Path, OwnedFd)> {
    own.ancestors().skip(1).find_map(|path| Some((path, open(path).ok()?)))
}

/// The disk usage of a folder, as far as it was read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Usage {
    bytes: u64,
    files: u64,
}

impl Usage {
    /// Returns the subfolder with the highest measured usage.
    fn largest(folder: BorrowedFd<'_>) -> Option<(String, Self)> {
        let mut budget = Budget::new(LOOK.0, LOOK.1);
        let mut largest = None;
        let look = for_each_entry(reopen(folder).ok()?.as_fd(), |name, kind| {
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                let mut usage = Self::default();
                // No folder may use up the whole budget.
                budget.spend_share((LOOK.0 / 4, LOOK.1 / 4), |turn| usage.add(folder, name, DEPTH, turn));
                largest = largest.take().max(Some((usage, name.to_string_lossy().into_owned())));
            }
            if budget.is_spent() { Next::Stop } else { Next::Go }
        });
        look.ok()?;
        largest.filter(|(usage, _)| usage.files > 0).map(|(usage, name)| (name, usage))
    }

    fn add(&mut self, parent: BorrowedFd<'_>, name: &std::ffi::CStr, depth: u32, budget: &mut Budget) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
        let Ok(folder) = openat2(parent, name, flags, Mode::empty(), resolve) else { return };
        let _ = for_each_entry(folder.as_fd(), |inner, kind| {
            if !budget.spend() {
                return Next::Stop;
            }
            if let Ok(stat) = statat(&folder, inner, AtFlags::SYMLINK_NOFOLLOW) {
                self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
                self.files += 1;
            }
            if kind == FileType::Directory && depth > 0 {
                self.add(folder.as_fd(), inner, depth - 1, budget);
            }
            Next::Go
        });
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit =
        UNITS.iter().enumerate().rev().find(|&(power, _)| bytes >> (10 * power) > 0).map_or(0, |(power, _)| power);
    format!("{} {}", bytes >> (10 * unit), UNITS[unit])
}

#[cfg(test)]
mod tests;
