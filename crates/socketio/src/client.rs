//! The handle, which is cheap to clone, sends events, and keeps the connection alive while any clone exists.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::builder::Builder;
use crate::control::Command;
use crate::error::EmitError;
use crate::link::CurrentLink;
use crate::packet::Args;
use crate::packet::socket::Body;

/// A client of one namespace of one server.
///
/// Dropping the last clone cuts the connection; [`Client::shutdown`] closes it cleanly.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub link: Arc<CurrentLink>,
    pub command: watch::Sender<Command>,
    /// The task holds the sender and drops it however the task ends.
    pub done: watch::Receiver<()>,
    pub task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Starts configuring a client for a server's URL (`http` or `https`). A URL without a path gets Socket.IO's usual one,
    /// `/socket.io/`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Returns whether the namespace is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.link.get().is_some()
    }

    /// Sends an event. `Ok` means that the event is queued for the current connection: it is sent in order, at most once,
    /// and is lost if that connection is lost. Waits while the queue is full.
    ///
    /// # Errors
    /// [`EmitError::NotConnected`], immediately, if there is no connection; [`EmitError::TooLarge`].
    pub async fn emit(&self, event: &str, args: impl Into<Args>) -> Result<(), EmitError> {
        let link = self.inner.link.get().ok_or(EmitError::NotConnected)?;
        link.send(&body(event, args.into(), None)).await
    }

    /// Sends an event and waits up to `limit` for the server's acknowledgement, whose values it returns.
    ///
    /// # Errors
    /// The errors of [`Client::emit`], also if the connection is lost while waiting; [`EmitError::NoAck`];
    /// [`EmitError::TooManyPending`].
    pub async fn emit_with_ack(&self, event: &str, args: impl Into<Args>, limit: Duration) -> Result<Args, EmitError> {
        let args = args.into();
        let exchange = async {
            let link = self.inner.link.get().ok_or(EmitError::NotConnected)?;
            let (id, answer) = link.expect_ack()?;
            link.send(&body(event, args, Some(id))).await?;
            drop(link);
            answer.await.map_err(|_| EmitError::NotConnected)
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(EmitError::NoAck(limit)))
    }

    /// Ends the current connection and, after the usual delay, makes a new one with fresh headers. Use it with servers that
    /// report an expired token by an event. Does nothing while there is no connection.
    pub fn reconnect(&self) {
        if self.is_connected() {
            self.inner.command.send_modify(|wish| wish.reconnects += 1);
        }
    }

    /// Ends the client: sends the queued packets and then closes the connection, within a few seconds. Returns when the task
    /// has ended. [`Events`](crate::Events) then ends as well, and no clone can connect again.
    pub async fn shutdown(&self) {
        self.inner.command.send_modify(|wish| wish.stop = true);
        let mut done = self.inner.done.clone();
        while done.changed().await.is_ok() {}
    }
}

fn body(event: &str, args: Args, id: Option<u64>) -> Body {
    Body::Event { event: event.to_owned(), args, id, attachments: 0 }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}
