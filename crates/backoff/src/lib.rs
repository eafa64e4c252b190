//! How long to wait before the next try: twice as long after each failure, up to a cap, less a random part of up to half, so that the
//! clients of a server that restarts do not all come back at the same moment.
//!
//! Whoever waits counts the failures, and so decides what resets them; and waits by its own means, because most waits here end early when
//! something changes. The crate `backon` drives the retries itself, and its jitter is added to the wait, beyond the cap.
#![forbid(unsafe_code)]

use std::time::Duration;

use rand::Rng as _;

/// The bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after this many failures in a row (from 1), without a random part.
    pub fn full(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// The wait after this many failures in a row; `chance` is between 0 (half of it) and 1 (all of it).
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        self.full(failures).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// A random part of [`full`](Self::full).
    pub fn random(&self, failures: u32) -> Duration {
        self.wait(failures, rand::rng().random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

    #[test]
    fn doubles_up_to_the_longest() {
        let full: Vec<u64> = (0..9).map(|failures| BACKOFF.full(failures).as_secs()).collect();
        assert_eq!(full, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.full(u32::MAX), BACKOFF.longest);
    }

    #[test]
    fn half_of_it_at_least() {
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 1.0), Duration::from_secs(4));
        for _ in 0..1_000 {
            assert!((30.0..=60.0).contains(&BACKOFF.random(100).as_secs_f64()));
        }
    }

    #[test]
    fn no_overflow() {
        let backoff = Backoff { first: Duration::MAX, longest: Duration::MAX };
        assert_eq!(backoff.wait(40, 0.0).as_secs(), Duration::MAX.as_secs() / 2 + 1);
    }
}
