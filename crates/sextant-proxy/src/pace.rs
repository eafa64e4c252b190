//! How slowly an algorithm may send and read. Meanwhile it holds a connection of the server, and all that the server keeps for it: a part
//! of a task, or an answer of any length. Only the time counts in which the proxy waits for the algorithm, not what the server takes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::{Instant, Sleep};

/// The lowest acceptable rate: this many bytes earn another second.
pub(crate) const BYTES_PER_SECOND: u64 = 256 * 1024;

/// How long the proxy still waits for an algorithm.
pub(crate) struct Pace {
    pace: pace::Pace,
    /// Set during a wait.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    /// Waits for `most` in total; bytes that move earn time back.
    pub fn new(most: Duration) -> Self {
        Self { pace: pace::Pace::new(most, BYTES_PER_SECOND), waits: None }
    }

    /// Must be polled while nothing moves. Ready once the algorithm is too slow.
    pub fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.pace.left();
        let waits = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        waits.1.poll_unpin(context)
    }

    /// Records that this many bytes have moved.
    pub fn moved(&mut self, bytes: usize) {
        let waited = self.waits.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.pace.moved(bytes, waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long an algorithm is waited for that moves this many bytes after each pause, this many times; `None`: to the end.
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
        assert_eq!(lasts(256 * 1024, second, 10_000).await, None, "fast enough");
        // Bytes earn no more than the time limit.
        let mut pace = Pace::new(300 * second);
        pace.moved(1 << 40);
        assert_eq!(pace.pace.left(), 300 * second);
    }
}
