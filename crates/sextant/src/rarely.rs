//! Says what somebody else can make happen any number of times at most once a minute: a log must not be for others to fill.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing more is said.
const PAUSE: Duration = Duration::from_secs(60);

/// One thing that is said rarely.
#[derive(Debug, Default)]
pub struct Rarely {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    since: u64,
}

impl Rarely {
    /// It has happened; when it is time to say so, how often since it was last said.
    pub fn happened(&self) -> Option<u64> {
        self.happened_at(Instant::now())
    }

    fn happened_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since += 1;
        if state.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_together() {
        let (rarely, begin) = (Rarely::default(), Instant::now());
        let after = |seconds| rarely.happened_at(begin + Duration::from_secs(seconds));
        assert_eq!([after(0), after(1), after(59), after(60), after(61)], [Some(1), None, None, Some(3), None]);
    }
}
