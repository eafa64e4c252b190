//! Where the inputs of a task wait until all of it has come: in memory as long as they are small, then in a file that has no
//! name, so that nothing of it stays whatever happens. Nobody else counts such a file (the kubelet doesn't, against the limit of its
//! volume), so the [`Budget`](super::budget::Budget) does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::task::spawn_blocking;

use super::budget::{QuotaExceeded, Reservation};

/// So much stays in memory, and so much is written and read at once.
const PIECE: usize = 256 * 1024;

/// Bytes one after the other.
pub(crate) struct Spool {
    disk: Arc<Reservation>,
    file: Option<Arc<SpoolFile>>,
    written: u64,
    /// What is not in the file.
    rest: BytesMut,
}

/// Bytes that are there.
#[derive(Clone)]
pub(crate) struct Spooled {
    file: Option<Arc<SpoolFile>>,
    written: u64,
    rest: Bytes,
}

/// A file, and the room that it has: given back once the file is closed, also by who still writes for one who has gone.
struct SpoolFile {
    file: File,
    _disk: Arc<Reservation>,
}

/// Why bytes are not kept.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// There is no room for them.
    Full(QuotaExceeded),
    /// They could not be written.
    Io(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Spool {
    /// Nothing yet; what doesn't stay in memory takes of this room.
    pub fn new(disk: Reservation) -> Self {
        Self { disk: Arc::new(disk), file: None, written: 0, rest: BytesMut::new() }
    }

    /// How much is in it.
    pub fn length(&self) -> u64 {
        self.written + self.rest.len() as u64
    }

    /// How much of it is in memory at most: what is not written yet, and what is just being written.
    pub fn in_memory(&self) -> u64 {
        self.length().min(2 * PIECE as u64)
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they can't be kept; nothing more should be added then.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.rest.extend_from_slice(bytes);
        while self.rest.len() > PIECE {
            self.disk.grow_to(self.written + PIECE as u64).map_err(SpoolError::Full)?;
            let piece = self.rest.split_to(PIECE).freeze();
            let (on_disk, at) = (self.file().await?, self.written);
            self.written += piece.len() as u64;
            spawn_blocking(move || on_disk.file.write_all_at(&piece, at)).await.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn file(&mut self) -> io::Result<Arc<SpoolFile>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = spawn_blocking(tempfile::tempfile).await.map_err(io::Error::other)??;
        let file = Arc::new(SpoolFile { file, _disk: self.disk.clone() });
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Nothing is added any more.
    pub fn finish(self) -> Spooled {
        Spooled { file: self.file, written: self.written, rest: self.rest.freeze() }
    }
}

impl Spooled {
    /// The bytes from here to there.
    pub fn stream(&self, from: u64, to: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        stream::try_unfold((self.clone(), from), move |(spooled, at)| async move {
            if at >= to {
                return Ok(None);
            }
            let piece = spooled.piece(at, to).await?;
            let next = at + piece.len() as u64;
            Ok(Some((piece, (spooled, next))))
        })
    }

    async fn piece(&self, from: u64, to: u64) -> io::Result<Bytes> {
        let at = |position: u64| usize::try_from(position - self.written).unwrap_or(usize::MAX);
        if from >= self.written {
            return Ok(self.rest.slice(at(from)..at(to)));
        }
        let on_disk = self.file.clone().ok_or_else(|| io::Error::other("the file has gone"))?;
        let length = (to.min(self.written) - from).min(PIECE as u64) as usize;
        let read = move || {
            let mut piece = vec![0; length];
            on_disk.file.read_exact_at(&mut piece, from)?;
            Ok(piece.into())
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::caller::tests::client;
    use futures::TryStreamExt as _;

    fn spool(disk: &Arc<Budget>) -> Spool {
        Spool::new(disk.reserve(client(7, 1)))
    }

    #[tokio::test]
    async fn every_part_comes_back() {
        for length in [0usize, 10, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let all: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            let disk = Budget::new(1 << 20, 1 << 20);
            let mut spool = spool(&disk);
            for piece in all.chunks(100_003) {
                spool.push(piece).await.unwrap();
            }
            assert_eq!(spool.length(), length as u64);
            let spooled = spool.finish();
            assert_eq!(spooled.file.is_some(), length > PIECE);
            for (from, to) in [(0, length), (length / 3, length), (0, length / 2), (length / 2, length / 2)] {
                let pieces: Vec<Bytes> = spooled.stream(from as u64, to as u64).try_collect().await.unwrap();
                assert!(pieces.concat() == all[from..to], "{from} to {to} of {length}");
            }
        }
    }
    #[tokio::test]
    async fn only_so_much_is_written_and_its_room_comes_back() {
        let disk = Budget::new(4 * PIECE as u64, 3 * PIECE as u64);
        let mut first = spool(&disk);
        first.push(&vec![0; 2 * PIECE]).await.unwrap();
        assert_eq!(disk.used(), PIECE as u64, "the rest is in memory");
        first.push(&vec![0; 2 * PIECE]).await.unwrap();
        // Enough for one, but not beside the other.
        let mut second = spool(&disk);
        let refused = second.push(&vec![0; 2 * PIECE]).await;
        assert!(matches!(refused, Err(SpoolError::Full(QuotaExceeded::InUse))), "{refused:?}");
        // Too much for anybody.
        let refused = first.push(&[0]).await;
        assert!(matches!(refused, Err(SpoolError::Full(QuotaExceeded::OverLimit(_)))), "{refused:?}");
        // As long as anybody reads, the file is there.
        let stream = first.finish().stream(0, 10);
        assert_eq!(disk.used(), 3 * PIECE as u64);
        drop((stream, second));
        assert_eq!(disk.used(), 0);
    }

    #[tokio::test]
    async fn who_goes_in_the_middle_leaves_nothing() {
        let disk = Budget::new(1 << 30, 1 << 30);
        let mut spool = spool(&disk);
        let pushing = tokio::time::timeout(std::time::Duration::ZERO, spool.push(&vec![0; 64 * PIECE])).await;
        assert!(pushing.is_err());
        drop(spool);
        for _ in 0..1000 {
            if disk.used() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{} bytes are still taken", disk.used());
    }
}
