//! Leaves the inputs out of a JSON text while it is still arriving.
//!
//! The server sends each run with its input, whether it is wanted or not (`RunSchema` in
//! `server/resource/common/output_schema.py`), and an input may be hundreds of megabytes. [`Cut`] reads the text byte
//! by byte, lets everything through except the string values of `"input"`, and gives those away in pieces. It checks
//! nothing: what it lets through is parsed afterwards.

use bytes::BytesMut;

const KEY: &[u8] = b"input";
/// Deeper nesting than this is left as it is.
const DEPTH: usize = 64;

/// Where the inputs are that are cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Of every object, in a list of runs.
    All,
    /// Only of the outermost object: one run.
    Outermost,
}

/// The filter's state between two pieces of text.
pub(crate) struct Cut {
    of: Of,
    /// Inputs of up to so many characters stay.
    keep: usize,
    /// What is open: objects (true) and lists.
    open: Vec<bool>,
    ignored_depth: usize,
    place: Place,
    /// The key that the next value belongs to is `"input"`.
    is_input: bool,
    /// In a key: what there is of it, one character longer than `KEY` at most. In an input: what may still stay.
    pending: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside { key_next: bool },
    InString { key: bool, escaped: bool },
    InInput { escaped: bool, cut: bool },
}

impl Cut {
    pub fn new(of: Of, keep: usize) -> Self {
        Self {
            of,
            keep,
            open: Vec::new(),
            ignored_depth: 0,
            place: Place::Outside { key_next: false },
            is_input: false,
            pending: BytesMut::new(),
        }
    }

    /// Whether everything that was opened is closed, and no string is open.
    pub fn is_whole(&self) -> bool {
        self.open.is_empty() && self.ignored_depth == 0 && matches!(self.place, Place::Outside { .. })
    }

    /// Takes the next piece: `kept` gets the text without inputs (`null` in their place), `input` what was cut, as it
    /// is in the text: with its escapes.
    pub fn feed(&mut self, text: &[u8], kept: &mut BytesMut, input: &mut BytesMut) {
        let mut text = text;
        while let Some((&byte, rest)) = text.split_first() {
            // Inputs are nearly all of the text: take what needs no looking at in one go.
            if let Place::InInput { escaped: false, cut: true } = self.place {
                let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(text.len());
                if plain > 0 {
                    input.extend_from_slice(&text[..plain]);
                    text = &text[plain..];
                    continue;
                }
            }
            self.step(byte, kept, input);
            text = rest;
        }
    }

    fn step(&mut self, byte: u8, kept: &mut BytesMut, input: &mut BytesMut) {
        match self.place {
            Place::Outside { key_next } => self.outside(byte, key_next, kept),
            Place::InString { key, escaped } => {
                kept.extend_from_slice(&[byte]);
                if byte == b'"' && !escaped {
                    if key {
                        self.is_input = &self.pending[..] == KEY;
                    }
                    self.place = Place::Outside { key_next: false };
                } else {
                    if key && self.pending.len() <= KEY.len() {
                        self.pending.extend_from_slice(&[byte]);
                    }
                    self.place = Place::InString { key, escaped: byte == b'\\' && !escaped };
                }
            }
            Place::InInput { escaped, cut } => {
                if byte == b'"' && !escaped {
                    if cut {
                        kept.extend_from_slice(b"null");
                    } else {
                        kept.extend_from_slice(b"\"");
                        kept.extend_from_slice(&self.pending);
                        kept.extend_from_slice(b"\"");
                    }
                    self.pending.clear();
                    self.place = Place::Outside { key_next: false };
                    return;
                }
                if !cut && self.pending.len() < self.keep {
                    self.pending.extend_from_slice(&[byte]);
                    self.place = Place::InInput { escaped: byte == b'\\' && !escaped, cut };
                    return;
                }
                input.extend_from_slice(&self.pending);
                self.pending.clear();
                input.extend_from_slice(&[byte]);
                self.place = Place::InInput { escaped: byte == b'\\' && !escaped, cut: true };
            }
        }
    }

    fn outside(&mut self, byte: u8, key_next: bool, kept: &mut BytesMut) {
        let mut next_is_key = key_next;
        match byte {
            b'{' | b'[' => {
                if self.open.len() < DEPTH {
                    self.open.push(byte == b'{')
                } else {
                    self.ignored_depth += 1
                }
                next_is_key = byte == b'{';
                self.is_input = false;
            }
            b'}' | b']' => {
                if self.ignored_depth > 0 {
                    self.ignored_depth -= 1
                } else {
                    self.open.truncate(self.open.len().saturating_sub(1))
                }
                next_is_key = false;
                self.is_input = false;
            }
            b',' => {
                next_is_key = self.ignored_depth == 0 && self.open.last() == Some(&true);
                self.is_input = false;
            }
            b'"' => {
                let here = match self.of {
                    Of::All => self.ignored_depth == 0,
                    Of::Outermost => self.open.len() == 1,
                };
                self.pending.clear();
                if !key_next && self.is_input && here {
                    // With nothing to keep an input is cut from its first character on, so that an empty one is seen
                    // too.
                    self.place = Place::InInput { escaped: false, cut: self.keep == 0 };
                    return;
                }
                kept.extend_from_slice(b"\"");
                self.place = Place::InString { key: key_next, escaped: false };
                return;
            }
            _ => {}
        }
        kept.extend_from_slice(&[byte]);
        self.place = Place::Outside { key_next: next_is_key };
    }
}

