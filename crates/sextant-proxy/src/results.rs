//! `GET result` in an encrypted collaboration, for a subtask of the caller's ([`owner`](super::owner)): the results are encrypted for this
//! organization, and are given to its algorithm as a regular node gives them: decrypted, as base64.
//!
//! What can't be decrypted is passed on as it is, also as a regular node does: the algorithm's tools then say so, and nobody takes a
//! result for missing that is there. For that a result is held until it is decrypted, if it is not large and its caller does not hold
//! many: what is held is taken of a [`Budget`], and whoever does not read what was asked for holds next to nothing besides.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use log_throttle::LogThrottle;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use vantage6::encoding::Base64Encoder;
use vantage6::encryption::{PrivateKey, decrypt_with_permit};
use vantage6::json::{Find, Part, Scan, Unescape};

use super::budget::{Budget, Reservation};
use super::caller::Client;
use super::fair_queue::FairQueue;

/// Results of up to so many characters are decrypted as a whole; of longer ones, what comes later can't be taken back.
const HELD: usize = 256 * 1024;
/// So many are held of any result; an encrypted one shows that it is one in them.
const BEGINNING: usize = 16 * 1024;
/// What a held result takes at most while it is decrypted: itself, without escapes, and decrypted.
const TIMES: u64 = 3;
/// The largest piece that waits to be taken.
const PIECE: usize = 16 * 1024;
/// Bytes that make such a piece in base64.
const PLAIN: usize = PIECE / 4 * 3;
/// How many pieces may be under way.
const AHEAD: usize = 1;

type Out = mpsc::Sender<io::Result<Bytes>>;

/// Where results are in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In the entries of a page.
    Page,
    /// The answer is one.
    One,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Entry>,
}

/// `ResultSchema` in `server/resource/common/output_schema.py`, 4.5.5 and 4.15.2 alike.
#[derive(Deserialize)]
struct Entry {
    task: Link,
}

#[derive(Deserialize)]
struct Link {
    id: u64,
}

impl Form {
    /// Whether a whole answer has this form, and all results in it are of this task.
    pub fn is_of(self, task: u64, answer: &[u8]) -> bool {
        // The parser takes lists for objects, too.
        if answer.trim_ascii_start().first() != Some(&b'{') {
            return false;
        }
        match self {
            Self::Page => serde_json::from_slice::<Page>(answer)
                .is_ok_and(|page| page.data.iter().all(|entry| entry.task.id == task)),
            Self::One => serde_json::from_slice::<Entry>(answer).is_ok_and(|entry| entry.task.id == task),
        }
    }

    fn find(self) -> Find {
        match self {
            Self::Page => Find::InListOf { list: "data", key: "result" },
            Self::One => Find::Outermost("result"),
        }
    }
}

/// What it takes to decrypt a caller's results.
pub(crate) struct Decryption {
    /// Where they are.
    pub form: Form,
    pub key: Arc<PrivateKey>,
    pub failures: Arc<LogThrottle>,
    /// For what is held.
    pub quota: Arc<Budget>,
    pub rsa_queue: Arc<FairQueue>,
    pub client: Client,
}

/// The text with its results decrypted, as it comes.
pub(crate) fn decrypted(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    how: Decryption,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (out, answer) = mpsc::channel(AHEAD);
    let task = tokio::spawn(async move {
        let mut reading = Decryptor { scan: Scan::new(how.form.find()), value: None, how, out };
        if let Err(error) = reading.through(pieces).await {
            // Whoever waits for the answer has gone, or hears of it.
            let _ = reading.out.send(Err(error)).await;
        }
    });
    until_end_of(task, ReceiverStream::new(answer))
}

/// What a task writes. If it is lost, what it has written is not all: the stream must not look whole.
fn until_end_of(
    task: JoinHandle<()>,
    written: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let end = stream::once(task).filter_map(async |ended| ended.err().map(|lost| Err(io::Error::other(lost))));
    written.chain(end)
}

