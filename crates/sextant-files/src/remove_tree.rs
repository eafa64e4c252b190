//! Removes folders that somebody else has filled, whatever they contain: a million files, a hundred thousand nested folders, modes that
//! forbid access, and programs that continue to write meanwhile.
//!
//! [`Trash`] is a folder of our own. A folder to remove is renamed into it, and so is each folder found inside: the removal never reads
//! deeper than one level below the trash. So stack and open files do not depend on the depth, and no path is longer than one name. The
//! file system holds all progress: after a process that was killed, the next one continues. Several may work at once.
//!
//! Everything is reached by handle and a single name. Links are removed and never followed; mounts are left alone.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, chmodat, fchmod, fstat, mkdirat, openat,
    openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// How many entries one folder of the trash may take before the next one has its turn, and how long: one that a program goes on
/// filling must not hold up the others.
const SHARE: (u64, Duration) = (100_000, Duration::from_secs(5));
/// How many folders that were just moved up are remembered. The others are found by reading the trash again.
const PENDING: usize = 1024;
/// How much of a folder is read at once.
const BUFFER: usize = 32 * 1024;
/// An empty trash of this size is recreated: some file systems never shrink a folder, and read all of it each time.
const LARGE: i64 = 1024 * 1024;

/// How much may be done at most.
#[derive(Debug)]
pub struct Budget {
    entries: u64,
    until: Instant,
}

impl Budget {
    /// So many entries, within this time.
    pub fn new(entries: u64, time: Duration) -> Self {
        Self { entries, until: Instant::now() + time }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.entries == 0 || Instant::now() >= self.until
    }

    /// Takes one entry; `false` when nothing is left.
    pub(crate) fn spend(&mut self) -> bool {
        let may = !self.is_spent();
        self.entries -= u64::from(may);
        may
    }

    /// Lets a part of it be spent on one folder.
    pub(crate) fn spend_share(&mut self, (entries, time): (u64, Duration), work: impl FnOnce(&mut Self)) {
        let given = self.entries.min(entries);
        let mut turn = Self { entries: given, until: self.until.min(Instant::now() + time) };
        work(&mut turn);
        self.entries -= given - turn.entries;
    }
}

/// What came of emptying.
#[derive(Debug, Default)]
pub struct Emptied {
    /// How many files and folders were removed.
    pub removed: u64,
    /// How many could not be removed, and why the first of them could not.
    pub stuck: Option<(u64, io::Error)>,
    /// Whether the budget ended before the work did.
    pub unfinished: bool,
    /// How many folders were moved up.
    moved: u64,
}

impl Emptied {
    fn record_failure(&mut self, error: Errno) {
        self.stuck.get_or_insert_with(|| (0, error.into())).0 += 1;
    }
}

/// A folder whose content is removed.
#[derive(Debug)]
pub struct Trash<'a> {
    parent: BorrowedFd<'a>,
    name: &'static CStr,
    folder: OwnedFd,
}

impl<'a> Trash<'a> {
    /// Opens the folder of this name, and makes it where there is none.
    ///
    /// # Errors
    /// If it can't be made or opened, or is not a folder.
    pub fn open(parent: BorrowedFd<'a>, name: &'static CStr) -> io::Result<Self> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { parent, name, folder: subfolder(parent, name)? })
    }

    /// Moves an entry of a folder into the trash, whatever it is; its name there.
    ///
    /// # Errors
    /// [`Errno::NOENT`] if it is not there (any more), and whatever else keeps it from being moved.
    pub fn take(&self, from: BorrowedFd<'_>, name: &CStr) -> Result<CString, Errno> {
        let fresh = fresh_name();
        match renameat(from, name, &self.folder, &fresh) {
            // Moving a folder changes its `..`, so one must be allowed to write to it.
            Err(Errno::ACCESS) => {
                subfolder(from, name)?;
                renameat(from, name, &self.folder, &fresh)?;
            }
            result => result?,
        }
        Ok(fresh)
    }

    /// Moves back what was taken, unless something new has its place.
    ///
    /// # Errors
    /// If it can't be moved.
    pub fn give_back(&self, taken: &CStr, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        Ok(renameat_with(&self.folder, taken, to, name, RenameFlags::NOREPLACE)?)
    }

    /// Removes its content, within the budget. The next caller removes the rest.
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

    /// Looks at each entry of the trash once; whether there were any.
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

    /// Empties one folder of the trash, and those that come up from inside it.
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

    /// Removes what is in one folder of the trash, moves up the folders in it that aren't empty, and removes it.
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
                    // Where there is no room for one more name, there is some below.
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
            // Its turn is over, something in it can't be removed (which is counted), or a program has filled it again.
            Removed::IsFilled => {}
            Removed::Not(error) => emptied.record_failure(error),
        }
        Ok(())
    }

    fn renew(&self) {
        if fstat(&self.folder).is_ok_and(|stat| stat.st_size >= LARGE)
            && unlinkat(self.parent, self.name, AtFlags::REMOVEDIR).is_ok()
        {
            // Made now, since a file system that is full may have no room for it later.
            let _ = mkdirat(self.parent, self.name, Mode::RWXU);
        }
    }
}

/// Moves an entry of a folder into the trash beside it. One that is not there is fine.
///
/// # Errors
/// If it can't be moved.
pub fn move_to_trash(parent: BorrowedFd<'_>, trash: &'static CStr, name: &CStr) -> io::Result<()> {
    match Trash::open(parent, trash)?.take(parent, name) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT) => {
            // It is gone, or the trash was recreated at this moment.
            match Trash::open(parent, trash)?.take(parent, name) {
                Ok(_) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What came of removing one entry.
enum Removed {
    Gone,
    /// It is a folder with something in it.
    IsFilled,
    Not(Errno),
}

fn remove(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Removed {
    if kind != FileType::Directory {
        match unlinkat(folder, name, AtFlags::empty()) {
            // Some file systems don't say what is a folder.
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

/// Removes what is in a folder and, of each level, in the first folder that isn't empty, down to the bottom. No name is made for that.
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

/// Whether to go on with the next entry.
pub enum Next {
    /// Yes.
    Go,
    /// No.
    Stop,
}

/// Calls `with` for the entries of a folder, a portion of which is in memory at a time.
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

/// Removes what has the name of a folder and is none: a file, or a link.
///
/// # Errors
/// If it can't be removed.
pub fn remove_non_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            Ok(unlinkat(parent, name, AtFlags::empty())?)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder in a folder for reading and changing, also one that its owner has closed to everybody.
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
        // Whoever may not change it, may not need to either.
        let _ = fchmod(&folder, Mode::RWXU);
    }
    Ok(folder)
}

/// Sets the mode of a folder that may be open as a mere place: by its handle, so that it is this one, whatever has its name by now.
pub fn set_mode(folder: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    chmodat(CWD, format!("/proc/self/fd/{}", folder.as_raw_fd()), mode, AtFlags::empty())
}

/// The same folder, to be read from its beginning.
pub fn reopen(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A name that nobody else has chosen: processes of several pods may work in one folder.
fn fresh_name() -> CString {
    CString::new(format!("{:032x}", rand::random::<u128>())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
