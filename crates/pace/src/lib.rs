//! How long a peer may still be waited for. It has a certain time in total, and each byte that moves earns some of it back, so a large
//! transfer has no time limit of its own, but one that drips has.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The time that is left for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    left: Duration,
    most: Duration,
    bytes_per_second: Option<u64>,
}

impl Pace {
    /// A time limit of `most`, of which this many bytes earn one second back.
    pub fn new(most: Duration, bytes_per_second: u64) -> Self {
        Self { left: most, most, bytes_per_second: Some(bytes_per_second.max(1)) }
    }

    /// A time limit that does not depend on the number of bytes.
    pub fn fixed(most: Duration) -> Self {
        Self { left: most, most, bytes_per_second: None }
    }

    /// How long the peer may still be waited for.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// The time limit.
    pub fn most(&self) -> Duration {
        self.most
    }

    /// Whether bytes earn time.
    pub fn earns(&self) -> bool {
        self.bytes_per_second.is_some()
    }

    /// Records that this many bytes have moved after a wait of this length.
    pub fn moved(&mut self, bytes: usize, waited: Duration) {
        let earned = self
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate));
        self.left = (self.left.saturating_sub(waited) + earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time_up_to_the_limit() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(10 * second, 1024);
        for (bytes, waited, left) in [(0, 4, 6), (2048, 0, 8), (1 << 40, 0, 10), (1024, 9, 2), (0, 60, 0), (512, 0, 0)]
        {
            pace.moved(bytes, waited * second);
            assert_eq!(pace.left().as_secs(), left, "{bytes} bytes after {waited} s");
        }
        let mut fixed = Pace::fixed(10 * second);
        fixed.moved(1 << 40, 4 * second);
        assert_eq!((fixed.left(), fixed.earns()), (6 * second, false));
    }
}
