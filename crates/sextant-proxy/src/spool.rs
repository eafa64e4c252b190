//! Stores the inputs of a task until the whole task has arrived. Small inputs stay in memory. Larger ones go to a file without a name, so
//! that nothing is left behind whatever happens. The kubelet does not count such a file against its volume's limit, so the
//! [`Budget`](super::budget::Budget) does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::task::spawn_blocking;

use super::budget::{QuotaExceeded, Reservation};

/// How much stays in memory, and how much is written or read at a time.
const PIECE: usize = 256 * 1024;

/// A sequence of bytes that grows.
pub(crate) struct Spool {
    disk: Arc<Reservation>,
    file: Option<Arc<SpoolFile>>,
    written: u64,
    /// The end, which is not in the file.
    rest: BytesMut,
}

/// A complete sequence of bytes.
#[derive(Clone)]
pub(crate) struct Spooled {
    file: Option<Arc<SpoolFile>>,
    written: u64,
    rest: Bytes,
}

/// A file and its reservation, which is released when the file is closed. A write in progress also keeps the file open.
struct SpoolFile {
    file: File,
    _disk: Arc<Reservation>,
}

/// Why bytes can't be stored.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// The budget is exhausted.
    Full(QuotaExceeded),
    /// The file can't be written.
    Io(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Spool {
    /// Creates an empty spool. The file's bytes are added to this reservation.
    pub fn new(disk: Reservation) -> Self {
        Self { disk: Arc::new(disk), file: None, written: 0, rest: BytesMut::new() }
    }

    /// Returns the length so far.
    pub fn length(&self) -> u64 {
        self.written + self.rest.len() as u64
    }

    /// Returns how much of it is in memory at most: unwritten data, and the piece that is being written.
    pub fn in_memory(&self) -> u64 {
        self.length().min(2 * PIECE as u64)
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If they can't be stored; nothing more should be appended then.
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

    /// Completes the sequence.
    pub fn finish(self) -> Spooled {
        Spooled { file: self.file, written: self.written, rest: self.rest.freeze() }
    }
}

impl Spooled {
    /// Streams the bytes of this range.
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
        // Enough room for one, but not for both.
        let mut second = spool(&disk);
        let refused = second.push(&vec![0; 2 * PIECE]).await;
        assert!(matches!(refused, Err(SpoolError::Full(QuotaExceeded::InUse))), "{refused:?}");
        // More than one caller may have.
        let refused = first.push(&[0]).await;
        assert!(matches!(refused, Err(SpoolError::Full(QuotaExceeded::OverLimit(_)))), "{refused:?}");
        // The file exists while a reader does.
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
