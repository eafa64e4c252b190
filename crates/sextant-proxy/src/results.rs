//! `GET result` in an encrypted collaboration, for a subtask of the caller ([`ownership`](super::ownership)). The results are encrypted for
//! this organization. The proxy decrypts them and returns them as base64, as vantage6's own proxy does.
//!
//! A result that can't be decrypted passes unchanged, also as in vantage6's proxy: the algorithm tools then report it, and no existing
//! result looks missing. For this, a result is held until it is decrypted, unless it is large or its caller already holds many. Held
//! results are reserved from a [`Budget`]. Apart from them, a caller that does not read its answers holds next to nothing.

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

/// Results of up to this many characters are decrypted before they are sent. Longer ones are decrypted while they stream, and can't be
/// replaced by the original after an error.
const HELD: usize = 256 * 1024;
/// This many characters of any result are held. An encrypted result is recognizable by them.
const BEGINNING: usize = 16 * 1024;
/// The most memory of a held result during decryption, as a multiple of its length: the original, the unescaped text, and the plaintext.
const TIMES: u64 = 3;
/// The largest piece that waits to be sent.
const PIECE: usize = 16 * 1024;
/// The number of bytes that give such a piece in base64.
const PLAIN: usize = PIECE / 4 * 3;
/// How many pieces may wait to be sent.
const AHEAD: usize = 1;

type Out = mpsc::Sender<io::Result<Bytes>>;

/// The form of an answer with results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A page; each entry is a result.
    Page,
    /// A single result.
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
    /// Whether a complete answer has this form and contains only results of this task.
    pub fn is_of(self, task: u64, answer: &[u8]) -> bool {
        // Serde also accepts lists for structs.
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

/// Everything that is needed to decrypt a caller's results.
pub(crate) struct Decryption {
    pub form: Form,
    pub key: Arc<PrivateKey>,
    pub failures: Arc<LogThrottle>,
    /// The budget for held results.
    pub quota: Arc<Budget>,
    pub rsa_queue: Arc<FairQueue>,
    pub client: Client,
}

/// Decrypts the results in an answer while it streams.
pub(crate) fn decrypted(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    how: Decryption,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (out, answer) = mpsc::channel(AHEAD);
    let task = tokio::spawn(async move {
        let mut reading = Decryptor { scan: Scan::new(how.form.find()), value: None, how, out };
        if let Err(error) = reading.through(pieces).await {
            // If sending fails, the receiver has gone.
            let _ = reading.out.send(Err(error)).await;
        }
    });
    until_end_of(task, ReceiverStream::new(answer))
}

/// Streams the output of a task. If the task panics or is cancelled, its output is incomplete, so the stream ends with an
/// error.
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
    /// Held as it arrived, with its escapes.
    Held { text: BytesMut, taken: Reservation },
    /// Too long to be held and not encrypted, so it passes unchanged.
    PassedOn,
    /// Too long to be held, so it is decrypted while it streams.
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

    /// Handles a text that ends within a result: the output must look incomplete, too.
    async fn cut_off(&mut self) -> io::Result<()> {
        match self.value.take() {
            Some(OpenResult::Held { text, taken: _taken }) => {
                self.write(Bytes::from_static(b"\"")).await?;
                self.write(text.freeze()).await
            }
            Some(OpenResult::Decrypted { writes, .. }) => {
                // Aborted, so that it does not take the end of the text for the end of the message.
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

    /// Starts to decrypt a result that is too long to be held.
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

    /// Sends a held result as base64, or unchanged if it can't be decrypted.
    async fn whole(&self, text: Bytes) -> io::Result<()> {
        self.write(Bytes::from_static(b"\"")).await?;
        match self.decrypted(&text).await {
            Some(bytes) => {
                // From here on, only the plaintext is held.
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

    /// Returns the plaintext of a result, if it can be decrypted.
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

/// Whether this much of a result may be held. Its beginning may always be held.
fn may_hold(length: usize, taken: &Reservation) -> bool {
    length <= BEGINNING || length <= HELD && taken.grow_to(TIMES * length as u64).is_ok()
}

/// Cuts a text into small pieces.
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

/// Whether a text has the form of an encrypted message: a key, an initial counter, and the ciphertext.
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
