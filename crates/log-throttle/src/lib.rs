//! Limits a log line that other parties can cause any number of times to one a minute. Otherwise a peer could fill the log, and
//! log rotation would remove useful lines.
//!
//! Use one [`LogThrottle`] for each kind of line. It must outlive connections and requests: with one per connection, a peer could
//! cause a line with each reconnect.
//!
//! ```
//! use log_throttle::LogThrottle;
//!
//! static BAD_PACKETS: LogThrottle = LogThrottle::new();
//! if let Some(times) = BAD_PACKETS.happened() {
//!     eprintln!("left out a packet that can't be read ({times} since this was last logged)");
//! }
//! ```
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// Throttles one kind of log line.
#[derive(Debug, Default)]
pub struct LogThrottle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    since: u64,
}

impl LogThrottle {
    /// Creates a throttle that permits the first line immediately.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { logged: None, since: 0 }) }
    }

    /// Counts one occurrence. If a line is due, returns how many occurrences it stands for, including this one.
    pub fn happened(&self) -> Option<u64> {
        self.happened_at(Instant::now())
    }

    fn happened_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        state.since += 1;
        if state.logged.is_some_and(|logged| now.duration_since(logged) < INTERVAL) {
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_at_once_and_the_others_together() {
        let (throttle, begin) = (LogThrottle::new(), Instant::now());
        let after = |seconds| throttle.happened_at(begin + Duration::from_secs(seconds));
        assert_eq!([after(0), after(1), after(59), after(60), after(61)], [Some(1), None, None, Some(3), None]);
    }
}
