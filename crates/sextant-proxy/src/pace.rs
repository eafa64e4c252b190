//! How slowly an algorithm may send and read. While it does, a connection of the server's is held, and all that the server keeps for it: a
//! part of a task, or an answer of any length. Only the time counts in which the algorithm is waited for, not what the server takes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::{Instant, Sleep};

/// So many bytes make up for a second.
pub(crate) const BYTES_PER_SECOND: u64 = 256 * 1024;

/// How long an algorithm may still be waited for.
pub(crate) struct Pace {
    left: Duration,
    most: Duration,
    /// While it is waited for.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    /// So long in sum, and longer for each byte that moves.
    pub fn new(most: Duration) -> Self {
        Self { left: most, most, waits: None }
    }

    /// Nothing moves: the algorithm is waited for. Ready once that has taken too long.
    pub fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let waits = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        waits.1.poll_unpin(context)
    }

    /// So many bytes have moved.
    pub fn moved(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waits.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let earned = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / BYTES_PER_SECOND);
        self.left = (self.left + earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long so many bytes each time, with a pause before, are waited for.
    async fn lasts(bytes: usize, pause: Duration, times: usize) -> Option<Duration> {
        let (mut pace, began) = (Pace::new(Duration::from_secs(300)), Instant::now());
        for _ in 0..times {
            let slow = std::future::poll_fn(|context| pace.poll_too_slow(context));
            if tokio::time::timeout(pause, slow).await.is_ok() {
                return Some(began.elapsed());
            }
            pace.moved(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_for_long_is_not_waited_for() {
        let second = Duration::from_secs(1);
        assert_eq!(lasts(1, 1000 * second, 1).await, Some(300 * second), "silence");
        let drips = lasts(1, second, 10_000).await.unwrap();
        assert!(drips >= 300 * second && drips < 302 * second, "{drips:?}");
        let slow = lasts(64 * 1024, second, 10_000).await.unwrap();
        assert!(slow >= 399 * second && slow < 402 * second, "{slow:?}");
        assert_eq!(lasts(256 * 1024, second, 10_000).await, None, "at that pace for ever");
        // What was sent fast before makes up for no more than the first time.
        let mut pace = Pace::new(300 * second);
        pace.moved(1 << 40);
        assert_eq!(pace.left, 300 * second);
    }
}
