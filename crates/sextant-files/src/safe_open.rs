//! Opens an algorithm's output safely: an algorithm may replace it by a link to another file, a folder, or a pipe that never
//! has data.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens the file at `relative` below a trusted folder, and returns it with its length.
///
/// # Errors
/// The file does not exist, or is not a regular file.
pub fn open(folder: &Path, relative: &Path) -> io::Result<(File, u64)> {
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    open_in(folder.as_fd(), relative)
}

/// Opens the file at `relative` below an open folder, and returns it with its length.
///
/// # Errors
/// The file does not exist, or is not a regular file.
pub fn open_in(folder: BorrowedFd<'_>, relative: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let file = File::from(openat2(folder, relative, flags, Mode::empty(), resolve)?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(io::Error::other("it is not a file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_regular_file_is_an_output() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), b"12345").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("folder/inner"), b"1").unwrap();
        symlink("/etc/hostname", at("link")).unwrap();
        symlink(at("folder"), at("detour")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();

        let length = |name: &str| open(folder.path(), Path::new(name)).map(|(_, length)| length);
        assert_eq!(length("plain").unwrap(), 5);
        assert_eq!(length("folder/inner").unwrap(), 1);
        for name in ["folder", "link", "pipe", "missing", "detour/inner", "../x"] {
            assert!(length(name).is_err(), "{name}");
        }
    }
}
