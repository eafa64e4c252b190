//! Which of several processes with one API key acts: a Lease in the cluster decides, by the rules of Kubernetes's own controllers
//! (client-go's `leaderelection`). The holder renews it. Another process takes it when it has seen no renewal for the duration of the
//! Lease *by its own clock*, so clocks that disagree do no harm. The holder stops acting a little earlier, so that there are never two.
//!
//! ```text
//!   holder    renewed ──2 s── renewed ──2 s── … the API server is away ──8 s── acts no more
//!   other                     sees it ───────────────────────────10 s───────────────── takes it
//! ```

use std::time::Duration;

/// What a Lease says of how long others wait for a renewal. A take-over has to be done within 15 seconds.
pub const DURATION: Duration = Duration::from_secs(10);
/// How long after asking for the last renewal that worked the holder acts.
pub const TRUST: Duration = Duration::from_secs(8);
/// How often the holder renews.
pub const RENEW: Duration = Duration::from_secs(2);
/// How often those that stand by look.
pub const LOOK: Duration = Duration::from_secs(1);
/// The longest wait that a Lease can ask for: it may have been written by anybody.
const LONGEST: Duration = Duration::from_secs(60);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The holder; empty if it was released.
    pub holder: String,
    /// When it was last renewed, as text: only a change of it means something.
    pub renewed: String,
    /// How long others are to wait for a renewal; `None` when it does not say.
    pub duration: Option<Duration>,
}

/// What one that stands by does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Take the Lease: nobody holds it.
    Take,
    /// Look again later.
    StandBy,
}

/// What one that stands by has seen so far.
#[derive(Debug, Default)]
pub struct Observer {
    last: Option<(Record, Duration)>,
}

impl Observer {
    /// The Lease says this now (`None`: there is none). `gone` tells whether the holder is known to be gone, whatever the Lease
    /// says. `now` is a time that never stands still.
    pub fn next(&mut self, record: Option<Record>, gone: bool, now: Duration) -> Next {
        let Some(record) = record else { return Next::Take };
        if record.holder.is_empty() || gone {
            return Next::Take;
        }
        match &self.last {
            Some((last, since)) if *last == record => {
                let wait = record.duration.unwrap_or(DURATION).min(LONGEST);
                if now.saturating_sub(*since) >= wait { Next::Take } else { Next::StandBy }
            }
            _ => {
                self.last = Some((record, now));
                Next::StandBy
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, renewed: u32) -> Record {
        Record { holder: holder.into(), renewed: renewed.to_string(), duration: Some(DURATION) }
    }

    #[test]
    fn all_cases() {
        let held = |renewed| Some(record("a", renewed));
        let asking = |seconds| Some(Record { duration: Some(Duration::from_secs(seconds)), ..record("a", 1) });
        let silent = || Some(Record { duration: None, ..record("a", 1) });
        // What is seen at which second, and what is done then.
        for (story, looks, expected) in [
            ("none", vec![(0, None, false)], vec!["take"]),
            ("given back", vec![(0, Some(record("", 1)), false)], vec!["take"]),
            ("its process is gone", vec![(0, held(1), true)], vec!["take"]),
            (
                "renewed",
                vec![(0, held(1), false), (9, held(2), false), (18, held(3), false)],
                vec!["wait", "wait", "wait"],
            ),
            (
                "silence",
                vec![(0, held(1), false), (9, held(1), false), (10, held(1), false)],
                vec!["wait", "wait", "take"],
            ),
            // Its own clock counts from when it has first seen the last renewal, whatever time stands there.
            (
                "silence after all",
                vec![(0, held(1), false), (5, held(2), false), (14, held(2), false), (15, held(2), false)],
                vec!["wait", "wait", "wait", "take"],
            ),
            ("another holder", vec![(0, held(1), false), (10, Some(record("b", 1)), false)], vec!["wait", "wait"]),
            (
                "asks for longer",
                vec![(0, asking(30), false), (29, asking(30), false), (30, asking(30), false)],
                vec!["wait", "wait", "take"],
            ),
            (
                "asks for a year",
                vec![(0, asking(31_536_000), false), (60, asking(31_536_000), false)],
                vec!["wait", "take"],
            ),
            ("says nothing", vec![(0, silent(), false), (10, silent(), false)], vec!["wait", "take"]),
        ] {
            let mut observer = Observer::default();
            let done: Vec<_> = looks
                .into_iter()
                .map(|(second, record, gone)| match observer.next(record, gone, Duration::from_secs(second)) {
                    Next::Take => "take",
                    Next::StandBy => "wait",
                })
                .collect();
            assert_eq!(done, expected, "{story}");
        }
    }

    #[test]
    fn who_holds_it_has_stopped_before_another_begins() {
        // A renewal is asked for before anybody can see it; two seconds are for what was begun and for clocks that go wrong.
        assert!(TRUST + Duration::from_secs(2) <= DURATION);
        assert!(RENEW * 3 < TRUST);
        // Seen one look late, taken one look late, and started.
        assert!(DURATION + LOOK * 2 + Duration::from_secs(2) < Duration::from_secs(15));
    }
}
