//! `POST task` in an unencrypted collaboration: forwards the task unchanged once its image is known to be its caller's.
//!
//! A short task is read completely and then sent. A longer one is streamed, except for its last piece and the bracket that ends it: without
//! them, no server can process it. They follow when the whole task has arrived and has been checked.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::access_log::Record;
use super::body::{IdleTimeoutBody, RequestBody, ResponseBody};
use super::forward::{HandleResult, Proxy};
use super::outline::{Keep, Outline, TooLong};
use super::refusal::{Refusal, not_whole};
use super::retry::UpstreamRequest;
use super::subtask;

/// Image names are shorter. Deeper strings are not needed here.
const KEEP: Keep = Keep { outermost: 1024, deeper: 0 };
/// The largest task without its strings, in bytes: a thousand organizations need two thirds of it. Small, because each connection may hold
/// this much.
const LONGEST: usize = 32 * 1024;
/// A task of up to this many bytes is sent completely or not at all.
const AHEAD: usize = 16 * 1024;
/// The most bytes of the bracket that ends a task and the white space after it.
const TRAILING: usize = 1024;

/// Checks a task while it arrives.
struct TaskCheck {
    image: String,
    outline: Outline,
    /// The last piece, up to `held`. It is also held back, so that a text whose end is not found is never sent completely.
    last: Bytes,
    /// The bracket that ends the task, and everything after it.
    held: BytesMut,
}

impl TaskCheck {
    fn new(image: String) -> Self {
        Self { image, outline: Outline::new(KEEP, LONGEST), last: Bytes::new(), held: BytesMut::new() }
    }

    /// Checks the next piece and returns the bytes that may be sent.
    fn feed(&mut self, mut piece: Bytes) -> Result<Bytes, Refusal> {
        // JSON in UTF-8 has no zero bytes; JSON in UTF-16 or UTF-32 always has some, and Python's parser reads it.
        if memchr::memchr(0, &piece).is_some() {
            let message = "The task is not sent, since it can't be read: it is not written in UTF-8.";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
        }
        let goes_on = self.outline.feed(&piece).map_err(|TooLong| too_large())?;
        let held = piece.split_off(goes_on);
        let follows = &held[usize::from(self.held.is_empty()).min(held.len())..];
        if follows.iter().any(|byte| !byte.is_ascii_whitespace()) {
            let message = "The task is not sent, since it can't be read: something follows its end.";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
        }
        if self.held.len() + held.len() > TRAILING {
            return Err(too_large());
        }
        self.held.extend_from_slice(&held);
        Ok(if piece.is_empty() { piece } else { std::mem::replace(&mut self.last, piece) })
    }

    /// Checks the image after the whole task has arrived, and returns the rest.
    fn finish(self) -> Result<Bytes, Refusal> {
        subtask::has_image(self.outline.text(), &self.image)?;
        let mut rest = BytesMut::from(self.last);
        rest.extend_from_slice(&self.held);
        Ok(rest.freeze())
    }
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The task is too large, even without the texts in it.")
}

impl Proxy {
    /// Forwards a task if it has the caller's image.
    pub async fn forward_task(
        &self,
        asked: &UpstreamRequest<'_>,
        body: Incoming,
        image: String,
        record: &mut Record,
    ) -> HandleResult {
        let length = body.size_hint().exact();
        let timeouts = &self.shared.timeouts;
        let body = IdleTimeoutBody::new(body, timeouts.idle).at_pace(timeouts.upload);
        let mut body = BodyDataStream::new(body.signal_end(record.body_ended()));
        let mut checking = TaskCheck::new(image);
        // Copied, because a small piece may keep a large buffer alive.
        let mut read = BytesMut::new();
        while read.len() <= AHEAD {
            let Some(piece) = body.next().await else {
                read.extend_from_slice(&checking.finish()?);
                let length = Some(read.len() as u64);
                let pieces = stream::iter([Ok(read.freeze())]).boxed();
                let answer = self.send_with_retry(asked, RequestBody::Generated { length, pieces }, record).await?;
                return Ok(answer.map(ResponseBody::Streamed));
            };
            read.extend_from_slice(&checking.feed(piece.map_err(not_whole)?)?);
        }
        let refused: Arc<Mutex<Option<Refusal>>> = Arc::default();
        let state = (body, Some(checking), refused.clone());
        let rest = stream::unfold(state, |(mut body, checking, refused)| async move {
            let mut checking: TaskCheck = checking?;
            let piece = match body.next().await {
                Some(Ok(piece)) => checking.feed(piece).map(|piece| (piece, Some(checking))),
                Some(Err(error)) => Err(not_whole(error)),
                None => checking.finish().map(|piece| (piece, None)),
            };
            Some(match piece {
                Ok((piece, checking)) => (Ok(piece), (body, checking, refused)),
                Err(refusal) => {
                    let error = io::Error::other(refusal.message.clone());
                    *refused.lock() = Some(refusal);
                    (Err(error), (body, None, refused))
                }
            })
        });
        let pieces = stream::iter([Ok(read.freeze())]).chain(rest).boxed();
        let answer = self.send_with_retry(asked, RequestBody::Generated { length, pieces }, record).await;
        // The stream has aborted the request; the refusal gives the reason.
        if let Some(refusal) = refused.lock().take() {
            return Err(refusal);
        }
        Ok(answer?.map(ResponseBody::Streamed))
    }
}
