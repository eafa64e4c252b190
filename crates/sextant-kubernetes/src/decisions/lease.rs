//! Leader election among processes with the same API key, by a Lease in the cluster and the rules of Kubernetes's own controllers
//! (client-go's `leaderelection`). The holder renews the Lease. Another process takes it when it has seen no renewal for the Lease's
//! duration *by its own clock*, so clocks that disagree do no harm. The holder stops acting a little earlier, so there are never two
//! leaders.
//!
//! ```text
//!   holder    renewed ──2 s── renewed ──2 s── … API server unavailable ──8 s── stops acting
//!   other                     sees it ───────────────────────────10 s───────────────── takes it
//! ```

use std::time::Duration;

/// How long other processes wait for a renewal. A takeover must complete within 15 seconds.
pub const DURATION: Duration = Duration::from_secs(10);
/// How long the holder acts after it has sent the last successful renewal.
pub const TRUST: Duration = Duration::from_secs(8);
/// How often the holder renews.
pub const RENEW: Duration = Duration::from_secs(2);
/// How often a standby process reads the Lease.
pub const LOOK: Duration = Duration::from_secs(1);
/// The longest wait that a Lease can request, since anyone may have written it.
const LONGEST: Duration = Duration::from_secs(60);

/// The content of a Lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The holder; empty if it was released.
    pub holder: String,
    /// When it was last renewed, as text, since only a change matters.
    pub renewed: String,
    /// How long other processes wait for a renewal; `None` if the Lease does not say.
    pub duration: Option<Duration>,
}

/// The next step of a standby process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Take the Lease: it has no holder, or the holder does not renew it.
    Take,
    /// Read the Lease again later.
    StandBy,
}

/// What a standby process has observed so far.
#[derive(Debug, Default)]
pub struct Observer {
    last: Option<(Record, Duration)>,
}

impl Observer {
    /// Decides from the Lease's current content (`None`: there is no Lease). `gone` means that the holder is known to have ended, whatever
    /// the Lease says. `now` is a monotonic time.
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
        // What a standby process sees at which second, and what it does then.
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
            // The duration counts by its own clock from when it first saw the last renewal, whatever time the Lease has.
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
        // The holder counts from before its renewal is visible; two seconds remain for actions in progress and for clocks that drift.
        assert!(TRUST + Duration::from_secs(2) <= DURATION);
        assert!(RENEW * 3 < TRUST);
        // Seen one read late, taken one read late, and started.
        assert!(DURATION + LOOK * 2 + Duration::from_secs(2) < Duration::from_secs(15));
    }
}
