//! Decides when to retry a request.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use crate::Error;

/// How long to wait between attempts, and when to give up. The wait doubles each time and is random, so that nodes do not retry together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait, unless the server asks for a longer one.
    pub longest: Duration,
    /// Give up if an attempt would start later than this after the first one. `None`: never give up.
    pub patience: Option<Duration>,
}

impl Default for Backoff {
    /// Starts at half a second, doubles up to 30 seconds, and gives up after two minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            patience: Some(Duration::from_secs(120)),
        }
    }
}

impl Backoff {
    /// Makes one attempt only.
    pub fn never() -> Self {
        Self { patience: Some(Duration::ZERO), ..Self::default() }
    }

    pub(crate) fn begin(&self) -> Attempts<'_> {
        Attempts { backoff: self, started: Instant::now(), failures: 0 }
    }

    /// Returns the wait after this many failures; `chance` is between 0 and 1.
    fn wait(&self, failures: u32, chance: f64) -> Duration {
        backoff::Backoff { first: self.first, longest: self.longest }.wait(failures, chance)
    }
}

/// The attempts of one request.
pub(crate) struct Attempts<'a> {
    backoff: &'a Backoff,
    started: Instant,
    failures: u32,
}

impl Attempts<'_> {
    /// Call this after a failure. Waits until the next attempt may start, or returns the error if there is none.
    pub(crate) async fn wait_or_fail(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        let chance = rand::rng().random();
        match self.next(&error, chance) {
            None => Err(error),
            Some(wait) => {
                tracing::warn!(%error, attempt = self.failures, "Retrying in {wait:.1?}");
                tokio::time::sleep(wait).await;
                Ok(())
            }
        }
    }

    fn next(&self, error: &Error, chance: f64) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        let wait = self.backoff.wait(self.failures, chance).max(error.retry_after().unwrap_or_default());
        match self.backoff.patience {
            Some(patience) if self.started.elapsed() + wait > patience => None,
            _ => Some(wait),
        }
    }
}

/// Parses `Retry-After`: seconds or a date (RFC 9110 10.2.3).
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let then = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(then.duration_since(jiff::Timestamp::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        patience: Some(Duration::from_secs(100)),
    };

    fn refused(status: u16, retry_after: Option<u64>) -> Error {
        Error::Refused {
            request: String::new(),
            status,
            message: String::new(),
            own_words: true,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (1..9).map(|failures| BACKOFF.wait(failures, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(BACKOFF.wait(u32::MAX, 0.0).as_secs(), 15);
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again_and_not_forever() {
        for (failures, status, after, wait) in [
            (1, 503, None, Some(1)),
            (3, 500, None, Some(4)),
            (1, 429, Some(7), Some(7)),
            (4, 429, Some(1), Some(8)),
            (1, 503, Some(101), None),
            (1, 400, None, None),
            (1, 401, None, None),
        ] {
            let mut tries = BACKOFF.begin();
            tries.failures = failures;
            assert_eq!(
                tries.next(&refused(status, after), 1.0),
                wait.map(Duration::from_secs),
                "{failures} {status} {after:?}"
            );
        }
        let never = Backoff::never();
        assert_eq!(never.begin().next(&refused(503, None), 0.0), None);
    }

    #[test]
    fn retry_after_in_both_forms() {
        let header = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(header("120"), Some(Duration::from_secs(120)));
        assert_eq!(header("Wed, 21 Oct 2015 07:28:00 GMT"), None, "long past");
        let later = header("Wed, 21 Oct 2099 07:28:00 GMT").unwrap();
        assert!(later > Duration::from_secs(365 * 86_400), "{later:?}");
        assert_eq!(header("soon"), None);
    }
}
