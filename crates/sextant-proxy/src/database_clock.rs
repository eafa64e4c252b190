//! Whether the server's database has a clock of its own. A server whose database is PostgreSQL writes a task's time in the time zone of
//! the database (4.15.2), so a task may look newer than the token that was made for it. Only SQLite gives the numbers of deleted
//! tasks again, and there times are UTC: so where a clock is seen to be ahead of UTC, no number stands for two tasks, and what a token's time
//! tells is not needed.
//!
//! It shows by a task that was created in the future. Nobody but the server says when a task was created, so neither algorithms nor users
//! can make a clock look ahead of UTC that isn't. What has been seen counts as long as the process lives.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use jiff::{SignedDuration, Timestamp};

/// Clocks of machines differ by less, and time zones by more.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// What has been seen of the clock.
#[derive(Default)]
pub(crate) struct DatabaseClock(AtomicBool);

impl DatabaseClock {
    /// The server has said that a task was created then. Its own time counts where that is later than this machine's.
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

    /// Whether it is ahead of UTC.
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
