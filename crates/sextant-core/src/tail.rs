//! Keeps the end of a text stream in bounded memory: an algorithm's log can be of any size, and researchers need its end.

use std::collections::VecDeque;

use super::log_text::{NODE, of_algorithm};
use super::mask::{Mask, readable};

/// How much of a log is reported.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// At most this many bytes.
    pub bytes: usize,
    /// At most this many lines.
    pub lines: usize,
    /// This many bytes before them are kept but not reported: a secret across the beginning of the report can only be recognized as a
    /// whole.
    pub margin: usize,
}

impl Bounds {
    /// The number of bytes that are kept.
    pub const fn kept(self) -> usize {
        self.bytes + self.margin
    }

    /// The bounds of an algorithm's log. No environment variable is longer than the margin: Linux limits them to 128 KiB.
    pub const LOG: Self = Self { bytes: 1024 * 1024, lines: 32 * 1024, margin: 128 * 1024 };
}

/// Keeps the last bytes that were pushed.
#[derive(Debug)]
pub struct Tail {
    kept: VecDeque<u8>,
    bounds: Bounds,
    /// Whether earlier bytes were dropped.
    cut: bool,
}

impl Tail {
    /// Creates an empty tail.
    pub fn new(bounds: Bounds) -> Self {
        Self { kept: VecDeque::new(), bounds, cut: false }
    }

    /// Creates an empty tail of a text whose beginning, longer than is kept here, was not read.
    pub fn of_more(bounds: Bounds) -> Self {
        Self { cut: true, ..Self::new(bounds) }
    }