struct Decryptor {
    scan: Scan,
    value: Option<OpenResult>,
    how: Decryption,
    out: Out,
}

/// A result that is being read.
enum OpenResult {
    /// As it came, with its escapes.
    Held { text: BytesMut, taken: Reservation },
    /// Too long to be held, and not encrypted.
    PassedOn,
    /// Too long to be held.
    Decrypted {
        unescape: Unescape,
        to: mpsc::Sender<Result<Bytes, vantage6::Error>>,
        writes: JoinHandle<io::Result<()>>,
    },
}

enum Found {
    Text(Bytes),
    Begin,
    Value(Bytes),
    End,
}

impl Decryptor {
    async fn through(&mut self, pieces: impl Stream<Item = io::Result<Bytes>>) -> io::Result<()> {
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let mut found = Vec::new();
            self.scan.feed(&piece, &mut |part| {
                found.push(match part {
                    Part::Text(text) => Found::Text(piece.slice_ref(text)),
                    Part::Begin => Found::Begin,
                    Part::Value(text) => Found::Value(piece.slice_ref(text)),
                    Part::End => Found::End,
                });
            });
            for found in found {
                match found {
                    Found::Text(text) => self.write(text).await?,
                    Found::Begin => {
                        let taken = self.how.quota.reserve(self.how.client);
                        self.value = Some(OpenResult::Held { text: BytesMut::new(), taken });
                    }
                    Found::Value(text) => {
                        for piece in cut(text) {
                            self.more(piece).await?;
                        }
                    }
                    Found::End => self.end().await?,
                }
            }
        }
        self.cut_off().await
    }

    /// What a text that ends in the middle of a result still holds: it must look as cut off as it is.
    async fn cut_off(&mut self) -> io::Result<()> {
        match self.value.take() {
            Some(OpenResult::Held { text, taken: _taken }) => {
                self.write(Bytes::from_static(b"\"")).await?;
                self.write(text.freeze()).await
            }
            Some(OpenResult::Decrypted { writes, .. }) => {
                // Before it takes the end of the text for the end of the message.
                writes.abort();
                Err(damaged(&"it is cut off"))
            }
            Some(OpenResult::PassedOn) | None => Ok(()),
        }
    }

    async fn write(&self, text: Bytes) -> io::Result<()> {
        write(&self.out, text).await
    }

    async fn more(&mut self, mut text: Bytes) -> io::Result<()> {
        match &mut self.value {
            Some(OpenResult::Held { text: held, taken }) if may_hold(held.len() + text.len(), taken) => {
                held.extend_from_slice(&text);
                Ok(())
            }
            Some(OpenResult::Held { text: held, .. }) => {
                held.extend_from_slice(&text.split_to(text.len().min(BEGINNING.saturating_sub(held.len()))));
                let next = if is_encrypted(held) { self.begin() } else { OpenResult::PassedOn };
                let Some(OpenResult::Held { text: held, taken: _taken }) = self.value.replace(next) else {
                    return Ok(());
                };
                if matches!(self.value, Some(OpenResult::PassedOn)) {
                    self.write(Bytes::from_static(b"\"")).await?;
                }
                for piece in cut(held.freeze()).chain([text]) {
                    Box::pin(self.more(piece)).await?;
                }
                Ok(())
            }
            Some(OpenResult::PassedOn) => self.write(text).await,
            Some(OpenResult::Decrypted { unescape, to, .. }) => {
                let plain = unescape.feed(&text).ok_or_else(|| damaged(&"it has characters that no message has"))?;
                to.send(Ok(plain.freeze())).await.map_err(|_| damaged(&"it can't be decrypted"))
            }
            None => Ok(()),
        }
    }

    /// Begins to decrypt what is too long to be held.
    fn begin(&self) -> OpenResult {
        let (to, message) = mpsc::channel(AHEAD);
        let (key, out, turn) = (self.how.key.clone(), self.out.clone(), self.how.rsa_queue.acquire(self.how.client));
        let writes = tokio::spawn(async move {
            let mut bytes = std::pin::pin!(decrypt_with_permit(ReceiverStream::new(message), key, turn));
            let mut encoder = Base64Encoder::default();
            write(&out, Bytes::from_static(b"\"")).await?;
            while let Some(piece) = bytes.next().await {
                write(&out, encoder.feed(&piece.map_err(|error| damaged(&error))?)).await?;
            }
            write(&out, encoder.finish()).await?;
            write(&out, Bytes::from_static(b"\"")).await
        });
        OpenResult::Decrypted { unescape: Unescape::default(), to, writes }
    }

    async fn end(&mut self) -> io::Result<()> {
        match self.value.take() {
            Some(OpenResult::Held { text, taken: _taken }) => self.whole(text.freeze()).await,
            Some(OpenResult::PassedOn) => self.write(Bytes::from_static(b"\"")).await,
            Some(OpenResult::Decrypted { to, writes, .. }) => {
                drop(to);
                writes.await.map_err(io::Error::other)?
            }
            None => Ok(()),
        }
    }

    /// Writes a result that is at hand in base64; as it was, if it can't be decrypted.
    async fn whole(&self, text: Bytes) -> io::Result<()> {
        self.write(Bytes::from_static(b"\"")).await?;
        match self.decrypted(&text).await {
            Some(bytes) => {
                // From here on only the decrypted one is held.
                drop(text);
                let mut encoder = Base64Encoder::default();
                for piece in bytes.iter().flat_map(|bytes| bytes.chunks(PLAIN)) {
                    self.write(encoder.feed(piece)).await?;
                }
                self.write(encoder.finish()).await?;
            }
            None => self.write(text).await?,
        }
        self.write(Bytes::from_static(b"\"")).await
    }

    /// The result, if it can be decrypted.
    async fn decrypted(&self, text: &Bytes) -> Option<Vec<Bytes>> {
        if !is_encrypted(text) {
            return None;
        }
        let message = match memchr::memchr(b'\\', text) {
            Some(_) => Unescape::default().feed(text)?.freeze(),
            None => text.clone(),
        };
        let message = stream::iter(cut(message).map(Ok));
        let turn = self.how.rsa_queue.acquire(self.how.client);
        match decrypt_with_permit(message, self.how.key.clone(), turn).try_collect().await {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if let Some(times) = self.how.failures.happened() {
                    tracing::warn!(
                        "a result can't be decrypted and is passed on as it is ({times} times since this was last said): {error}"
                    );
                }
                None
            }
        }
    }
}

