//! A run's log as it is written: its file is read as it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use sextant_core::runtime::LogPart;
use tokio::time::sleep;

use super::folder::{Folder, LOG};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How much is read at a time.
const PART: usize = 16 * 1024;
/// Of a file that is longer when it is opened, the beginning is left out.
const LONGEST: u64 = 8 * 1024 * 1024;

/// The log of a run, until its folder is gone.
pub fn log(folder: Folder) -> BoxStream<'static, LogPart> {
    let begin = (folder, None);
    stream::unfold(begin, |(folder, mut opened)| async move {
        loop {
            if !folder.exists() {
                return None;
            }
            if let Ok(part) = next(&folder, &mut opened)
                && !part.bytes.is_empty()
            {
                return Some((part, (folder, opened)));
            }
            sleep(INTERVAL).await;
        }
    })
    .boxed()
}

/// What has come since the last time; empty if nothing has.
fn next(folder: &Folder, opened: &mut Option<File>) -> io::Result<LogPart> {
    let mut after_gap = false;
    let file = match opened {
        Some(file) => file,
        None => {
            let mut file = folder.open()?.open(LOG)?;
            after_gap = skip(&mut file)?;
            opened.insert(file)
        }
    };
    let mut bytes = Vec::new();
    io::Read::by_ref(file).take(PART as u64).read_to_end(&mut bytes)?;
    Ok(LogPart { bytes: bytes.into(), at: None, after_gap })
}

/// Goes to a line near the end of a file that is too long; whether it is.
fn skip(file: &mut File) -> io::Result<bool> {
    let skipped = file.metadata()?.len().saturating_sub(LONGEST);
    if skipped == 0 {
        return Ok(false);
    }
    file.seek(io::SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    io::Read::by_ref(file).take(PART as u64).read_to_end(&mut bytes)?;
    let line = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |newline| newline + 1);
    file.seek(io::SeekFrom::Start(skipped + line as u64))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::{Dir, Missing};
    use std::io::Write as _;
    use std::sync::Arc;
    use vantage6_types::{RunId, TaskId};

    fn folder(root: &tempfile::TempDir) -> Folder {
        let root = Arc::new(Dir::at(&root.path().join("node"), Missing::Create).unwrap().unwrap());
        let folder = Folder::new(&root, TaskId(1), RunId(1));
        folder.make(&sextant_core::assignment::sample::assignment(1, 1, "today")).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_log_comes_as_it_is_written_until_its_folder_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root);
        let mut log = log(folder.clone());
        let mut file = folder.open().unwrap().create(LOG).unwrap();
        for text in ["one\n", "two\nthr", "ee\n"] {
            file.write_all(text.as_bytes()).unwrap();
            let part = log.next().await.unwrap();
            assert_eq!((&part.bytes[..], part.after_gap), (text.as_bytes(), false));
        }
        folder.put_aside().unwrap();
        assert_eq!(log.next().await, None);
    }

    #[tokio::test]
    async fn of_a_long_log_the_end_comes() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root);
        let mut file = folder.open().unwrap().create(LOG).unwrap();
        file.write_all(&b"a line\n".repeat(2_000_000)).unwrap();
        let mut log = log(folder);
        let part = log.next().await.unwrap();
        assert!(part.after_gap && part.bytes.starts_with(b"a line\n"));
        let mut read = part.bytes.len();
        while read < 8_000_000 {
            let part = log.next().await.unwrap();
            assert!(!part.after_gap);
            read += part.bytes.len();
        }
    }
}
