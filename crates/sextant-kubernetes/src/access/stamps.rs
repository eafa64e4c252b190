//! Detects whether files have changed, without reading them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Metadata that changes with a file's content: its inode, length and times.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// Files with their stamps at one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Stamp)>);

impl Stamps {
    /// Adds files with their current stamps. A missing file is added too, since it may appear later.
    pub fn take(&mut self, paths: impl IntoIterator<Item = impl AsRef<Path>>) {
        self.0.extend(paths.into_iter().map(|path| (path.as_ref().to_owned(), stamp(path.as_ref()))));
    }

    /// The same files with their current stamps.
    pub fn now(&self) -> Self {
        let mut now = Self::default();
        now.take(self.0.iter().map(|(path, _)| path));
        now
    }
}

/// The stamp of a file, following symbolic links.
fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), (about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec())))
}
