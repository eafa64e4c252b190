//! Signals to a run's reconciler: a kill, and requests to look at the server again.
//!
//! It works like a `tokio::sync::watch` channel with one receiver. Such a channel takes 400 bytes, and ten thousand runs may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::FutureExt as _;
use tokio::sync::Notify;

/// The signals that a reconciler has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// A kill of the run was requested.
    pub kill: bool,
    /// Counts the requests to refresh the server's view of the run.
    pub refreshes: u32,
}

#[derive(Debug)]
struct Shared {
    kill: AtomicBool,
    refreshes: AtomicU32,
    changed: Notify,
}

/// Sends signals to a reconciler.
#[derive(Debug)]
pub struct SignalSender(Arc<Shared>);

/// Receives the signals to a reconciler.
#[derive(Debug)]
pub struct SignalReceiver(Arc<Shared>);

/// Creates a sender and its receiver, with this many requests to refresh.
pub fn channel(refreshes: u32) -> (SignalSender, SignalReceiver) {
    let shared = Shared { kill: AtomicBool::new(false), refreshes: AtomicU32::new(refreshes), changed: Notify::new() };
    let shared = Arc::new(shared);
    (SignalSender(shared.clone()), SignalReceiver(shared))
}

impl SignalSender {
    /// Requests a kill. Returns whether this is the first request.
    pub fn kill(&self) -> bool {
        let is_new = !self.0.kill.swap(true, Ordering::SeqCst);
        if is_new {
            self.0.changed.notify_one();
        }
        is_new
    }

    /// Requests a refresh.
    pub fn refresh(&self) {
        self.0.refreshes.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

impl SignalReceiver {
    /// Returns the signals so far, and marks them as seen.
    pub fn see(&mut self) -> Signal {
        let _ = self.0.changed.notified().now_or_never();
        Signal { kill: self.0.kill.load(Ordering::SeqCst), refreshes: self.0.refreshes.load(Ordering::SeqCst) }
    }

    /// Waits for a signal that has not been seen, and marks it as seen. Cancel safe.
    pub async fn changed(&mut self) {
        self.0.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_seen_once_and_kept_until_then() {
        let (sender, mut receiver) = channel(1);
        assert_eq!(receiver.see(), Signal { kill: false, refreshes: 1 });
        assert!(receiver.changed().now_or_never().is_none());
        assert!(sender.kill() && !sender.kill());
        sender.refresh();
        assert!(receiver.changed().now_or_never().is_some());
        assert!(receiver.changed().now_or_never().is_none());
        assert_eq!(receiver.see(), Signal { kill: true, refreshes: 2 });
        sender.refresh();
        assert_eq!(receiver.see(), Signal { kill: true, refreshes: 3 });
        assert!(receiver.changed().now_or_never().is_none(), "it has been seen");
    }
}
