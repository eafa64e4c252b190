//! Pages of long lists: their format, and the size of the next one.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::read;

/// The most entries in one page. A server without paging may send its whole list, but not an endless one.
const ENTRIES: usize = 10_000;

/// One page of a list (`BaseHATEOASModelSchema.meta_dump` in `backend/common/resource/output_schema.py`). Its entries are
/// not parsed yet, so that an invalid one does not spoil the others.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow, deserialize_with = "read::list::<_, _, ENTRIES>")]
    pub data: Vec<&'a RawValue>,
    #[serde(default)]
    links: Option<Links>,
}

#[derive(Deserialize, Default)]
struct Links {
    #[serde(default)]
    next: Option<IgnoredAny>,
}

impl Page<'_> {
    /// Whether the server says that there is another page. (The client counts pages, as the regular node does, because the link
    /// itself may be wrong behind a proxy.)
    pub fn has_next(&self) -> bool {
        self.links.as_ref().is_some_and(|links| links.next.is_some())
    }
}

/// Which page to request next, and its size.
///
/// The server builds a page in memory, inputs included, and answers no other request meanwhile, so the first page is small.
/// While pages are small and fast, their size grows; a slow page halves the next one. The size doubles only where the next
/// page then starts on a boundary (after 10 entries the second page of 10, after 20 the second of 20, …). Ten thousand runs
/// take some forty requests instead of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    seen: u64,
    size: u64,
    /// How long the first page took, but at least `SHORT`. If this is long, the server is busy or has many runs, and small pages
    /// take nearly as long.
    unit: Option<Duration>,
}

impl Pages {
    /// The server's own default.
    const FIRST: u64 = 10;
    /// What 4.5.5 builds in half a second if it is idle and has few runs.
    const LARGEST: u64 = 320;
    /// The size on the wire in bytes up to which the next page may be twice as large.
    const LIGHT: u64 = 2 * 1024 * 1024;
    /// The minimum time of a first page, for comparing others with it.
    const SHORT: Duration = Duration::from_millis(500);
    /// Up to this multiple of the first page's time, the next page may be twice as large.
    const QUICK: u32 = 2;
    /// From this multiple on, the next page is half as large.
    const SLOW: u32 = 8;

    pub fn new() -> Self {
        Self { seen: 0, size: Self::FIRST, unit: None }
    }

    /// Returns `page` and `per_page` of the next request.
    pub fn request(self) -> (u64, u64) {
        (self.seen / self.size + 1, self.size)
    }

    /// Use this after a page that was too large to be read; `None` if it had one entry only.
    pub fn smaller(self) -> Option<Self> {
        // Half of an odd size would not start on a boundary.
        let size = if self.size.is_multiple_of(2) { self.size / 2 } else { 1 };
        (size < self.size).then_some(Self { size, ..self })
    }

    /// Use this after an entry that is too large to be read.
    pub fn skip(self) -> Self {
        Self { seen: self.seen + 1, size: 1, ..self }
    }

    /// Use this after a full page of this size and duration.
    pub fn after(self, bytes: u64, took: Duration) -> Self {
        let seen = self.seen + self.size;
        let doubled = self.size * 2;
        let unit = self.unit.unwrap_or(took.max(Self::SHORT));
        let easy = bytes <= Self::LIGHT && took <= unit * Self::QUICK;
        let size = if easy && doubled <= Self::LARGEST && seen.is_multiple_of(doubled) {
            doubled
        } else if took >= unit * Self::SLOW && self.size > Self::FIRST {
            self.size / 2
        } else {
            self.size
        };
        Self { seen, size, unit: Some(unit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANT: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(9);

    /// Returns the entries that the requests cover, for pages of these sizes and durations.
    fn walk(pages_read: impl IntoIterator<Item = (u64, Duration)>) -> Vec<(u64, u64)> {
        let mut pages = Pages::new();
        pages_read
            .into_iter()
            .map(|(weight, took)| {
                let (page, size) = pages.request();
                pages = pages.after(weight, took);
                ((page - 1) * size, page * size)
            })
            .collect()
    }

    #[test]
    fn light_and_quick_pages_grow_and_others_do_not() {
        assert_eq!(
            walk([(0, INSTANT); 8]),
            [(0, 10), (10, 20), (20, 40), (40, 80), (80, 160), (160, 320), (320, 640), (640, 960)]
        );
        assert_eq!(walk([(u64::MAX, INSTANT); 3]), [(0, 10), (10, 20), (20, 30)]);
        assert_eq!(walk([(0, INSTANT), (0, LONG), (0, LONG)]), [(0, 10), (10, 20), (20, 30)]);
        let heavy = (u64::MAX, INSTANT);
        assert_eq!(
            walk([(0, INSTANT), heavy, (0, INSTANT), (0, INSTANT), (0, INSTANT)]),
            [(0, 10), (10, 20), (20, 30), (30, 40), (40, 60)]
        );
    }

    #[test]
    fn of_a_server_that_is_always_slow_pages_grow_too() {
        assert_eq!(walk([(0, LONG); 5]), [(0, 10), (10, 20), (20, 40), (40, 80), (80, 160)]);
    }

    #[test]
    fn slow_pages_shrink() {
        let grown = (0, INSTANT);
        assert_eq!(
            walk([grown, grown, grown, (0, LONG), (0, LONG), (0, LONG)])[3..],
            [(40, 80), (80, 100), (100, 110)]
        );
    }

    #[test]
    fn what_is_too_large_is_asked_for_in_parts_and_then_passed_over() {
        let mut pages = Pages { seen: 40, size: 40, unit: None };
        let mut sizes = Vec::new();
        while let Some(smaller) = pages.smaller() {
            pages = smaller;
            sizes.push(pages.request());
        }
        assert_eq!(sizes, [(3, 20), (5, 10), (9, 5), (41, 1)]);
        let pages = pages.skip();
        assert_eq!(pages.request(), (42, 1));
        let pages = pages.after(0, INSTANT);
        assert_eq!(pages.request(), (22, 2), "and they grow again");
    }

    proptest::proptest! {
        #[test]
        fn no_entry_is_left_out_or_asked_for_twice(read: Vec<(bool, u8)>) {
            let mut next = 0;
            let read = read.into_iter().map(|(heavy, seconds)| {
                (if heavy { u64::MAX } else { 0 }, Duration::from_secs(u64::from(seconds % 4)))
            });
            for (from, to) in walk(read) {
                proptest::prop_assert_eq!(from, next);
                proptest::prop_assert!(to - from <= Pages::LARGEST);
                next = to;
            }
        }
    }

    #[test]
    fn entries_stay_unread() {
        let page: Page<'_> =
            serde_json::from_str(r#"{"data": [{"id": 1}, "broken"], "links": {"first": "x", "next": "y"}}"#).unwrap();
        assert_eq!((page.data.len(), page.has_next()), (2, true));
        for last in [r#"{"data": [], "links": {"self": "x"}}"#, r#"{"data": [], "links": null}"#, r#"{"data": []}"#] {
            assert!(!serde_json::from_str::<Page<'_>>(last).unwrap().has_next(), "{last}");
        }
    }
}