/// Whether so much of a result may be held: of its beginning, always.
fn may_hold(length: usize, taken: &Reservation) -> bool {
    length <= BEGINNING || length <= HELD && taken.grow_to(TIMES * length as u64).is_ok()
}

/// The same text in pieces that are not large.
fn cut(mut text: Bytes) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let piece = text.split_to(text.len().min(PIECE));
        (!piece.is_empty()).then_some(piece)
    })
}

async fn write(out: &Out, text: Bytes) -> io::Result<()> {
    for piece in cut(text) {
        out.send(Ok(piece)).await.map_err(|_| gone())?;
    }
    Ok(())
}

/// Whether it has the form of an encrypted message: a key, an initial counter, and the rest.
fn is_encrypted(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'$').count() == 2
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

fn damaged(why: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a result can't be decrypted: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_whose_task_is_lost_does_not_look_whole() {
        for is_lost in [false, true] {
            let (out, answer) = mpsc::channel(AHEAD);
            let task = tokio::spawn(async move {
                write(&out, Bytes::from_static(b"a")).await.unwrap();
                assert!(!is_lost, "it is lost");
            });
            let written: Vec<_> = until_end_of(task, ReceiverStream::new(answer)).collect().await;
            assert_eq!(written[0].as_ref().unwrap(), "a");
            assert_eq!(written[1..].iter().map(Result::is_err).collect::<Vec<_>>(), vec![true; usize::from(is_lost)]);
        }
    }
}
