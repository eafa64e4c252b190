//! Detects whether the clock of the server's database is ahead of UTC.
//!
//! A server on PostgreSQL writes a task's creation time in the time zone of the database (4.15.2), so a task may look newer than the token
//! that was issued for it. Only SQLite reuses the ids of deleted tasks, and its times are UTC. So if the clock is ahead of UTC, an id
//! never stands for two tasks, and the token's time need not be compared.
//!
//! A task that was created in the future reveals such a clock. Only the server sets creation times, so neither algorithms nor users can
//! make a UTC clock look ahead. The finding counts for as long as the process lives.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use jiff::{SignedDuration, Timestamp};

/// A larger difference counts as a time zone, a smaller one as inaccurate clocks.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// Whether the clock has been seen ahead of UTC.
#[derive(Default)]
pub(crate) struct DatabaseClock(AtomicBool);

impl DatabaseClock {
    /// Takes note of a task's creation time. The server's own time counts if it is later than this machine's.
    pub fn observe(&self, created_at: Option<Timestamp>, answered_at: Option<Timestamp>) {
        let now = Timestamp::now();
        let now = answered_at.map_or(now, |server| server.max(now));
        if created_at.is_some_and(|created| created.duration_since(now) > AHEAD) && !self.0.swap(true, Relaxed) {
            tracing::info!(
                "The server's database has a clock that is ahead of UTC, so it is not SQLite: tasks may be newer than the tokens that \
                 were made for them"
            );
        }
    }

    /// Whether the database's clock is ahead of UTC.
    pub fn is_ahead(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_created_in_the_future_shows_another_clock() {
        let in_minutes = |minutes| Some(Timestamp::now() + SignedDuration::from_mins(minutes));
        for (created_at, answered_at, expected) in [
            (None, None, false),
            (in_minutes(-60), None, false),
            (in_minutes(9), None, false),
            (in_minutes(50), None, true),
            (in_minutes(50), in_minutes(0), true),
            (in_minutes(50), in_minutes(45), false),
            (in_minutes(9), in_minutes(-60), false),
        ] {
            let clock = DatabaseClock::default();
            clock.observe(created_at, answered_at);
            assert_eq!(clock.is_ahead(), expected, "{created_at:?} {answered_at:?}");
            clock.observe(in_minutes(-60), in_minutes(0));
            assert_eq!(clock.is_ahead(), expected, "once seen, it stays");
        }
    }
}
