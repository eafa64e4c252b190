//! Computes the wait before a retry. The wait doubles with each failure up to a limit; a random part of up to half is subtracted, so
//! that the clients of a restarting server do not all return at the same moment.
//!
//! The caller counts the failures, and so decides what resets them. The caller also does the waiting, because most waits here end early
//! when something changes. The crate `backon` runs the retries itself and adds its jitter to the wait, beyond the limit.
#![forbid(unsafe_code)]

use std::time::Duration;

use rand::Rng as _;

/// The shortest and longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the wait after this many consecutive failures (from 1), without a random part.
    pub fn full(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Returns the wait after this many consecutive failures; `chance` is between 0 (half of the full wait) and 1 (all of it).
    pub fn wait(&self, failures: u32, chance: f64) -> Duration {
        self.full(failures).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// Returns a random wait between half and all of [`full`](Self::full).
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
