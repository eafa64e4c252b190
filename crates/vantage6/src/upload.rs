//! Sends a request whose body is a stream that can't be produced a second time, and watches its progress.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use reqwest::{Response, header};
use secrecy::SecretString;

use crate::{
    Delivery, Error,
    http::{Call, HttpTransport},
};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By a Content-Length: many deployments refuse other bodies.
    Length,
    /// In chunks: a server reads a body with a length into its memory before it passes it on to a blob store.
    Chunks,
}

/// A request body, sent once.
pub(crate) struct UploadBody {
    /// Its type.
    pub content_type: &'static str,
    pub framing: Framing,
    /// Its length in bytes.
    pub length: u64,
    pub pieces: BoxStream<'static, std::io::Result<Bytes>>,
}

/// The progress of a request body.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    /// Why the body could not be read to the end.
    failure: Mutex<Option<String>>,
}

/// A request body of known length that reports its progress.
struct Upload {
    // reqwest requires Sync, which the stream is not. There is only ever one user.
    pieces: Mutex<Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>>,
    framing: Framing,
    left: u64,
    progress: Arc<Progress>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let pieces = self.pieces.get_mut();
        match std::task::ready!(pieces.poll_next_unpin(context)) {
            Some(Ok(piece)) => {
                let length = piece.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.progress.sent.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(error)) => {
                *self.progress.failure.lock() = Some(error.to_string());
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.framing == Framing::Length && self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length => SizeHint::with_exact(self.left),
            Framing::Chunks => SizeHint::default(),
        }
    }
}

/// Sends the request once; the body can't be produced a second time.
pub(crate) async fn send(
    transport: &HttpTransport,
    call: &Call,
    token: &SecretString,
    body: UploadBody,
) -> Result<Response, Error> {
    let UploadBody { content_type, framing, length, pieces } = body;
    let progress = Arc::new(Progress::default());
    let body = Upload { pieces: Mutex::new(pieces), framing, left: length, progress: Arc::clone(&progress) };
    let request = transport
        .request(call, Some(token))?
        .header(header::CONTENT_TYPE, content_type)
        .body(reqwest::Body::wrap(body));

    let began = tokio::time::Instant::now();
    let mut sending = Box::pin(request.send());
    let mut before = 0;
    let failed = loop {
        // The server parses and stores the whole text before it answers: 4.5.5 takes a quarter of a second per megabyte.
        let patience =
            if before >= length { transport.silence + Duration::from_millis(length / 1000) } else { transport.silence };
        match tokio::time::timeout(patience, &mut sending).await {
            Ok(Ok(response)) => {
                transport.observe(call, began, Some(&response));
                return Ok(response);
            }
            Ok(Err(error)) => break Some(error),
            Err(_) => {
                let now = progress.sent.load(Ordering::Relaxed);
                if now == before {
                    break None;
                }
                before = now;
            }
        }
    };
    transport.observe(call, began, None);
    let request = call.to_string();
    if let Some(cause) = progress.failure.lock().take() {
        return Err(Error::Source { request, cause });
    }
    // Until its end is sent, the server cannot have understood the request.
    let taken = if progress.sent.load(Ordering::Relaxed) < length { Delivery::NotSent } else { Delivery::Unknown };
    Err(match failed {
        Some(error) => transport.errors.error(request, &error, taken),
        None if taken == Delivery::NotSent => Error::Timeout {
            request,
            what: "sending the result made no progress",
            after: transport.silence,
            delivery: taken,
        },
        None => Error::Timeout {
            request,
            what: "the whole result was sent, but no answer arrived",
            after: transport.silence,
            delivery: taken,
        },
    })
}
