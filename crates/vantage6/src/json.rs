//! Finds string values in a JSON text while it arrives, so that texts of any size can be searched and changed without being
//! held in memory.
//!
//! [`Scan`] reads byte by byte and separates the requested string values from everything else. It validates nothing; the
//! consumer parses the text that passes through.

use bytes::BytesMut;
use memchr::memchr2;

/// Values nested deeper than this are not searched.
const DEPTH: usize = 64;

/// Which string values to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Under this key, in all objects.
    Everywhere(&'static str),
    /// Under this key, in the outermost object.
    Outermost(&'static str),
    /// Under this key, in each object of a list in the outermost object.
    InListOf {
        /// The list's key.
        list: &'static str,
        /// The value's key.
        key: &'static str,
    },
    /// All string values of the object under this key of the outermost object.
    AllIn(&'static str),
}

impl Find {
    fn key(self) -> Option<&'static [u8]> {
        match self {
            Self::Everywhere(key) | Self::Outermost(key) | Self::InListOf { key, .. } => Some(key.as_bytes()),
            Self::AllIn(_) => None,
        }
    }

    fn top(self) -> Option<&'static [u8]> {
        match self {
            Self::InListOf { list: top, .. } | Self::AllIn(top) => Some(top.as_bytes()),
            Self::Everywhere(_) | Self::Outermost(_) => None,
        }
    }
}