/// Undoes the escapes of a JSON string whose characters are all ASCII, as base64 text is, in pieces.
#[derive(Default)]
pub(crate) struct Unescape {
    pending: Vec<u8>,
}

impl Unescape {
    /// The characters of the next piece; `None` if there is something that can't be in base64 text.
    pub fn feed(&mut self, text: &[u8]) -> Option<BytesMut> {
        let mut plain = BytesMut::with_capacity(text.len());
        for &byte in text {
            if self.pending.is_empty() {
                if byte == b'\\' {
                    self.pending.push(byte)
                } else {
                    plain.extend_from_slice(&[byte])
                }
                continue;
            }
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
    use serde_json::{Value, json};

    use super::*;

    /// Feeds the text in pieces of this size.
    fn cut(of: Of, keep: usize, text: &str, piece: usize) -> (String, String, bool) {
        let (mut filter, mut kept, mut input) = (Cut::new(of, keep), BytesMut::new(), BytesMut::new());
        for piece in text.as_bytes().chunks(piece) {
            filter.feed(piece, &mut kept, &mut input);
        }
        let text = |bytes: BytesMut| String::from_utf8(bytes.to_vec()).unwrap();
        (text(kept), text(input), filter.is_whole())
    }

    #[test]
    fn cuts_inputs_and_nothing_else() {
        for (of, keep, text, kept, input) in [
            (Of::All, 0, r#"{"data":[{"id":1,"input":"abc"}]}"#, r#"{"data":[{"id":1,"input":null}]}"#, "abc"),
            (Of::All, 3, r#"{"input":"abc"}"#, r#"{"input":"abc"}"#, ""),
            (Of::All, 2, r#"{"input":"abc"}"#, r#"{"input":null}"#, "abc"),
            (
                Of::All,
                0,
                r#"[{"input" : "a\"b\\"} , {"input":"c"}]"#,
                r#"[{"input" : null} , {"input":null}]"#,
                r#"a\"b\\c"#,
            ),
            (Of::All, 0, r#"{"input":""}"#, r#"{"input":null}"#, ""),
            (Of::All, 0, r#"{"input":null,"x":"y"}"#, r#"{"input":null,"x":"y"}"#, ""),
            (Of::All, 0, r#"{"input":{"a":"b"},"c":"d"}"#, r#"{"input":{"a":"b"},"c":"d"}"#, ""),
            (
                Of::All,
                0,
                r#"{"inputs":"a","inpu":"b","x":"input","y":"z"}"#,
                r#"{"inputs":"a","inpu":"b","x":"input","y":"z"}"#,
                "",
            ),
            (Of::All, 0, r#"["input","a"]"#, r#"["input","a"]"#, ""),
            (
                Of::All,
                0,
                r#"{"a\"input":"b","log":"\"input\":\"x\""}"#,
                r#"{"a\"input":"b","log":"\"input\":\"x\""}"#,
                "",
            ),
            (Of::Outermost, 0, r#"{"task":{"input":"t"},"input":"r"}"#, r#"{"task":{"input":"t"},"input":null}"#, "r"),
        ] {
            for piece in [1, 2, 7, 1000] {
                assert_eq!(
                    cut(of, keep, text, piece),
                    (kept.to_owned(), input.to_owned(), true),
                    "{text} in pieces of {piece}"
                );
            }
        }
        for half in ["{", r#"{"a"#, r#"{"input":"abc"#, "[1"] {
            assert!(!cut(Of::All, 0, half, 3).2, "{half}");
        }
    }

    fn without_inputs(value: &Value, keep: usize) -> Value {
        match value {
            Value::Array(values) => values.iter().map(|value| without_inputs(value, keep)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) if key == "input" && serde_json::to_string(text).unwrap().len() - 2 > keep => {
                        (key.clone(), Value::Null)
                    }
                    // Nothing is kept, not even nothing.
                    Value::String(_) if key == "input" && keep == 0 => (key.clone(), Value::Null),
                    _ => (key.clone(), without_inputs(value, keep)),
                })
                .collect(),
            _ => value.clone(),
        }
    }

    fn json_values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![Just("input".to_owned()), "[a-z\"\\\\{}\\[\\],:\u{e9}\n]{0,12}"];
        let leaf =
            prop_oneof![Just(json!(null)), any::<i32>().prop_map(Value::from), text.clone().prop_map(Value::from)];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(text.clone(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_real_parser(value in json_values(), piece in 1usize..20, keep in 0usize..10, pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let (kept, _, whole) = cut(Of::All, keep, &text, piece);
            prop_assert!(whole);
            prop_assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), without_inputs(&value, keep));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, piece in 1usize..20) {
            let (mut filter, mut kept, mut input) = (Cut::new(Of::All, 3), BytesMut::new(), BytesMut::new());
            for piece in bytes.chunks(piece) {
                filter.feed(piece, &mut kept, &mut input);
            }
        }

        #[test]
        fn escapes_come_undone(text in "[ -~\n\r\t]{0,40}", piece in 1usize..9) {
            let json = serde_json::to_string(&text).unwrap();
            let mut unescape = Unescape::default();
            let plain: Vec<u8> = json.as_bytes()[1..json.len() - 1].chunks(piece).flat_map(|piece| unescape.feed(piece).unwrap()).collect();
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
