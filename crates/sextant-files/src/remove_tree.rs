//! Removes folders with any content: a million files, a hundred thousand nested folders, modes that forbid access, and programs that
//! continue to write meanwhile.
//!
//! [`Trash`] is a folder of our own. A folder to remove is renamed into it, and so is each folder found inside, so the removal never
//! reads deeper than one level below the trash. Stack and open files therefore do not depend on the depth, and no path is longer than one
//! name. The file system holds all progress: if a process is killed, the next one continues. Several processes may work at once.
//!
//! All access is by handle and a single name. Links are removed and never followed; mounts are left alone.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, chmodat, fchmod, fstat, mkdirat, openat,
    openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// How many entries, and how much time, one folder of the trash gets before the next one: a folder that a program keeps filling must not
/// hold up the others.
const SHARE: (u64, Duration) = (100_000, Duration::from_secs(5));
/// How many of the folders that were just moved up are remembered. The others are found by reading the trash again.
const PENDING: usize = 1024;
/// How many bytes of a folder's listing are read at once.
const BUFFER: usize = 32 * 1024;
/// An empty trash of this size is recreated: some file systems never shrink a folder, and read all of it each time.
const LARGE: i64 = 1024 * 1024;

/// The limit of a removal, in entries and time.
#[derive(Debug)]
pub struct Budget {
    entries: u64,
    until: Instant,
}

impl Budget {
    /// Creates a budget of this many entries, which expires after this time.
    pub fn new(entries: u64, time: Duration) -> Self {
        Self { entries, until: Instant::now() + time }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.entries == 0 || Instant::now() >= self.until
    }

    /// Takes one entry; returns `false` if the budget is used up.
    pub(crate) fn spend(&mut self) -> bool {
        let may = !self.is_spent();
        self.entries -= u64::from(may);
        may
    }

    /// Lets `work` spend a limited share of the budget.
    pub(crate) fn spend_share(&mut self, (entries, time): (u64, Duration), work: impl FnOnce(&mut Self)) {
        let given = self.entries.min(entries);
        let mut turn = Self { entries: given, until: self.until.min(Instant::now() + time) };
        work(&mut turn);
        self.entries -= given - turn.entries;
    }
}

/// The result of emptying the trash.
#[derive(Debug, Default)]
pub struct Emptied {
    /// How many files and folders were removed.
    pub removed: u64,
    /// How many files and folders could not be removed, and why the first of them could not.
    pub stuck: Option<(u64, io::Error)>,
    /// Whether the budget ended first.
    pub unfinished: bool,
    /// How many folders were moved up into the trash.
    moved: u64,
}

impl Emptied {
    fn record_failure(&mut self, error: Errno) {
        self.stuck.get_or_insert_with(|| (0, error.into())).0 += 1;
    }
}

/// A folder whose content is to be removed.
#[derive(Debug)]
pub struct Trash<'a> {
    parent: BorrowedFd<'a>,
    name: &'static CStr,
    folder: OwnedFd,
}

