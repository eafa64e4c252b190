//! `POST task` in an unencrypted collaboration: it goes on as it is, but not before its image is known to be its caller's.
//!
//! A short task is read whole and then sent. Of a longer one all goes on as it comes, except the last piece and the bracket that ends it:
//! without them nobody can carry it out. They follow when all of the task has come and has been looked through.

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

/// No image has a longer name; what is deeper in a task doesn't matter here.
const KEEP: Keep = Keep { outermost: 1024, deeper: 0 };
/// How large a task may be without its strings: a thousand organizations take two thirds of it. All of this is held for each connection,
/// so it is little.
const LONGEST: usize = 32 * 1024;
/// A task of up to so many bytes leaves as a whole or not at all.
const AHEAD: usize = 16 * 1024;
/// How much white space may follow the bracket that ends a task.
const TRAILING: usize = 1024;

/// A task on its way.
struct TaskCheck {
    image: String,
    outline: Outline,
    /// The last piece, as far as it comes before `held`: held back too, so that a text whose end is not found never leaves whole.
    last: Bytes,
    /// From the bracket on that ends the task.
    held: BytesMut,
}

impl TaskCheck {
    fn new(image: String) -> Self {
        Self { image, outline: Outline::new(KEEP, LONGEST), last: Bytes::new(), held: BytesMut::new() }
    }

    /// Takes the next piece, and gives what of it may go on.
    fn feed(&mut self, mut piece: Bytes) -> Result<Bytes, Refusal> {
        // No JSON in UTF-8 has a zero byte, and each in UTF-16 or UTF-32 has: Python's parser takes those too.
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

    /// All of it has come: gives the rest.
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
    /// A task of the caller's image, as it comes.
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
        // Copied, since pieces may be small and what they are cut from large.
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
        // The request has ended in the middle, and why is known here.
        if let Some(refusal) = refused.lock().take() {
            return Err(refusal);
        }
        Ok(answer?.map(ResponseBody::Streamed))
    }
}
