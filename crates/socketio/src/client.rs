//! The handle: cheap to clone, sends events, and keeps the connection alive as long as one of its kind is there.

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
/// When the last clone is dropped the connection is cut; [`Client::shutdown`] ends it politely.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub link: Arc<CurrentLink>,
    pub command: watch::Sender<Command>,
    /// The task holds the other end, and so drops it however it ends.
    pub done: watch::Receiver<()>,
    pub task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Begins to configure a client for a server's URL (`http` or `https`). Without a path of its own the URL gets
    /// Socket.IO's usual one, `/socket.io/`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Is the namespace connected at this moment?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.link.get().is_some()
    }

    /// Sends an event. `Ok` means that it is queued for the connection of this moment: it goes out in order, at most
    /// once, and is lost when that connection is. Waits while the queue is full.
    ///
    /// # Errors
    /// [`EmitError::NotConnected`], at once, without a connection; [`EmitError::TooLarge`].
    pub async fn emit(&self, event: &str, args: impl Into<Args>) -> Result<(), EmitError> {
        let link = self.inner.link.get().ok_or(EmitError::NotConnected)?;
        link.send(&body(event, args.into(), None)).await
    }

    /// Sends an event and waits up to `limit` for the server's acknowledgement, which has values of its own.
    ///
    /// # Errors
    /// Those of [`Client::emit`], also when the connection is lost meanwhile, and [`EmitError::NoAck`].
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

    /// Ends the present connection and makes a new one with fresh headers, after the usual wait. For servers that
    /// say by an event that a token has expired. Does nothing while there is no connection.
    pub fn reconnect(&self) {
        if self.is_connected() {
            self.inner.command.send_modify(|wish| wish.reconnects += 1);
        }
    }

    /// Ends the client: what is queued goes out, then a goodbye; all within a few seconds. Returns when the task has
    /// ended. [`Events`](crate::Events) ends as well, and all clones are without a connection for good.
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