impl<'a> Trash<'a> {
    /// Opens the folder of this name, and creates it if needed.
    ///
    /// # Errors
    /// The folder can't be created or opened, or is not a folder.
    pub fn open(parent: BorrowedFd<'a>, name: &'static CStr) -> io::Result<Self> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { parent, name, folder: subfolder(parent, name)? })
    }

    /// Moves any entry of a folder into the trash. Returns its name there.
    ///
    /// # Errors
    /// [`Errno::NOENT`] if the entry does not exist (any more), and other errors of moving it.
    pub fn take(&self, from: BorrowedFd<'_>, name: &CStr) -> Result<CString, Errno> {
        let fresh = fresh_name();
        match renameat(from, name, &self.folder, &fresh) {
            // Moving a folder changes its `..`, which requires write permission on the folder.
            Err(Errno::ACCESS) => {
                subfolder(from, name)?;
                renameat(from, name, &self.folder, &fresh)?;
            }
            result => result?,
        }
        Ok(fresh)
    }

    /// Moves an entry back, unless its old name is in use again.
    ///
    /// # Errors
    /// The entry can't be moved.
    pub fn give_back(&self, taken: &CStr, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        Ok(renameat_with(&self.folder, taken, to, name, RenameFlags::NOREPLACE)?)
    }

    /// Removes the content, within the budget. The next caller removes the rest.
    pub fn empty(&self, budget: &mut Budget) -> Emptied {
        let mut emptied = Emptied::default();
        loop {
            let before = (emptied.removed, emptied.moved);
            emptied.stuck = None;
            let found = self.pass(budget, &mut emptied).unwrap_or_else(|error| {
                emptied.record_failure(error);
                true
            });
            if emptied.unfinished {
                return emptied;
            }
            if !found {
                self.renew();
                return emptied;
            }
            if (emptied.removed, emptied.moved) == before {
                return emptied;
            }
        }
    }

    /// Processes each entry of the trash once. Returns whether there were any.
    fn pass(&self, budget: &mut Budget, emptied: &mut Emptied) -> Result<bool, Errno> {
        let reader = reopen(self.folder.as_fd())?;
        let mut found = false;
        for_each_entry(reader.as_fd(), |name, kind| {
            found = true;
            if !budget.spend() {
                emptied.unfinished = true;
                return Next::Stop;
            }
            match remove(self.folder.as_fd(), name, kind) {
                Removed::Gone => emptied.removed += 1,
                Removed::Not(error) => emptied.record_failure(error),
                Removed::IsFilled => budget.spend_share(SHARE, |turn| self.work_through(name, turn, emptied)),
            }
            Next::Go
        })?;
        Ok(found)
    }

    /// Empties one folder of the trash, and the folders that are moved up from it.
    fn work_through(&self, name: &CStr, turn: &mut Budget, emptied: &mut Emptied) {
        let mut pending = vec![name.to_owned()];
        while let Some(name) = pending.pop() {
            match self.flatten(&name, &mut pending, turn, emptied) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => emptied.record_failure(error),
            }
            if turn.is_spent() {
                return;
            }
        }
    }

    /// Removes the content of one folder of the trash, moves its nonempty subfolders up, and removes the folder.
    fn flatten(
        &self,
        name: &CStr,
        pending: &mut Vec<CString>,
        turn: &mut Budget,
        emptied: &mut Emptied,
    ) -> Result<(), Errno> {
        let folder = subfolder(self.folder.as_fd(), name)?;
        for_each_entry(folder.as_fd(), |inner, kind| {
            if !turn.spend() {
                return Next::Stop;
            }
            match remove(folder.as_fd(), inner, kind) {
                Removed::Gone => emptied.removed += 1,
                Removed::Not(error) => emptied.record_failure(error),
                Removed::IsFilled => match self.take(folder.as_fd(), inner) {
                    Ok(taken) => {
                        emptied.moved += 1;
                        if pending.len() < PENDING {
                            pending.push(taken);
                        }
                    }
                    Err(Errno::NOENT) => {}
                    // There is no room for another name in the trash, so remove something further down first.
                    Err(Errno::NOSPC | Errno::DQUOT | Errno::MLINK) => {
                        if let Err(error) = clear_bottom(folder.as_fd(), inner, turn, emptied) {
                            emptied.record_failure(error);
                        }
                    }
                    Err(error) => emptied.record_failure(error),
                },
            }
            Next::Go
        })?;
        match remove(self.folder.as_fd(), name, FileType::Directory) {
            Removed::Gone => emptied.removed += 1,
            // Its budget is used up, something in it can't be removed (which is counted), or a program has filled it again.
            Removed::IsFilled => {}
            Removed::Not(error) => emptied.record_failure(error),
        }
        Ok(())
    }

    fn renew(&self) {
        if fstat(&self.folder).is_ok_and(|stat| stat.st_size >= LARGE)
            && unlinkat(self.parent, self.name, AtFlags::REMOVEDIR).is_ok()
        {
            // Recreated now, because a full file system may have no room for it later.
            let _ = mkdirat(self.parent, self.name, Mode::RWXU);
        }
    }
}

