//! All access to files and all look-ups of host names while reading a configuration, so that everything else is pure.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;

use super::encryption::read_private_key;
use super::trust::{Kind, Step};

/// The largest number of symbolic links in a path, as in the kernel.
const LINKS: usize = 40;

/// How long to wait for a name look-up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What the configuration's readers need from the machine.
pub(super) trait Files {
    /// The text of a file, up to about 1 MiB: enough for a configuration or a key.
    fn text(&self, path: &Path) -> io::Result<Zeroizing<String>>;
    /// Whether the file can be read.
    fn readable(&self, path: &Path) -> io::Result<()>;
    /// Checks a file of CA certificates. Returns whether it also contains a private key, or why it can't be used.
    fn certificates(&self, path: &Path) -> Result<bool, String>;
    /// Checks that the file contains a usable private key. The error says why not.
    fn private_key(&self, path: &Path) -> Result<(), String>;
    /// Makes a path absolute, relative to Sextant's working directory, as a regular node does.
    fn absolute(&self, path: &Path) -> PathBuf;
    /// The path with links resolved, if that is possible.
    fn real(&self, path: &Path) -> Option<PathBuf>;
    /// Every folder and link on the path to a file, and the file itself. Empty if the file does not exist.
    fn path_steps(&self, path: &Path) -> Vec<Step>;
    /// The home folder of this process's user: from the environment, else from this machine's list of users.
    fn home(&self) -> Option<PathBuf>;
    /// The entries of a folder. Empty if it can't be read.
    fn entries(&self, folder: &Path) -> Vec<PathBuf>;
    /// The effective user ID of this process.
    fn user(&self) -> u32;
    /// Whether root and this process's user are the only members of a group, as far as this machine's own lists tell.
    fn has_group_alone(&self, group: u32) -> bool;
    /// The addresses of a host name. Empty if the look-up takes too long.
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

    fn path_steps(&self, path: &Path) -> Vec<Step> {
        path_steps(&self.absolute(path)).unwrap_or_default()
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }

    fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(folder).map_or_else(|_| Vec::new(), |all| all.flatten().map(|one| one.path()).collect())
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn has_group_alone(&self, group: u32) -> bool {
        let (user, own) = (self.user(), rustix::process::getegid().as_raw());
        // Other members of root's group are root as well.
        group == 0 || ((group == own || group == user) && !others_are_in(group, user))
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let (found, addresses) = mpsc::channel();
        let host = host.to_owned();
        // A slow look-up can't be cancelled, so its thread is left running.
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

/// No file access: paths are accepted as they are written.
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

    fn path_steps(&self, _: &Path) -> Vec<Step> {
        Vec::new()
    }

    fn home(&self) -> Option<PathBuf> {
        None
    }

    fn entries(&self, _: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    fn user(&self) -> u32 {
        0
    }

    fn has_group_alone(&self, _: u32) -> bool {
        true
    }

    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

fn path_steps(absolute: &Path) -> io::Result<Vec<Step>> {
    let mut here = PathBuf::from("/");
    let mut steps = vec![step(&here)?];
    let mut rest = names(absolute);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let at = here.join(&name);
        let step = step(&at)?;
        let is_link = step.kind == Kind::Link;
        steps.push(step);
        if !is_link {
            here = at;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::other("there are too many links"));
        }
        let to = at.read_link()?;
        if to.is_absolute() {
            here = PathBuf::from("/");
        }
        rest.extend(names(&to));
    }
    Ok(steps)
}

/// The components of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| {
        matches!(part, Component::Normal(_) | Component::ParentDir).then(|| part.as_os_str().to_owned())
    };
    path.components().rev().filter_map(named).collect()
}

fn step(path: &Path) -> io::Result<Step> {
    let metadata = path.symlink_metadata()?;
    let kind = if metadata.is_symlink() {
        Kind::Link
    } else if !metadata.is_dir() {
        Kind::File
    } else if metadata.uid() == 0
        && path.join("..data").symlink_metadata().is_ok_and(|it| it.is_symlink() && it.uid() == 0)
    {
        Kind::Mount
    } else {
        Kind::Folder
    };
    Ok(Step { path: path.to_owned(), kind, owner: metadata.uid(), group: metadata.gid(), mode: metadata.mode() })
}

/// Whether this machine's lists of users and groups have another user in a group.
fn others_are_in(group: u32, user: u32) -> bool {
    let lines = |path: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    };
    let number = |line: &[String], at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
    let users = lines("/etc/passwd");
    let is_other = |line: &&Vec<String>| number(line, 2).is_some_and(|number| number != 0 && number != user);
    let ours: Vec<&str> =
        users.iter().filter(|line| !is_other(line)).filter_map(|line| Some(line.first()?.as_str())).collect();
    let by_group = lines("/etc/group").into_iter().filter(|line| number(line, 2) == Some(group));
    let members: Vec<String> = by_group
        .filter_map(|line| line.get(3).cloned())
        .flat_map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    users.iter().filter(is_other).any(|line| number(line, 3) == Some(group))
        || members.iter().any(|name| !name.is_empty() && !ours.contains(&name.as_str()))
}
