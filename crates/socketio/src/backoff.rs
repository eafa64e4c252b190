//! How long to wait before the next attempt: twice as long each time, within bounds, less a random part, so that the
//! clients of a server that restarts do not all come back at the same moment.

use std::time::Duration;

/// The bounds of the waiting time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (from 1); `random` is in 0..1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.min.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_less_up_to_half() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };
        let secs = |failures, random| backoff.delay(failures, random).as_secs_f64();
        let full: Vec<_> = (0..9).map(|failures| secs(failures, 0.0)).collect();
        assert_eq!(full, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(secs(3, 1.0), 2.0);
        assert_eq!(secs(u32::MAX, 0.0), 60.0);
    }

    #[test]
    fn no_overflow() {
        let backoff = Backoff { min: Duration::MAX, max: Duration::MAX };
        assert_eq!(backoff.delay(40, 1.0).as_secs(), Duration::MAX.as_secs() / 2 + 1);
    }
}
