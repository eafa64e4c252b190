//! The bodies of requests and responses that pass through the proxy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::access_log::Record;
use super::pace::Pace;
use super::upstream::PooledConnection;

/// A body that fails if nothing arrives for a while.
pub(crate) struct IdleTimeoutBody {
    body: Incoming,
    silence: Duration,
    /// Runs while no data arrives.
    timer: Option<Pin<Box<Sleep>>>,
    /// How slowly it may come, if it is an algorithm's.
    pace: Option<Pace>,
    /// Set when the body has been read to its end.
    ended: Option<Arc<AtomicBool>>,
}

impl IdleTimeoutBody {
    pub fn new(body: Incoming, silence: Duration) -> Self {
        Self { body, silence, timer: None, pace: None, ended: None }
    }

    /// Waits for so long in sum, and longer for what is large.
    pub fn at_pace(self, most: Duration) -> Self {
        Self { pace: Some(Pace::new(most)), ..self }
    }

    /// Sets this flag once the whole body has been read.
    pub fn signal_end(self, ended: &Arc<AtomicBool>) -> Self {
        Self { ended: Some(ended.clone()), ..self }
    }
}

impl Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            if let (Some(pace), Some(Ok(frame))) = (&mut self.pace, &frame) {
                pace.moved(frame.data_ref().map_or(0, Bytes::len));
            }
            if let Some(ended) = &self.ended
                && (frame.is_none() || self.body.is_end_stream())
            {
                ended.store(true, Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        if let Some(pace) = &mut self.pace
            && pace.poll_too_slow(context).is_ready()
        {
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly"))));
        }
        let silence = self.silence;
        let waits = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(waits.poll_unpin(context));
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing more came"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request to the server.
pub(crate) enum RequestBody {
    Empty,
    /// The algorithm's body, streamed.
    Streamed(IdleTimeoutBody),
    /// A body that the proxy generates.
    Generated {
        /// The remaining length in bytes, if known.
        length: Option<u64>,
        pieces: BoxStream<'static, io::Result<Bytes>>,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
            Self::Generated { length, pieces } => {
                let piece = ready!(pieces.poll_next_unpin(context));
                if let (Some(left), Some(Ok(piece))) = (length, &piece) {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
            Self::Generated { length, .. } => *length == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
            Self::Generated { length, .. } => length.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

/// How much of a request body has been handed to the connection.
#[derive(Default)]
pub(crate) struct SendProgress {
    pub bytes: AtomicU64,
    pub complete: AtomicBool,
}

/// A request body that reports its progress.
pub(crate) struct CountingBody {
    pub body: RequestBody,
    pub progress: Arc<SendProgress>,
}

impl Body for CountingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(piece)) = &frame {
            self.progress.bytes.fetch_add(piece.data_ref().map_or(0, |bytes| bytes.len() as u64), Relaxed);
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.progress.complete.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a connection to the server may be reused after its answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Request and answer are complete.
    Allowed,
    /// More data may arrive, or the server may take the rest of a request body for another request.
    Never,
}

/// The body of a server's answer. Returns the connection to the pool when the body is complete.
pub(crate) struct PooledBody {
    body: IdleTimeoutBody,
    reuse: Reuse,
    connection: Option<PooledConnection>,
}

impl PooledBody {
    pub fn new(body: IdleTimeoutBody, lease: PooledConnection, reuse: Reuse) -> Self {
        let mut leased = Self { body, reuse, connection: Some(lease) };
        if leased.body.is_end_stream() {
            leased.finish();
        }
        leased
    }

    fn finish(&mut self) {
        if let Some(lease) = self.connection.take()
            && self.reuse == Reuse::Allowed
        {
            lease.release();
        }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) if self.body.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
            // A connection that broke off is not reused.
            Some(Err(_)) => self.connection = None,
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response to an algorithm.
pub(crate) enum ResponseBody {
    /// A body in memory.
    Buffered(Option<Bytes>),
    /// The server's body, streamed.
    Streamed(PooledBody),
    /// The server's body, rewritten while it streams.
    Rewritten(BoxStream<'static, io::Result<Bytes>>),
}

impl ResponseBody {
    pub fn buffered(bytes: Bytes) -> Self {
        Self::Buffered(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Returns the length, if known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffered(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed(body) => body.size_hint(),
            Self::Rewritten(_) => SizeHint::default(),
        }
    }
}

/// A response body with its access log record, which is written when the body is dropped.
pub(crate) struct LoggedBody {
    pub body: ResponseBody,
    pub record: Record,
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = match &mut this.body {
            ResponseBody::Buffered(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            ResponseBody::Streamed(body) => ready!(Pin::new(body).poll_frame(context)),
            ResponseBody::Rewritten(pieces) => {
                ready!(pieces.poll_next_unpin(context)).map(|piece| piece.map(Frame::data))
            }
        };
        match &frame {
            Some(Ok(frame)) => this.record.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => this.record.interrupted(error),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            ResponseBody::Buffered(bytes) => bytes.is_none(),
            ResponseBody::Streamed(body) => body.is_end_stream(),
            ResponseBody::Rewritten(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
