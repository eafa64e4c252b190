//! Commands from the handles to the task that keeps the connection.

use tokio::sync::watch;

use crate::error::Error;
use crate::event::EventSender;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Command {
    pub stop: bool,
    pub reconnects: u64,
}

/// The task's end of the channel.
#[derive(Clone)]
pub(crate) struct Control(pub watch::Receiver<Command>);

impl Control {
    /// Waits until the task should end: on shutdown, or when the receiver of events is dropped.
    pub async fn stopped(&mut self, events: &EventSender) {
        tokio::select! {
            _ = self.0.wait_for(|wish| wish.stop) => (),
            () = events.closed() => (),
        }
    }

    /// Waits for a stop, or for a request to reconnect made after this call.
    pub async fn interrupted(&mut self, events: &EventSender) -> Error {
        let reconnects = self.0.borrow().reconnects;
        let changed = self.0.wait_for(|wish| wish.stop || wish.reconnects != reconnects);
        tokio::select! {
            wish = changed => match wish {
                Ok(wish) if !wish.stop => Error::Reconnecting,
                _ => Error::Shutdown,
            },
            () = events.closed() => Error::Shutdown,
        }
    }
}
