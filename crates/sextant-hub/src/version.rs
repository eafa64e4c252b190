//! What a server can do, by its version. It is asked for when that is needed, and again after a while: servers are upgraded.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The first version that keeps what algorithms print while they run.
pub const LIVE_LOGS: [u32; 3] = [4, 10, 1];
/// The first version that fails the runs of a task that have not started when one of them fails.
pub const FAILS_SIBLINGS: [u32; 3] = [4, 14, 0];
/// How long an answer is good.
const KNOWN: Duration = Duration::from_secs(600);

/// The answer to the last question.
#[derive(Debug, Default)]
pub struct KnownVersion(Mutex<Option<(Instant, String)>>);

impl KnownVersion {
    /// Whether the server's version is this one or a later one. `ask` is only used if it was not asked lately.
    pub async fn is_at_least<E>(
        &self,
        least: [u32; 3],
        ask: impl Future<Output = Result<String, E>>,
    ) -> Result<bool, E> {
        let mut known = self.0.lock().await;
        if let Some((since, version)) = &*known
            && since.elapsed() < KNOWN
        {
            return Ok(is_at_least(version, least));
        }
        let version = ask.await?;
        let has = is_at_least(&version, least);
        *known = Some((Instant::now(), version));
        Ok(has)
    }
}

/// Whether a version such as `4.15.2` or `4.11.0rc1` is this one or a later one. One that can't be read is none.
fn is_at_least(version: &str, least: [u32; 3]) -> bool {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    let Some(major) = parts.next().flatten() else { return false };
    let mut next = || parts.next().flatten().unwrap_or(0);
    [major, next(), next()] >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, has) in [
            ("4.5.5", false),
            ("4.9.10", false),
            ("4.10.0", false),
            ("4.10.1", true),
            ("4.10.1rc2", true),
            ("4.11", true),
            ("4.15.2", true),
            ("5.0.3", true),
            ("", false),
            ("unknown", false),
            ("99999999999.0.0", false),
        ] {
            assert_eq!(is_at_least(version, LIVE_LOGS), has, "{version}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_again_after_a_while() {
        let version = KnownVersion::default();
        let answer = |text: &str| std::future::ready(Ok::<_, ()>(text.to_owned()));
        assert_eq!(version.is_at_least(LIVE_LOGS, std::future::ready(Err(()))).await, Err(()));
        assert_eq!(version.is_at_least(LIVE_LOGS, answer("4.5.5")).await, Ok(false));
        assert_eq!(version.is_at_least(LIVE_LOGS, answer("4.15.2")).await, Ok(false));
        tokio::time::advance(KNOWN).await;
        assert_eq!(version.is_at_least(LIVE_LOGS, answer("4.15.2")).await, Ok(true));
    }
}
