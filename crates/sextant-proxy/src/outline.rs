//! Removes long strings from a JSON text while it arrives. The rest can be parsed with types, and needs little memory however large the
//! text is.

use memchr::memchr2;

/// The longest strings that are kept, in bytes including escapes. Longer ones become empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Directly in the outermost object.
    pub outermost: usize,
    /// Anywhere below it.
    pub deeper: usize,
}

/// The text is too long even without its long strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The text without its long strings.
pub(crate) struct Outline {
    keep: Keep,
    longest: usize,
    text: Vec<u8>,
    /// The number of open objects and lists.
    open: usize,
    /// Whether the outermost value has ended.
    is_closed: bool,
    string: Option<OpenString>,
}

/// The string that is being read.
struct OpenString {
    /// Its position in the remaining text.
    from: usize,
    stays: bool,
    escaped: bool,
}

impl Outline {
    /// Starts with the beginning of a text; at most this many bytes may remain of it.
    pub fn new(keep: Keep, longest: usize) -> Self {
        Self { keep, longest, text: Vec::new(), open: 0, is_closed: false, string: None }
    }

    /// Returns the remaining text so far.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Reads the next piece. Returns how many of its bytes come before the bracket that ends the outermost value: without that bracket, no
    /// server can process the text.
    ///
    /// # Errors
    /// If too much of the text remains.
    pub fn feed(&mut self, piece: &[u8]) -> Result<usize, TooLong> {
        let mut before_the_end = if self.is_closed { 0 } else { piece.len() };
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            if self.string.is_some() {
                at += self.in_string(&piece[at..]);
            } else {
                let was_closed = self.is_closed;
                self.outside(byte);
                if self.is_closed && !was_closed {
                    before_the_end = at;
                }
                at += 1;
            }
            if self.text.len() > self.longest {
                return Err(TooLong);
            }
        }
        Ok(before_the_end)
    }

    fn outside(&mut self, byte: u8) {
        self.text.push(byte);
        match byte {
            b'"' => self.string = Some(OpenString { from: self.text.len(), stays: true, escaped: false }),
            b'{' | b'[' => self.open += 1,
            b'}' | b']' => {
                self.open = self.open.saturating_sub(1);
                self.is_closed |= self.open == 0;
            }
            _ => {}
        }
    }

    /// Reads a part of the string and returns its length.
    fn in_string(&mut self, rest: &[u8]) -> usize {
        let Self { text, string, keep, open, .. } = self;
        let Some(reading) = string else { return 0 };
        let part = match rest {
            [_, ..] if reading.escaped => &rest[..1],
            [b'"', ..] => {
                text.push(b'"');
                *string = None;
                return 1;
            }
            [b'\\', ..] => &rest[..1],
            _ => &rest[..memchr2(b'"', b'\\', rest).unwrap_or(rest.len())],
        };
        reading.escaped = !reading.escaped && part == b"\\";
        let longest = if *open <= 1 { keep.outermost } else { keep.deeper };
        if reading.stays && text.len() - reading.from + part.len() <= longest {
            text.extend_from_slice(part);
        } else {
            text.truncate(reading.from);
            reading.stays = false;
        }
        part.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { outermost: 5, deeper: 2 };

    /// Returns the remaining text, and the text before the final bracket.
    fn outline(text: &str, piece: usize) -> (String, String) {
        let (mut outline, mut before) = (Outline::new(KEEP, 1000), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let length = outline.feed(piece).unwrap();
            before.extend_from_slice(&piece[..length]);
        }
        (String::from_utf8(outline.text).unwrap(), String::from_utf8(before).unwrap())
    }

    #[test]
    fn long_strings_are_left_out() {
        for (text, left) in [
            (r#"{"image": "abc", "b": "123456", "c": 1}"#, r#"{"image": "abc", "b": "", "c": 1}"#),
            (r#"{"a": "\"}{\"", "b": [{"id": 17, "ids": "x"}]} "#, r#"{"a": "", "b": [{"id": 17, "": "x"}]} "#),
            (r#"{"a": "\\", "b": "\u0061"}"#, r#"{"a": "\\", "b": ""}"#),
            (r#"{"a": "12345\"6", "b": {}}"#, r#"{"a": "", "b": {}}"#),
            (r#""123456""#, r#""""#),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(outline(text, piece).0, left, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_end_is_where_the_outermost_value_ends() {
        for (text, before) in [
            (r#" {"a": "}", "b": [{}]} "#, r#" {"a": "}", "b": [{}]"#),
            ("{}", "{"),
            ("{} {}", "{"),
            ("[]]{", "["),
            ("}{}", ""),
            (r#"{"a": "\"}"#, r#"{"a": "\"}"#),
            ("7", "7"),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(outline(text, piece).1, before, "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn it_does_not_grow() {
        let mut outline = Outline::new(KEEP, 1000);
        outline.feed(b"{\"").unwrap();
        for _ in 0..1000 {
            outline.feed(&[b'x'; 1000]).unwrap();
        }
        assert_eq!(outline.text, b"{\"");
        outline.feed(b"\": ").unwrap();
        assert_eq!(outline.feed(&[b' '; 1000]), Err(TooLong));
    }

    proptest::proptest! {
        #[test]
        fn what_parses_is_what_was_there(text in r#"[{}\[\],:"\\a1 ]{0,40}"#, piece in 1usize..9) {
            let whole = Keep { outermost: 100, deeper: 100 };
            let mut outline = Outline::new(whole, 1000);
            for piece in text.as_bytes().chunks(piece) {
                outline.feed(piece).unwrap();
            }
            proptest::prop_assert_eq!(outline.text(), text.as_bytes());
            // Without its long strings, a valid text is still valid.
            let (left, _) = self::outline(&text, piece);
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
                proptest::prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&left).is_ok(), "{}", left);
            }
        }
    }
}
