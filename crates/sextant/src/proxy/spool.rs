//! Where the inputs of a task wait until all of it has come: in memory as long as they are small, then in a file that has no
//! name, so that nothing of it stays whatever happens.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::task::spawn_blocking;

/// So much stays in memory, and so much is written and read at once.
const PIECE: usize = 256 * 1024;

/// Bytes one after the other.
#[derive(Default)]
pub(crate) struct Spool {
    file: Option<Arc<File>>,
    written: u64,
    /// What is not in the file.
    rest: BytesMut,
}

/// Bytes that are there.
#[derive(Clone)]
pub(crate) struct Spooled {
    file: Option<Arc<File>>,
    written: u64,
    rest: Bytes,
}

impl Spool {
    /// How much is in it.
    pub fn length(&self) -> u64 {
        self.written + self.rest.len() as u64
    }

    /// Adds bytes.
    pub async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        while self.rest.len() > PIECE {
            let piece = self.rest.split_to(PIECE).freeze();
            let (file, at) = (self.file().await?, self.written);
            self.written += piece.len() as u64;
            spawn_blocking(move || file.write_all_at(&piece, at)).await.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = Arc::new(spawn_blocking(tempfile::tempfile).await.map_err(io::Error::other)??);
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
        let file = self.file.clone().ok_or_else(|| io::Error::other("the file has gone"))?;
        let length = (to.min(self.written) - from).min(PIECE as u64) as usize;
        let read = move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, from)?;
            Ok(piece.into())
        };
        spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;

    #[tokio::test]
    async fn every_part_comes_back() {
        for length in [0usize, 10, PIECE, PIECE + 1, 3 * PIECE + 17] {
            let all: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            let mut spool = Spool::default();
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
}
