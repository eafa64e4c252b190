//! The events that a client reports to its owner, and their bounded queue.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{EmitError, Error};
use crate::link::Link;
use crate::packet::Args;
use crate::packet::socket::Body;
use crate::transport::Transport;

/// What a client reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The namespace is connected. This is the first event of a connection, and follows each reconnect. The server's state
    /// may have changed in between.
    Connected {
        /// The id that the server gave the client in this namespace, if any.
        sid: Option<String>,
        /// The transport that carries the packets.
        transport: Transport,
    },
    /// The server sent an event.
    Message(Message),
    /// The server sent an event that was not read: it is larger than [`Builder::max_event`](crate::Builder::max_event), is not
    /// JSON, came without all of its attachments, or came before the namespace was connected and did not fit into the queue.
    /// The connection goes on.
    LeftOut {
        /// Its name; `None` if there may be several.
        event: Option<String>,
    },
    /// The connection was lost or closed. A new attempt follows, except after a shutdown.
    Disconnected {
        /// Why.
        reason: Error,
    },
    /// An attempt to connect failed; another one follows.
    ConnectFailed {
        /// Why.
        error: Error,
        /// Failed attempts since the last connection (or the start), including this one.
        attempt: u32,
        /// The delay before the next attempt.
        next_in: Duration,
    },
}

/// An event from the server.
pub struct Message {
    /// Its name.
    pub event: String,
    /// Its arguments, not yet parsed. A binary one is `{"_placeholder": true, "num": n}`, which stands for the n-th attachment.
    pub args: Args,
    /// The binary arguments.
    pub attachments: Vec<Bytes>,
    /// Present when the server asks for an acknowledgement.
    pub ack: Option<Ack>,
}

impl std::fmt::Debug for Message {
    /// Omits the data, which must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { event, args, attachments, ack } = self;
        let mut shown = f.debug_struct("Message");
        shown.field("event", event).field("args", args).field("attachments", &attachments.len());
        shown.field("ack", &ack.is_some()).finish()
    }
}

/// Permits acknowledging one event, once.
pub struct Ack {
    pub(crate) id: u64,
    pub(crate) link: Arc<Link>,
}

impl Ack {
    /// Acknowledges the event.
    ///
    /// # Errors
    /// [`EmitError::NotConnected`] if the connection on which the event came is gone; [`EmitError::TooLarge`].
    pub async fn send(self, args: impl Into<Args>) -> Result<(), EmitError> {
        let body = Body::Ack { id: self.id, args: args.into(), attachments: 0 };
        self.link.send(&body).await
    }
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}

type Queued = (Event, Option<OwnedSemaphorePermit>);

/// The events of one client, in order. Dropping it stops the client.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Queued>);

impl Events {
    /// Returns the next event; `None` after a shutdown, or when the last [`Client`](crate::Client) handle was dropped.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.map(|(event, _)| event)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_recv(cx).map(|queued| queued.map(|(event, _)| event))
    }
}

/// The sending end of the queue, bounded by the number of events and by the bytes that they hold. While the queue is full,
/// the client does not read from the connection, so no event is lost.
#[derive(Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// What an event occupies besides its texts and attachments, in bytes.
const OVERHEAD: usize = 256;

impl Event {
    /// Returns roughly how much memory the event takes, in bytes.
    fn weight(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Message(Message { event, args, attachments, .. }) => {
                    let attachments = attachments.iter().map(|data| data.len() + size_of::<Bytes>());
                    event.len() + args.as_str().len() + attachments.sum::<usize>()
                }
                Self::LeftOut { event } => event.as_ref().map_or(0, String::len),
                Self::Connected { .. } | Self::Disconnected { .. } | Self::ConnectFailed { .. } => 0,
            }
    }
}

impl EventSender {
    pub fn new(max_events: usize, max_bytes: usize) -> (Self, Events) {
        let (queue, receiver) = mpsc::channel(max_events.max(1));
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let bytes = Arc::new(Semaphore::new(max_bytes as usize));
        (Self { queue, bytes, max_bytes }, Events(receiver))
    }

    /// Queues an event, and waits while the queue is full. Use [`Self::closed`] to learn that the receiver is gone.
    pub async fn send(&self, event: Event) {
        let size = u32::try_from(event.weight()).unwrap_or(u32::MAX).min(self.max_bytes);
        // The semaphore is never closed, so this cannot fail.
        let permit = Arc::clone(&self.bytes).acquire_many_owned(size).await.ok();
        let _ = self.queue.send((event, permit)).await;
    }

    /// Queues an event if there is room now; otherwise drops it.
    pub fn try_send(&self, event: Event) {
        let _ = self.queue.try_send((event, None));
    }

    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn event(name: &str) -> Event {
        Event::Message(Message { event: name.into(), args: Args::default(), attachments: vec![], ack: None })
    }

    #[tokio::test]
    async fn the_queue_is_bounded_by_bytes_too() {
        let (sender, mut events) = EventSender::new(10, 500);
        sender.send(event("a")).await;
        let second = tokio::time::timeout(Duration::from_millis(20), sender.send(event("b")));
        assert!(second.await.is_err());
        events.recv().await.unwrap();
        sender.send(event(&"larger than all".repeat(100))).await;
        let shown = format!("{:?}", events.recv().await.unwrap());
        assert!(shown.ends_with("args: [2 bytes], attachments: 0, ack: false })"), "{shown}");
    }
}
