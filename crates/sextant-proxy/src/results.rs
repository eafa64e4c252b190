//! `GET result` in an encrypted collaboration, for a subtask of the caller's ([`whose`](super::whose)): the results are encrypted for this
//! organization, and are given to its algorithm as a regular node gives them: decrypted, as base64.
//!
//! What can't be decrypted is passed on as it is, also as a regular node does: the algorithm's tools then say so, and nobody takes a
//! result for missing that is there.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use vantage6::encryption::{PrivateKey, decrypt};
use vantage6::json::{Find, Part, Scan, Unescape};

use super::tasks::Base64Encoder;
use log_throttle::LogThrottle;

/// Results of up to so many characters are decrypted as a whole; of longer ones, what comes later can't be taken back.
const HELD: usize = 256 * 1024;
/// How many pieces may be under way.
const AHEAD: usize = 2;

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

/// The text with its results decrypted, as it comes.
pub(crate) fn decrypted(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    form: Form,
    key: Arc<PrivateKey>,
    failures: Arc<LogThrottle>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (out, answer) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut reading = Reading { scan: Scan::new(form.find()), value: None, key, failures, out };
        if let Err(error) = reading.through(pieces).await {
            // Whoever waits for the answer has gone, or hears of it.
            let _ = reading.out.send(Err(error)).await;
        }
    });
    ReceiverStream::new(answer)
}

struct Reading {
    scan: Scan,
    value: Option<Coming>,
    key: Arc<PrivateKey>,
    failures: Arc<LogThrottle>,
    out: Out,
}

/// A result that is being read.
enum Coming {
    /// As it came, with its escapes.
    Held(BytesMut),
    /// Too long to be held, and not encrypted.
    Passed,
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

impl Reading {
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
                    Found::Begin => self.value = Some(Coming::Held(BytesMut::new())),
                    Found::Value(text) => self.more(text).await?,
                    Found::End => self.end().await?,
                }
            }
        }
        self.cut_off().await
    }

    /// What a text that ends in the middle of a result still holds: it must look as cut off as it is.
    async fn cut_off(&mut self) -> io::Result<()> {
        match self.value.take() {
            Some(Coming::Held(text)) => self.write([b"\"", &text[..]].concat().into()).await,
            Some(Coming::Decrypted { writes, .. }) => {
                // Before it takes the end of the text for the end of the message.
                writes.abort();
                Err(damaged(&"it is cut off"))
            }
            Some(Coming::Passed) | None => Ok(()),
        }
    }

    async fn write(&self, text: Bytes) -> io::Result<()> {
        self.out.send(Ok(text)).await.map_err(|_| gone())
    }

    async fn more(&mut self, text: Bytes) -> io::Result<()> {
        match &mut self.value {
            Some(Coming::Held(held)) if held.len() + text.len() <= HELD => {
                held.extend_from_slice(&text);
                Ok(())
            }
            Some(Coming::Held(held)) => {
                let held = held.split().freeze();
                self.value = Some(if is_encrypted(&held) {
                    self.begin()
                } else {
                    self.write(Bytes::from_static(b"\"")).await?;
                    Coming::Passed
                });
                Box::pin(self.more(held)).await?;
                Box::pin(self.more(text)).await
            }
            Some(Coming::Passed) => self.write(text).await,
            Some(Coming::Decrypted { unescape, to, .. }) => {
                let plain = unescape.feed(&text).ok_or_else(|| damaged(&"it has characters that no message has"))?;
                to.send(Ok(plain.freeze())).await.map_err(|_| damaged(&"it can't be decrypted"))
            }
            None => Ok(()),
        }
    }

    /// Begins to decrypt what is too long to be held.
    fn begin(&self) -> Coming {
        let (to, message) = mpsc::channel(AHEAD);
        let (key, out) = (self.key.clone(), self.out.clone());
        let writes = tokio::spawn(async move {
            let mut bytes = std::pin::pin!(decrypt(ReceiverStream::new(message), key));
            let mut encoder = Base64Encoder::default();
            out.send(Ok(Bytes::from_static(b"\""))).await.map_err(|_| gone())?;
            while let Some(piece) = bytes.next().await {
                let text = encoder.feed(&piece.map_err(|error| damaged(&error))?);
                out.send(Ok(text)).await.map_err(|_| gone())?;
            }
            let last = [encoder.finish(), Bytes::from_static(b"\"")].concat();
            out.send(Ok(last.into())).await.map_err(|_| gone())
        });
        Coming::Decrypted { unescape: Unescape::default(), to, writes }
    }

    async fn end(&mut self) -> io::Result<()> {
        match self.value.take() {
            Some(Coming::Held(text)) => {
                let text = self.decrypted(text.freeze()).await;
                self.write([b"\"", &text[..], b"\""].concat().into()).await
            }
            Some(Coming::Passed) => self.write(Bytes::from_static(b"\"")).await,
            Some(Coming::Decrypted { to, writes, .. }) => {
                drop(to);
                writes.await.map_err(io::Error::other)?
            }
            None => Ok(()),
        }
    }

    /// The result in base64; as it was, if it can't be decrypted.
    async fn decrypted(&self, text: Bytes) -> Bytes {
        if !is_encrypted(&text) {
            return text;
        }
        let Some(message) = Unescape::default().feed(&text) else { return text };
        let message = stream::iter([Ok(message.freeze())]);
        let bytes: Result<Vec<Bytes>, _> = decrypt(message, self.key.clone()).try_collect().await;
        match bytes {
            Ok(bytes) => {
                let mut encoder = Base64Encoder::default();
                let first = encoder.feed(&bytes.concat());
                [first, encoder.finish()].concat().into()
            }
            Err(error) => {
                if let Some(times) = self.failures.happened() {
                    tracing::warn!(
                        "a result can't be decrypted and is passed on as it is ({times} times since this was last said): {error}"
                    );
                }
                text
            }
        }
    }
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
