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

use super::access::Record;
use super::upstream::Lease;

/// A body that may not stand still for longer than a while.
pub(crate) struct Paced {
    body: Incoming,
    silence: Duration,
    /// Runs while nothing comes.
    waits: Option<Pin<Box<Sleep>>>,
    /// Told when it has come to its end.
    ended: Option<Arc<AtomicBool>>,
}

impl Paced {
    pub fn new(body: Incoming, silence: Duration) -> Self {
        Self { body, silence, waits: None, ended: None }
    }

    /// Tells when all of it has been read.
    pub fn telling(self, ended: &Arc<AtomicBool>) -> Self {
        Self { ended: Some(ended.clone()), ..self }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waits = None;
            if let Some(ended) = &self.ended
                && (frame.is_none() || self.body.is_end_stream())
            {
                ended.store(true, Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let silence = self.silence;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
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
pub(crate) enum Outgoing {
    /// Nothing.
    Empty,
    /// What the algorithm sends, as it comes.
    Passed(Paced),
    /// What is made of that.
    Made {
        /// How many bytes are still to come, if that is known.
        length: Option<u64>,
        /// The bytes.
        pieces: BoxStream<'static, io::Result<Bytes>>,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Passed(body) => Pin::new(body).poll_frame(context),
            Self::Made { length, pieces } => {
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
            Self::Passed(body) => body.is_end_stream(),
            Self::Made { length, .. } => *length == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Passed(body) => body.size_hint(),
            Self::Made { length, .. } => length.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

/// How much of a request's body has gone.
#[derive(Default)]
pub(crate) struct HandedOver {
    /// How many bytes.
    pub bytes: AtomicU64,
    /// Whether all of it.
    pub whole: AtomicBool,
}

/// What goes to the server, and how much of it has gone.
pub(crate) struct Counted {
    /// What goes.
    pub body: Outgoing,
    /// How much of it has gone.
    pub handed_over: Arc<HandedOver>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(piece)) = &frame {
            self.handed_over.bytes.fetch_add(piece.data_ref().map_or(0, |bytes| bytes.len() as u64), Relaxed);
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.handed_over.whole.store(true, Relaxed);
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
pub(crate) struct Leased {
    body: Paced,
    reuse: Reuse,
    lease: Option<Lease>,
}

impl Leased {
    pub fn new(body: Paced, lease: Lease, reuse: Reuse) -> Self {
        let mut leased = Self { body, reuse, lease: Some(lease) };
        if leased.body.is_end_stream() {
            leased.ended();
        }
        leased
    }

    fn ended(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.reuse == Reuse::Allowed
        {
            lease.give_back();
        }
    }
}

impl Body for Leased {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) if self.body.is_end_stream() => self.ended(),
            Some(Ok(_)) => {}
            // A connection that broke in the middle is nobody's any more.
            Some(Err(_)) => self.lease = None,
            None => self.ended(),
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
pub(crate) enum Answering {
    /// A text that is at hand.
    Whole(Option<Bytes>),
    /// What the server sends, as it comes.
    Passed(Leased),
    /// What is made of that.
    Changed(BoxStream<'static, io::Result<Bytes>>),
}

impl Answering {
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// How long it is, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Passed(body) => body.size_hint(),
            Self::Changed(_) => SizeHint::default(),
        }
    }
}

/// An answer's body, and the record that is kept of it: written when the last of it is gone.
pub(crate) struct Recorded {
    pub body: Answering,
    pub record: Record,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = match &mut this.body {
            Answering::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Answering::Passed(body) => ready!(Pin::new(body).poll_frame(context)),
            Answering::Changed(pieces) => ready!(pieces.poll_next_unpin(context)).map(|piece| piece.map(Frame::data)),
        };
        match &frame {
            Some(Ok(frame)) => this.record.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => this.record.broke(error),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Answering::Whole(bytes) => bytes.is_none(),
            Answering::Passed(body) => body.is_end_stream(),
            Answering::Changed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