/// A part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text that was not requested.
    Text(&'a [u8]),
    /// The start of a value, in place of its opening quotation mark.
    Begin,
    /// A piece of the value as in the text, with its escapes (see [`Unescape`]).
    Value(&'a [u8]),
    /// The end of a value, in place of its closing quotation mark.
    End,
}

/// The state between two pieces of text.
#[derive(Debug)]
pub struct Scan {
    find: Find,
    /// The open objects (true) and lists (false).
    open: Vec<bool>,
    ignored_depth: usize,
    position: Position,
    /// The last key is the requested one.
    at_key: bool,
    /// The last key of the outermost object is the requested one.
    at_top: bool,
    /// The key that is being read. At most one character longer than the longest requested key.
    reading: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Outside { key_next: bool },
    InKey { escaped: bool },
    InString { escaped: bool },
    InValue { escaped: bool },
}

impl Scan {
    /// Starts at the beginning of a text.
    pub fn new(find: Find) -> Self {
        Self {
            find,
            open: Vec::new(),
            ignored_depth: 0,
            position: Position::Outside { key_next: false },
            at_key: false,
            at_top: false,
            reading: Vec::new(),
        }
    }

    /// Returns whether all objects, lists and strings are closed.
    pub fn is_whole(&self) -> bool {
        self.open.is_empty() && self.ignored_depth == 0 && matches!(self.position, Position::Outside { .. })
    }

    /// Takes the next piece of text.
    pub fn feed(&mut self, text: &[u8], part: &mut impl FnMut(Part<'_>)) {
        // Start of the text that has not been passed on.
        let mut from = 0;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match self.position {
                Position::InString { escaped: false } | Position::InValue { escaped: false }
                    if !matches!(byte, b'"' | b'\\') =>
                {
                    // Skip the inside of a string quickly: strings are most of a large text.
                    at = memchr2(b'"', b'\\', &text[at..]).map_or(text.len(), |plain| at + plain);
                    continue;
                }
                Position::InString { escaped } => {
                    self.position = if byte == b'"' && !escaped {
                        Position::Outside { key_next: false }
                    } else {
                        Position::InString { escaped: byte == b'\\' && !escaped }
                    };
                }
                Position::InKey { escaped } => self.in_key(byte, escaped),
                Position::InValue { escaped } => {
                    if byte == b'"' && !escaped {
                        if from < at {
                            part(Part::Value(&text[from..at]));
                        }
                        part(Part::End);
                        from = at + 1;
                        self.position = Position::Outside { key_next: false };
                    } else {
                        self.position = Position::InValue { escaped: byte == b'\\' && !escaped };
                    }
                }
                Position::Outside { key_next } => {
                    if self.outside(byte, key_next) {
                        if from < at {
                            part(Part::Text(&text[from..at]));
                        }
                        part(Part::Begin);
                        from = at + 1;
                        self.position = Position::InValue { escaped: false };
                    }
                }
            }
            at += 1;
        }
        if from < text.len() {
            let rest = &text[from..];
            part(if matches!(self.position, Position::InValue { .. }) { Part::Value(rest) } else { Part::Text(rest) });
        }
    }

    fn in_key(&mut self, byte: u8, escaped: bool) {
        if byte == b'"' && !escaped {
            let reads = |wanted: Option<&[u8]>| wanted.is_some_and(|wanted| wanted == self.reading);
            self.at_key = reads(self.find.key());
            if self.open.len() == 1 && self.ignored_depth == 0 {
                self.at_top = reads(self.find.top());
            }
            self.position = Position::Outside { key_next: false };
            return;
        }
        let longest = self.find.key().map_or(0, <[u8]>::len).max(self.find.top().map_or(0, <[u8]>::len));
        if self.reading.len() <= longest {
            self.reading.push(byte);
        }
        self.position = Position::InKey { escaped: byte == b'\\' && !escaped };
    }

    /// Takes a byte outside of strings; returns whether a requested value begins with it.
    fn outside(&mut self, byte: u8, key_next: bool) -> bool {
        let mut next_is_key = key_next;
        match byte {
            b'{' | b'[' => {
                if self.open.len() < DEPTH {
                    self.open.push(byte == b'{');
                } else {
                    self.ignored_depth += 1;
                }
                next_is_key = byte == b'{';
                self.at_key = false;
            }
            b'}' | b']' => {
                if self.ignored_depth > 0 {
                    self.ignored_depth -= 1;
                } else {
                    self.open.pop();
                }
                next_is_key = false;
                self.at_key = false;
            }
            b',' => {
                next_is_key = self.ignored_depth == 0 && self.open.last() == Some(&true);
                self.at_key = false;
            }
            b'"' if key_next => {
                self.reading.clear();
                self.position = Position::InKey { escaped: false };
                return false;
            }
            b'"' if self.is_wanted() => return true,
            b'"' => {
                self.position = Position::InString { escaped: false };
                return false;
            }
            _ => {}
        }
        self.position = Position::Outside { key_next: next_is_key };
        false
    }

    fn is_wanted(&self) -> bool {
        self.ignored_depth == 0
            && match self.find {
                Find::Everywhere(_) => self.at_key,
                Find::Outermost(_) => self.at_key && self.open == [true],
                Find::InListOf { .. } => self.at_key && self.at_top && self.open == [true, false, true],
                Find::AllIn(_) => self.at_top && self.open == [true, true],
            }
    }
}

/// Removes the escapes of an ASCII-only JSON string, such as base64, in pieces.
#[derive(Debug, Default)]
pub struct Unescape {
    pending: Vec<u8>,
}

impl Unescape {
    /// Returns the characters of the next piece; `None` if it has something that cannot occur in base64.
    pub fn feed(&mut self, text: &[u8]) -> Option<BytesMut> {
        let mut plain = BytesMut::with_capacity(text.len());
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            if self.pending.is_empty() {
                let until = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
                if until > 0 {
                    plain.extend_from_slice(&rest[..until]);
                    rest = &rest[until..];
                } else {
                    self.pending.push(byte);
                    rest = after;
                }
                continue;
            }
            rest = after;
            self.pending.push(byte);
            let character = match self.pending[..] {
                [_, b'u', ref digits @ ..] if digits.len() < 4 => continue,
                [_, b'u', ref digits @ ..] => {
                    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.contains('+'))?;
                    u8::from_str_radix(digits.strip_prefix("00")?, 16).ok().filter(u8::is_ascii)?
                }
                [_, b'n'] => b'\n',
                [_, b'r'] => b'\r',
                [_, b't'] => b'\t',
                [_, other @ (b'/' | b'\\' | b'"')] => other,
                _ => return None,
            };
            plain.extend_from_slice(&[character]);
            self.pending.clear();
        }
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the text in pieces of this size, and marks the values that were found.
    fn marked(find: Find, text: &str, piece: usize) -> String {
        let (mut scan, mut marked) = (Scan::new(find), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            scan.feed(piece, &mut |part| match part {
                Part::Text(text) | Part::Value(text) => marked.extend_from_slice(text),
                Part::Begin => marked.push(b'<'),
                Part::End => marked.push(b'>'),
            });
        }
        String::from_utf8(marked).unwrap()
    }

    #[test]
    fn finds_what_was_asked_for_and_nothing_else() {
        let inputs = Find::InListOf { list: "organizations", key: "input" };
        for (find, text, found) in [
            (
                inputs,
                r#"{"input":"a","organizations":[{"id":1,"input":"b\"c"},{"input":"","id":2}],"x":[{"input":"d"}]}"#,
                r#"{"input":"a","organizations":[{"id":1,"input":<b\"c>},{"input":<>,"id":2}],"x":[{"input":"d"}]}"#,
            ),
            (
                inputs,
                r#"{"a":{"organizations":[{"input":"x"}]},"organizations":[[{"input":"y"}],{"z":{"input":"w"}}]}"#,
                r#"{"a":{"organizations":[{"input":"x"}]},"organizations":[[{"input":"y"}],{"z":{"input":"w"}}]}"#,
            ),
            (inputs, r#"{"organizations":{"a":{"input":"x"}}}"#, r#"{"organizations":{"a":{"input":"x"}}}"#),
            (
                Find::AllIn("links"),
                r#"{"data":[{"links":{"a":"b"}}],"links":{"next":"/api/x","page":2,"deep":{"a":"b"}},"z":"y"}"#,
                r#"{"data":[{"links":{"a":"b"}}],"links":{"next":</api/x>,"page":2,"deep":{"a":"b"}},"z":"y"}"#,
            ),
            (Find::Everywhere("r"), r#"{"data":[{"r":"x"}],"r":"y"}"#, r#"{"data":[{"r":<x>}],"r":<y>}"#),
            (Find::Outermost("r"), r#"{"data":[{"r":"x"}],"r":"y"}"#, r#"{"data":[{"r":"x"}],"r":<y>}"#),
            (Find::Outermost("r"), r#"["r","x",{"r":"y"}]"#, r#"["r","x",{"r":"y"}]"#),
        ] {
            for piece in [1, 2, 7, 1000] {
                assert_eq!(marked(find, text, piece), found, "in pieces of {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn loses_nothing(bytes: Vec<u8>, piece in 1usize..20) {
            for find in [Find::Everywhere("a"), Find::AllIn("a"), Find::InListOf { list: "a", key: "b" }] {
                let (mut scan, mut all) = (Scan::new(find), Vec::new());
                for piece in bytes.chunks(piece) {
                    scan.feed(piece, &mut |part| match part {
                        Part::Text(text) | Part::Value(text) => all.extend_from_slice(text),
                        Part::Begin | Part::End => all.push(b'"'),
                    });
                }
                prop_assert_eq!(&all, &bytes);
            }
        }

        #[test]
        fn escapes_come_undone(text in "[ -~\n\r\t]{0,40}", piece in 1usize..9) {
            let json = serde_json::to_string(&text).unwrap();
            let mut unescape = Unescape::default();
            let pieces = json.as_bytes()[1..json.len() - 1].chunks(piece);
            let plain: Vec<u8> = pieces.flat_map(|piece| unescape.feed(piece).unwrap()).collect();
            prop_assert_eq!(plain, text.into_bytes());
        }
    }

    #[test]
    fn other_escapes() {
        let plain = |text: &str| Unescape::default().feed(text.as_bytes()).map(|plain| plain.to_vec());
        assert_eq!(plain(r"a\/b\u002B\u003d").unwrap(), b"a/b+=");
        for bad in [r"\u00e9", r"\u2028", r"\x", r"\uzzzz", r"\u00+1"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
    }
}
