//! All that reading a configuration does with files, and with names of hosts, so that everything else of it is pure.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;

use super::encryption::read_private_key;

/// How long a name is looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What a configuration's readers may ask of the machine.
pub(super) trait Files {
    /// The text of a file; at most a megabyte or so, enough for a configuration or a key.
    fn text(&self, path: &Path) -> io::Result<Zeroizing<String>>;
    /// Whether the file can be read.
    fn readable(&self, path: &Path) -> io::Result<()>;
    /// What is wrong with a file of CA certificates, if it can't be used; and whether there is a private key in it.
    fn certificates(&self, path: &Path) -> Result<bool, String>;
    /// Whether the file holds a private key that can be used; what is wrong if not.
    fn private_key(&self, path: &Path) -> Result<(), String>;
    /// A relative path as seen from the folder that Sextant was started in, as a regular node takes it.
    fn absolute(&self, path: &Path) -> PathBuf;
    /// Where a path leads when links are followed, if that can be told.
    fn real(&self, path: &Path) -> Option<PathBuf>;
    /// Whether people other than the file's owner may read it.
    fn readable_by_others(&self, path: &Path) -> bool;
    /// The addresses of a host's name, as far as they can be had soon.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;
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

    fn certificates(&self, path: &Path) -> Result<bool, String> {
        outbound::Bundle::read(path).map(|bundle| bundle.holds_private_key())
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

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let (found, addresses) = mpsc::channel();
        let host = host.to_owned();
        // Nothing ends a look-up that takes long: it is left to itself.
        let look = move || {
            let addresses = (host.as_str(), 0).to_socket_addrs().map(|all| all.map(|one| one.ip()).collect());
            let _ = found.send(addresses.unwrap_or_default());
        };
        match std::thread::Builder::new().name("look-up".into()).spawn(look) {
            Ok(_) => addresses.recv_timeout(LOOK_UP).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
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

    fn certificates(&self, _: &Path) -> Result<bool, String> {
        Ok(false)
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

    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}
