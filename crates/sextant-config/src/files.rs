//! All that reading a configuration does with files, so that everything else of it is pure.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use super::encryption::read_private_key;

/// What a configuration's readers may ask of the machine.
pub(super) trait Files {
    /// The text of a file; at most a megabyte or so, enough for a configuration or a key.
    fn text(&self, path: &Path) -> io::Result<Zeroizing<String>>;
    /// Whether the file can be read.
    fn readable(&self, path: &Path) -> io::Result<()>;
    /// Whether the file holds a private key that can be used; what is wrong if not.
    fn private_key(&self, path: &Path) -> Result<(), String>;
    /// A relative path as seen from the folder that Sextant was started in, as a regular node takes it.
    fn absolute(&self, path: &Path) -> PathBuf;
    /// Where a path leads when links are followed, if that can be told.
    fn real(&self, path: &Path) -> Option<PathBuf>;
    /// Whether people other than the file's owner may read it.
    fn readable_by_others(&self, path: &Path) -> bool;
}

/// The machine's real files.
pub(super) struct Disk;

impl Files for Disk {
    fn text(&self, path: &Path) -> io::Result<Zeroizing<String>> {
        const LIMIT: u64 = (1 << 20) + 1;
        let mut text = Zeroizing::new(String::new());
        File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
        Ok(text)
    }

    fn readable(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.read(&mut [0]).map(|_| ())
    }

    fn private_key(&self, path: &Path) -> Result<(), String> {
        read_private_key(path).map(drop)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok()
    }

    fn readable_by_others(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
    }
}

/// No files at all: what is asked for is taken as it stands.
pub(super) struct NoFiles;

impl Files for NoFiles {
    fn text(&self, _: &Path) -> io::Result<Zeroizing<String>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "files are not read here"))
    }

    fn readable(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn private_key(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn real(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn readable_by_others(&self, _: &Path) -> bool {
        false
    }
}