/// Moves an entry of a folder into the trash beside it. A missing entry is not an error.
///
/// # Errors
/// The entry can't be moved.
pub fn move_to_trash(parent: BorrowedFd<'_>, trash: &'static CStr, name: &CStr) -> io::Result<()> {
    match Trash::open(parent, trash)?.take(parent, name) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT) => {
            // The entry is gone, or another process recreated the trash at this moment.
            match Trash::open(parent, trash)?.take(parent, name) {
                Ok(_) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The result of removing one entry.
enum Removed {
    Gone,
    /// The entry is a folder that is not empty.
    IsFilled,
    Not(Errno),
}

fn remove(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Removed {
    if kind != FileType::Directory {
        match unlinkat(folder, name, AtFlags::empty()) {
            // Some file systems don't report the types of entries.
            Err(Errno::ISDIR) => {}
            Ok(()) | Err(Errno::NOENT) => return Removed::Gone,
            Err(error) => return Removed::Not(error),
        }
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Removed::Gone,
        Err(Errno::NOTEMPTY | Errno::EXIST) => Removed::IsFilled,
        Err(error) => Removed::Not(error),
    }
}

/// Removes the content of a folder, then that of its first nonempty subfolder, and so on down to the bottom. This creates no new name.
fn clear_bottom(parent: BorrowedFd<'_>, name: &CStr, turn: &mut Budget, emptied: &mut Emptied) -> Result<(), Errno> {
    let mut here = subfolder(parent, name)?;
    loop {
        let mut deeper = None;
        for_each_entry(here.as_fd(), |inner, kind| {
            if !turn.spend() {
                return Next::Stop;
            }
            match remove(here.as_fd(), inner, kind) {
                Removed::Gone => emptied.removed += 1,
                Removed::Not(error) => emptied.record_failure(error),
                Removed::IsFilled => _ = deeper.get_or_insert_with(|| inner.to_owned()),
            }
            Next::Go
        })?;
        match deeper {
            Some(inner) if !turn.is_spent() => here = subfolder(here.as_fd(), &inner)?,
            _ => return Ok(()),
        }
    }
}

/// Whether to continue with the next entry.
pub enum Next {
    /// Continue.
    Go,
    /// Stop.
    Stop,
}

/// Calls `with` for each entry of a folder. Only a portion of the listing is in memory at a time.
pub fn for_each_entry(folder: BorrowedFd<'_>, mut with: impl FnMut(&CStr, FileType) -> Next) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if let Next::Stop = with(name, entry.file_type()) {
            break;
        }
    }
    Ok(())
}

/// Removes an entry that should be a folder but is a file or a link.
///
/// # Errors
/// The entry can't be removed.
pub fn remove_non_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            Ok(unlinkat(parent, name, AtFlags::empty())?)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a subfolder for reading and changing, even if its owner has removed all permissions.
fn subfolder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let open = |flags| {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
        openat2(parent, name, flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    let folder = match open(OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let handle = open(OFlags::PATH)?;
            set_mode(handle.as_fd(), Mode::RWXU)?;
            reopen(handle.as_fd())?
        }
        result => result?,
    };
    if !Mode::from_raw_mode(fstat(&folder)?.st_mode).contains(Mode::RWXU) {
        // A process that may not change the mode may not need to.
        let _ = fchmod(&folder, Mode::RWXU);
    }
    Ok(folder)
}

/// Sets the mode of a folder, which may be open with `O_PATH`. This uses the handle, so it affects this folder even if another one has
/// its name by now.
pub fn set_mode(folder: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    chmodat(CWD, format!("/proc/self/fd/{}", folder.as_raw_fd()), mode, AtFlags::empty())
}

/// Opens the same folder again, to read it from the beginning.
pub fn reopen(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Returns a random, unique name: processes of several pods may work in one folder.
fn fresh_name() -> CString {
    CString::new(format!("{:032x}", rand::random::<u128>())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