    /// Adds bytes, and drops the oldest if there are too many.
    pub fn push(&mut self, bytes: &[u8]) {
        let limit = self.bounds.kept();
        let skipped = bytes.len().saturating_sub(limit);
        let bytes = &bytes[skipped..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(limit);
        self.kept.drain(..excess);
        self.kept.extend(bytes);
        self.cut |= skipped + excess > 0;
    }

    /// The text to report, without secrets and without lines that could pass for the node's own. If something was dropped, the text says
    /// so and begins at a whole line, if there is one soon.
    pub fn into_text(self, mask: &Mask) -> String {
        let bytes = Vec::from(self.kept);
        let too_long = bytes.len().saturating_sub(self.bounds.bytes);
        let start = too_long.max(last_lines(&bytes, self.bounds.lines));
        let secrets = mask.places(&bytes);
        if start == 0 && !self.cut {
            return of_algorithm(&readable(&bytes, &secrets, 0));
        }
        let start = beginning(&bytes, start);
        format!(
            "{NODE}The log was longer: these are its last {} bytes.\n{}",
            bytes.len() - start,
            of_algorithm(&readable(&bytes, &secrets, start))
        )
    }
}

/// The start of the last `lines` lines.
fn last_lines(bytes: &[u8], lines: usize) -> usize {
    let last = bytes.len() - usize::from(!bytes.is_empty() && ends_line(bytes, bytes.len() - 1));
    let mut ends = memchr::memrchr2_iter(b'\n', b'\r', &bytes[..last]).filter(|&at| ends_line(bytes, at));
    lines.checked_sub(1).and_then(|others| ends.nth(others)).map_or(0, |end| end + 1)
}

/// Whether a line ends here. A lone carriage return also begins a new line in the report.
fn ends_line(bytes: &[u8], at: usize) -> bool {
    bytes[at] == b'\n' || (bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
}

/// Where the text begins if it is cut at `start`: at a line, if one begins in the first quarter of the rest, else at a character.
fn beginning(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    if start > 0 && ends_line(bytes, start - 1) {
        return start;
    }
    match memchr::memchr(b'\n', &rest[..rest.len() / 4]) {
        Some(newline) => start + newline + 1,
        // UTF-8 continuation bytes begin with the bits 10.
        None => start + rest.iter().take(3).take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Bounds = Bounds { bytes: 40, lines: 4, margin: 8 };

    fn none() -> Mask {
        Mask::new([]).unwrap()
    }

    fn tail(bounds: Bounds, pieces: &[&[u8]]) -> Tail {
        let mut tail = Tail::new(bounds);
        for piece in pieces {
            tail.push(piece);
        }
        tail
    }

    fn text(bytes: &[u8]) -> String {
        tail(SMALL, &[bytes]).into_text(&none())
    }

    /// The text below the first line, which must say that the log was longer.
    fn cut(text: &str) -> &str {
        let (said, rest) = text.split_once('\n').unwrap();
        assert!(said.starts_with("[sextant] The log was longer"), "{text}");
        rest
    }

    #[test]
    fn short_text_is_kept_whole() {
        assert_eq!(tail(SMALL, &[b"one\n", b"two\n"]).into_text(&none()), "one\ntwo\n");
        assert_eq!(text(b"1\n2\n3\n4\n"), "1\n2\n3\n4\n");
        assert_eq!(text(b"1\n2\n3\n4"), "1\n2\n3\n4");
        assert_eq!(text(&[b'x'; 40]), "x".repeat(40));
        assert_eq!(text(b""), "");
    }

    #[test]
    fn long_text_keeps_its_last_whole_lines_and_says_so() {
        assert_eq!(
            text(b"first, which is long\nsecond line\nthird line\nlast line\n"),
            "[sextant] The log was longer: these are its last 33 bytes.\nsecond line\nthird line\nlast line\n"
        );
        assert_eq!(cut(&text(b"1\n2\n3\n4\n5\n")), "2\n3\n4\n5\n");
        assert_eq!(cut(&text(b"1\n2\n3\n4\n5")), "2\n3\n4\n5");
        assert_eq!(cut(&text(&b"line\n".repeat(1000))), "line\n".repeat(4));
    }

    #[test]
    fn of_one_long_line_its_end_is_kept() {
        let line = [b'x'; 1000];
        assert_eq!(cut(&text(&line)), "x".repeat(40));
        // A final newline begins no further line.
        assert_eq!(cut(&text(&[&line[..], b"\n"].concat())), "x".repeat(39) + "\n");
        // Characters are not split.
        assert_eq!(cut(&text(&"\u{20ac}".repeat(100).into_bytes())), "\u{20ac}".repeat(13));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(text(b"a\0\xffb\x1b[31m"), "a\u{fffd}\u{fffd}b\x1b[31m");
        assert_eq!(cut(&text(&[0xff; 100])), "\u{fffd}".repeat(40));
        assert_eq!(cut(&text(&[0x80; 100])), "\u{fffd}".repeat(37));
    }

    #[test]
    fn a_secret_is_hidden_wherever_the_cut_goes_through() {
        let mask = Mask::new(["hunter-2".to_owned()]).unwrap();
        for before in 0..100 {
            for after in 0..60 {
                let log = format!("{}hunter-2{}", "x".repeat(before), "y".repeat(after));
                let text = tail(SMALL, &[log.as_bytes()]).into_text(&mask);
                let body = if text.starts_with('[') { cut(&text) } else { &text };
                assert!(body.trim_start_matches('x').trim_end_matches('y').trim_matches('*').is_empty(), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_how_the_log_comes_in_pieces(
            log in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b's'), Just(b'e'), any::<u8>()], 0..300),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mask = Mask::new(["ses".to_owned(), "eeee".to_owned()]).unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([log.len()]) {
                pieces.push(&log[from..cut]);
                from = cut;
            }
            let in_pieces = tail(SMALL, &pieces);
            prop_assert!(in_pieces.kept.len() <= SMALL.kept());
            let text = in_pieces.into_text(&mask);
            prop_assert_eq!(&text, &tail(SMALL, &[&log]).into_text(&mask));
            let body = text.strip_prefix("[sextant] The log was longer").map_or(&*text, |rest| rest.split_once('\n').unwrap().1);
            prop_assert!(body.lines().count() <= SMALL.lines);
            prop_assert!(!body.contains("ses") && !body.contains("eeee"));
            // It is the end of the whole log without its secrets.
            let whole = of_algorithm(&readable(&log, &mask.places(&log), 0));
            prop_assert!(whole.ends_with(body), "{body:?} of {whole:?}");
        }
    }
}
