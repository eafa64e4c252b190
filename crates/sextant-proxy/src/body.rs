//! The bodies of requests and answers on their way through.

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

/// A body that may not stand still for longer than a while.
pub(crate) struct IdleTimeoutBody {
    body: Incoming,
    silence: Duration,
    /// Runs while nothing comes.
    timer: Option<Pin<Box<Sleep>>>,
    /// How slowly it may come, if it is an algorithm's.
    pace: Option<Pace>,
    /// Told when it has come to its end.
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

    /// Tells when all of it has been read.
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

/// What goes to the server.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// What the algorithm sends, as it comes.
    Streamed(IdleTimeoutBody),
    /// What is made of that.
    Generated {
        /// How many bytes are still to come, if that is known.
        length: Option<u64>,
        /// The bytes.
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

/// How much of a request's body has gone.
#[derive(Default)]
pub(crate) struct SendProgress {
    /// How many bytes.
    pub bytes: AtomicU64,
    /// Whether all of it.
    pub complete: AtomicBool,
}

/// What goes to the server, and how much of it has gone.
pub(crate) struct CountingBody {
    /// What goes.
    pub body: RequestBody,
    /// How much of it has gone.
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

/// Whether a connection with the server may be used again once its answer has come whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Both sides have said all that they had to say.
    Allowed,
    /// More may come, or the server may take the rest of a request for another one.
    Never,
}

/// What the server sends; gives the connection back when it has come whole.
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
            // A connection that broke in the middle is nobody's any more.
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

/// What goes to the algorithm.
pub(crate) enum ResponseBody {
    /// A text that is at hand.
    Buffered(Option<Bytes>),
    /// What the server sends, as it comes.
    Streamed(PooledBody),
    /// What is made of that.
    Rewritten(BoxStream<'static, io::Result<Bytes>>),
}

impl ResponseBody {
    pub fn buffered(bytes: Bytes) -> Self {
        Self::Buffered(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// How long it is, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffered(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed(body) => body.size_hint(),
            Self::Rewritten(_) => SizeHint::default(),
        }
    }
}

/// An answer's body, and the record that is kept of it: written when the last of it is gone.
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
