//! Whether the server answers: a figure for the operator. It is no reason for the proxy not to be ready: all its replicas have the same
//! server, and an algorithm that finds none of them hears less than one that is told to try again.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// What the last look at the server found.
#[derive(Debug)]
pub(crate) struct UpstreamHealth {
    /// 1, 0, or less before the first look.
    up: AtomicI64,
    /// When it answered last, in seconds since 1970; 0 if never.
    last_success: AtomicU64,
}

impl Default for UpstreamHealth {
    fn default() -> Self {
        Self { up: AtomicI64::new(-1), last_success: AtomicU64::new(0) }
    }
}

/// What a look means for those who were told of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It answers, for the first time or again.
    Up,
    /// It doesn't answer any more, or not yet.
    Down,
    /// As before.
    None,
}

impl UpstreamHealth {
    /// The server has answered, at this time in seconds since 1970.
    pub fn answered(&self, now: u64) -> News {
        self.last_success.store(now, Relaxed);
        if self.up.swap(1, Relaxed) == 1 { News::None } else { News::Up }
    }

    /// The server has not answered.
    pub fn failed(&self) -> News {
        if self.up.swap(0, Relaxed) == 0 { News::None } else { News::Down }
    }

    /// Both figures, as far as there are any.
    pub fn lines(&self, text: &mut String) -> std::fmt::Result {
        if let up @ (0 | 1) = self.up.load(Relaxed) {
            writeln!(text, "# TYPE sextant_proxy_upstream_up gauge\nsextant_proxy_upstream_up {up}")?;
        }
        match self.last_success.load(Relaxed) {
            0 => Ok(()),
            at => {
                let name = "sextant_proxy_upstream_last_success_timestamp_seconds";
                writeln!(text, "# TYPE {name} gauge\n{name} {at}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news_and_the_last_success_stays() {
        let health = UpstreamHealth::default();
        let figures = || {
            let mut text = String::new();
            health.lines(&mut text).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(figures().is_empty());
        assert_eq!([health.failed(), health.failed()], [News::Down, News::None]);
        assert_eq!(figures(), ["sextant_proxy_upstream_up 0"]);
        assert_eq!([health.answered(5), health.answered(7)], [News::Up, News::None]);
        assert_eq!(health.failed(), News::Down);
        let last = "sextant_proxy_upstream_last_success_timestamp_seconds 7";
        assert_eq!(figures(), ["sextant_proxy_upstream_up 0", last]);
        assert_eq!(health.answered(9), News::Up);
    }
}
