//! What the hub knows of the server's blob store: which runs have their input and result there, and which results it has already stored
//! although their reports did not get through. Both are bounded; what was forgotten costs another upload at most.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use vantage6::encoding::Payload;
use vantage6::encryption::Recipient;
use vantage6::{BlobId, RunId};

/// How many runs are known to use the blob store: as many as a node has at a time.
const RUNS: usize = 10_000;
/// How many stored results are known whose reports have not got through.
const UPLOADS: usize = 256;

/// The runs that use the blob store. The server decides that when it creates a task, and readers go by it, so the node does, too, whatever
/// the server has by now.
#[derive(Default)]
pub struct BlobRuns(Mutex<HashSet<RunId>>);

impl BlobRuns {
    /// Takes note of what the server says of a run.
    pub fn note(&self, run: &vantage6::Run) {
        let mut runs = self.0.lock();
        if run.blob_storage_used != Some(true) || run.finished_at.is_some() {
            runs.remove(&run.id);
            return;
        }
        if runs.len() >= RUNS {
            // Each run is read again before it is reported.
            runs.clear();
        }
        runs.insert(run.id);
    }

    /// Whether the run uses the blob store.
    pub fn contains(&self, run: RunId) -> bool {
        self.0.lock().contains(&run)
    }
}

/// A result that is in the blob store.
#[derive(Clone)]
pub struct Upload {
    pub run: RunId,
    pub recipient: Recipient,
    pub length: u64,
    /// Of its plain bytes: a run that was executed again may have another result.
    pub hash: [u8; 32],
    pub blob: BlobId,
}

/// The results that are in the blob store, and whose reports have not got through.
#[derive(Default)]
pub struct Uploads(Mutex<VecDeque<Upload>>);

impl Uploads {
    /// The stored result of a run, if it was for this recipient and had this length.
    pub fn of(&self, run: RunId, recipient: &Recipient, length: u64) -> Option<Upload> {
        let known = self.0.lock();
        let is_it = |upload: &&Upload| upload.run == run && upload.recipient == *recipient && upload.length == length;
        known.iter().find(is_it).cloned()
    }

    /// A result has been stored.
    pub fn remember(&self, upload: Upload) {
        self.forget(upload.run);
        let mut known = self.0.lock();
        if known.len() >= UPLOADS {
            known.pop_front();
        }
        known.push_back(upload);
    }

    /// The run has been reported, or has another result.
    pub fn forget(&self, run: RunId) {
        self.0.lock().retain(|upload| upload.run != run);
    }
}

/// The hash of bytes that are being read.
#[derive(Clone)]
pub struct Hash(Arc<Mutex<Context>>);

impl Hash {
    /// Passes the bytes on and hashes them.
    pub fn of<S>(bytes: S) -> (Self, impl Stream<Item = io::Result<Bytes>> + Send + 'static)
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let hash = Self(Arc::new(Mutex::new(Context::new(&SHA256))));
        let hashing = hash.clone();
        let bytes = bytes.inspect_ok(move |piece| hashing.0.lock().update(piece));
        (hash, bytes)
    }

    /// Reads a result of this length and returns its hash.
    ///
    /// # Errors
    /// It can't be read to its end.
    pub async fn of_all<S>(length: u64, bytes: S) -> io::Result<[u8; 32]>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let (hash, bytes) = Self::of(Payload::new(length, bytes).into_stream());
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = bytes.next().await {
            piece?;
        }
        Ok(hash.finish())
    }

    /// The hash of what was read.
    pub fn finish(&self) -> [u8; 32] {
        let hash: Digest = self.0.lock().clone().finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_limit() {
        let uploads = Uploads::default();
        let blob: BlobId = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d".parse().unwrap();
        for number in 0..UPLOADS as u64 + 10 {
            let upload = Upload {
                run: RunId(number),
                recipient: Recipient::Plain,
                length: 7,
                hash: [0; 32],
                blob: blob.clone(),
            };
            uploads.remember(upload.clone());
            uploads.remember(upload);
        }
        assert_eq!(uploads.0.lock().len(), UPLOADS);
        let last = RunId(UPLOADS as u64);
        assert!(uploads.of(last, &Recipient::Plain, 7).is_some());
        assert!(
            uploads.of(last, &Recipient::Plain, 8).is_none() && uploads.of(RunId(1), &Recipient::Plain, 7).is_none()
        );
        uploads.forget(last);
        assert!(uploads.of(last, &Recipient::Plain, 7).is_none());
    }
}
