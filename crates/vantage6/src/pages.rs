//! Long lists come in pages.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// One page of a list (`BaseHATEOASModelSchema.meta_dump` in `backend/common/resource/output_schema.py`), its entries
/// still unread: so that one that can't be understood doesn't spoil the others.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow)]
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
    /// Whether the server says that there is more. (Pages are counted, as the regular node does: behind a proxy the
    /// link itself may lead nowhere.)
    pub fn has_next(&self) -> bool {
        self.links.as_ref().is_some_and(|links| links.next.is_some())
    }
}

/// Which page comes next, and how large it is to be.
///
/// The server builds a page in its memory, inputs included, so the first one is small. As long as pages turn out light
/// they grow: doubling the size of a page whenever that leaves its beginning on a boundary (after 10 entries the second
/// page of 10, after 20 the second of 20, …). Ten thousand runs take some forty requests instead of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    seen: u64,
    size: u64,
}

impl Pages {
    /// The server's own default.
    const FIRST: u64 = 10;
    /// What 4.5.5 builds in half a second.
    const LARGEST: u64 = 320;
    /// Wire bytes per page up to which it may be twice as large.
    const LIGHT: u64 = 2 * 1024 * 1024;

    pub fn new() -> Self {
        Self { seen: 0, size: Self::FIRST }
    }

    /// `page` and `per_page` of the next request.
    pub fn request(self) -> (u64, u64) {
        (self.seen / self.size + 1, self.size)
    }

    /// After a full page that took so many bytes.
    pub fn after(self, bytes: u64) -> Self {
        let seen = self.seen + self.size;
        let doubled = self.size * 2;
        let grows = bytes <= Self::LIGHT && doubled <= Self::LARGEST && seen.is_multiple_of(doubled);
        Self { seen, size: if grows { doubled } else { self.size } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries that the requests cover, for pages of these weights.
    fn walk(weights: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let mut pages = Pages::new();
        weights
            .into_iter()
            .map(|weight| {
                let (page, size) = pages.request();
                pages = pages.after(weight);
                ((page - 1) * size, page * size)
            })
            .collect()
    }

    #[test]
    fn light_pages_grow_and_heavy_ones_do_not() {
        assert_eq!(
            walk([0; 8]),
            [(0, 10), (10, 20), (20, 40), (40, 80), (80, 160), (160, 320), (320, 640), (640, 960)]
        );
        assert_eq!(walk([u64::MAX; 3]), [(0, 10), (10, 20), (20, 30)]);
        assert_eq!(walk([0, u64::MAX, 0, 0, 0]), [(0, 10), (10, 20), (20, 30), (30, 40), (40, 60)]);
    }

    proptest::proptest! {
        #[test]
        fn no_entry_is_left_out_or_asked_for_twice(heavy: Vec<bool>) {
            let mut next = 0;
            for (from, to) in walk(heavy.into_iter().map(|heavy| if heavy { u64::MAX } else { 0 })) {
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
