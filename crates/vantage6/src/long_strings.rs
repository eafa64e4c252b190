//! Cuts long strings in a JSON text while it arrives.
//!
//! The server sends whole objects whose strings other parties have written. On 4.15.2 any node may append to the log of any run
//! (`on_algorithm_log` in `server/websockets.py`), and no server limits an image's name or a database's query. The strings are
//! cut beyond the length that any reader keeps, so no string's length makes the rest of its object unreadable.

use bytes::BytesMut;
use memchr::memchr2;

/// Ends a string that was cut, as JSON source. (The server's database cannot store a NUL in a text.)
const MARK: &[u8] = b"\\u2026\\u0000";
/// [`MARK`], parsed.
pub(crate) const CUT: &str = "\u{2026}\0";
/// A string may exceed the limit by this many bytes before it is cut at any place.
const SLACK: usize = 64;

/// The state between two pieces of text.
#[derive(Debug)]
pub(crate) struct LongStrings {
    /// How many bytes of each string to keep, including escapes. Slightly more are kept rather than cutting an escape or character.
    keep: usize,
    string: Option<OpenString>,
}

#[derive(Debug, Default)]
struct OpenString {
    kept: usize,
    is_cut: bool,
    /// How many bytes of an escape are still missing.
    escape: usize,
    /// The last bytes that were kept.
    tail: [u8; 6],
}

impl OpenString {
    /// Returns whether the text may be cut before this byte.
    fn ends_well(&self, next: u8) -> bool {
        let is_inside = self.escape > 0 || (0x80..0xc0).contains(&next);
        // Parsers reject half of a surrogate pair.
        let [a, b, c, d, _, _] = self.tail.map(|byte| byte.to_ascii_lowercase());
        let is_half = [a, b, c] == *b"\\ud" && matches!(d, b'8'..=b'b');
        !is_inside && !is_half
    }

    fn keep(&mut self, part: &[u8]) {
        self.kept += part.len();
        for byte in part.iter().skip(part.len().saturating_sub(self.tail.len())) {
            self.tail.rotate_left(1);
            self.tail[5] = *byte;
        }
    }
}

impl LongStrings {
    pub fn new(keep: usize) -> Self {
        Self { keep, string: None }
    }

    /// Takes the next piece of text and appends the part to keep to `kept`.
    pub fn feed(&mut self, text: &[u8], kept: &mut BytesMut) {
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            let Some(string) = &mut self.string else {
                let end = memchr::memchr(b'"', rest).map_or(rest.len(), |at| at + 1);
                let (outside, after) = rest.split_at(end);
                kept.extend_from_slice(outside);
                if outside.ends_with(b"\"") {
                    self.string = Some(OpenString::default());
                }
                rest = after;
                continue;
            };
            if byte == b'"' && string.escape == 0 {
                kept.extend_from_slice(b"\"");
                self.string = None;
                rest = &rest[1..];
                continue;
            }
            // Plain text is taken at once as far as it is kept; everything else byte by byte.
            let plain = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let length = match plain {
                _ if string.escape > 0 => 1,
                0 => 1,
                plain if string.is_cut => plain,
                plain => plain.min(self.keep.saturating_sub(string.kept)).max(1),
            };
            let (part, after) = rest.split_at(length);
            rest = after;
            let is_overdue = string.kept >= self.keep + SLACK && string.escape == 0;
            let is_long = string.kept >= self.keep && string.ends_well(byte) || is_overdue;
            if is_long && !string.is_cut {
                string.is_cut = true;
                kept.extend_from_slice(MARK);
            }
            string.escape = match (string.escape, byte) {
                (0, b'\\') => 1,
                (1, b'u') => 4,
                (0, _) => 0,
                (left, _) => left - 1,
            };
            if !string.is_cut {
                string.keep(part);
                kept.extend_from_slice(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(keep: usize, text: &str, piece: usize) -> String {
        let (mut strings, mut kept) = (LongStrings::new(keep), BytesMut::new());
        for piece in text.as_bytes().chunks(piece) {
            strings.feed(piece, &mut kept);
        }
        String::from_utf8(kept.to_vec()).unwrap()
    }

    #[test]
    fn long_strings_are_cut_and_nothing_else() {
        for (text, expected) in [
            (r#"{"a": "abc", "b": [1, "abcd"]}"#, r#"{"a": "abc", "b": [1, "abc#"]}"#),
            (r##""ab\"x""##, r##""ab\"#""##),
            (r#""ab\\cd""#, r#""ab\\#""#),
            (r#""ab\u00e9cd""#, r#""ab\u00e9#""#),
            (r#""\ud83d\ude00x""#, r#""\ud83d\ude00#""#),
            (r#""ab\\ud83d""#, r#""ab\\#""#),
            (r#""abé""#, r#""abé""#),
            (r#""abéd""#, r#""abé#""#),
            (r#"{"abcde": 1}"#, r#"{"abc#": 1}"#),
            (r#"["", "\"", "\\"]"#, r#"["", "\"", "\\"]"#),
            (r#""abc\"d", "e""#, r#""abc#", "e""#),
            ("123456", "123456"),
        ] {
            let expected = expected.replace('#', "\\u2026\\u0000");
            for piece in [1, 2, 3, 100] {
                assert_eq!(cut(3, text, piece), expected, "{text} in pieces of {piece}");
            }
        }
        let read: String = serde_json::from_str(&cut(3, r#""abcd""#, 9)).unwrap();
        assert!(read.ends_with(CUT));
    }

    #[test]
    fn nothing_keeps_a_string_from_being_cut() {
        for part in ["\\ud83d", "\\u0041", "\\\\", "\\n", "é", "\u{10348}", "a"] {
            let kept = cut(1000, &format!("\"{}\"", part.repeat(10_000)), 77);
            assert!(kept.len() < 1000 + SLACK + 20 + MARK.len(), "{part}: {}", kept.len());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_real_parser(texts in prop::collection::vec("[a\"\\\\\u{e9}\u{10348}\n\u{1}]{0,12}", 0..6), piece in 1usize..9, keep in 0usize..9) {
            let text = serde_json::to_string(&texts).unwrap();
            let kept: Vec<String> = serde_json::from_str(&cut(keep, &text, piece)).unwrap();
            prop_assert_eq!(kept.len(), texts.len());
            for (kept, whole) in kept.iter().zip(&texts) {
                match kept.strip_suffix(CUT) {
                    Some(beginning) => prop_assert!(whole.starts_with(beginning)),
                    None => prop_assert_eq!(kept, whole),
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, piece in 1usize..20) {
            let (mut strings, mut kept) = (LongStrings::new(3), BytesMut::new());
            for piece in bytes.chunks(piece) {
                strings.feed(piece, &mut kept);
            }
        }
    }
}
