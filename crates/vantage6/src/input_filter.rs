//! Removes the inputs from a JSON text while it arrives.
//!
//! The server sends each run with its input, even if the client does not want it (`RunSchema` in
//! `server/resource/common/output_schema.py`), and an input may have hundreds of megabytes. [`InputFilter`] passes
//! everything through except the string values of `"input"`, which it returns separately, in pieces.

use bytes::BytesMut;

use crate::json::{Find, Part, Scan};

/// Which inputs to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of all objects, in a list of runs.
    All,
    /// Only that of the outermost object, which is one run.
    Outermost,
}

/// The filter's state between two pieces of text.
pub(crate) struct InputFilter {
    scan: Scan,
    /// Inputs of up to this many characters are kept.
    keep: usize,
    /// The current input, while it may still be kept.
    held: BytesMut,
    /// The current input is too long to be kept.
    drops: bool,
}

impl InputFilter {
    pub fn new(of: Scope, keep: usize) -> Self {
        let find = match of {
            Scope::All => Find::Everywhere("input"),
            Scope::Outermost => Find::Outermost("input"),
        };
        Self { scan: Scan::new(find), keep, held: BytesMut::new(), drops: false }
    }

    /// Drops the logs of all runs of a list: servers since 4.10.1 have those of runs that are under way.
    pub fn of_logs() -> Self {
        Self {
            scan: Scan::new(Find::InListOf { list: "data", key: "log" }),
            keep: 0,
            held: BytesMut::new(),
            drops: false,
        }
    }

    /// Returns whether all objects, lists and strings are closed.
    pub fn is_whole(&self) -> bool {
        self.scan.is_whole()
    }

    /// Takes the next piece. Appends the text without the inputs (`null` in their place) to `kept`, and the removed inputs to
    /// `input`, with their escapes.
    pub fn feed(&mut self, text: &[u8], kept: &mut BytesMut, input: &mut BytesMut) {
        let Self { scan, keep, held, drops } = self;
        scan.feed(text, &mut |part| match part {
            Part::Text(text) => kept.extend_from_slice(text),
            // If no input is kept, it is removed from its first character on, so that an empty one becomes `null` too.
            Part::Begin => *drops = *keep == 0,
            Part::Value(text) if *drops => input.extend_from_slice(text),
            Part::Value(text) if held.len() + text.len() <= *keep => held.extend_from_slice(text),
            Part::Value(text) => {
                *drops = true;
                input.extend_from_slice(&held.split());
                input.extend_from_slice(text);
            }
            Part::End if *drops => kept.extend_from_slice(b"null"),
            Part::End => {
                kept.extend_from_slice(b"\"");
                kept.extend_from_slice(&held.split());
                kept.extend_from_slice(b"\"");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Feeds the text in pieces of this size.
    fn filter(of: Scope, keep: usize, text: &str, piece: usize) -> (String, String, bool) {
        let (mut filter, mut kept, mut input) = (InputFilter::new(of, keep), BytesMut::new(), BytesMut::new());
        for piece in text.as_bytes().chunks(piece) {
            filter.feed(piece, &mut kept, &mut input);
        }
        let text = |bytes: BytesMut| String::from_utf8(bytes.to_vec()).unwrap();
        (text(kept), text(input), filter.is_whole())
    }

    #[test]
    fn cuts_inputs_and_nothing_else() {
        for (of, keep, text, kept, input) in [
            (Scope::All, 0, r#"{"data":[{"id":1,"input":"abc"}]}"#, r#"{"data":[{"id":1,"input":null}]}"#, "abc"),
            (Scope::All, 3, r#"{"input":"abc"}"#, r#"{"input":"abc"}"#, ""),
            (Scope::All, 2, r#"{"input":"abc"}"#, r#"{"input":null}"#, "abc"),
            (
                Scope::All,
                0,
                r#"[{"input" : "a\"b\\"} , {"input":"c"}]"#,
                r#"[{"input" : null} , {"input":null}]"#,
                r#"a\"b\\c"#,
            ),
            (Scope::All, 0, r#"{"input":""}"#, r#"{"input":null}"#, ""),
            (Scope::All, 0, r#"{"input":null,"x":"y"}"#, r#"{"input":null,"x":"y"}"#, ""),
            (Scope::All, 0, r#"{"input":{"a":"b"},"c":"d"}"#, r#"{"input":{"a":"b"},"c":"d"}"#, ""),
            (
                Scope::All,
                0,
                r#"{"inputs":"a","inpu":"b","x":"input","y":"z"}"#,
                r#"{"inputs":"a","inpu":"b","x":"input","y":"z"}"#,
                "",
            ),
            (Scope::All, 0, r#"["input","a"]"#, r#"["input","a"]"#, ""),
            (
                Scope::All,
                0,
                r#"{"a\"input":"b","log":"\"input\":\"x\""}"#,
                r#"{"a\"input":"b","log":"\"input\":\"x\""}"#,
                "",
            ),
            (
                Scope::Outermost,
                0,
                r#"{"task":{"input":"t"},"input":"r"}"#,
                r#"{"task":{"input":"t"},"input":null}"#,
                "r",
            ),
        ] {
            for piece in [1, 2, 7, 1000] {
                assert_eq!(
                    filter(of, keep, text, piece),
                    (kept.to_owned(), input.to_owned(), true),
                    "{text} in pieces of {piece}"
                );
            }
        }
        for half in ["{", r#"{"a"#, r#"{"input":"abc"#, "[1"] {
            assert!(!filter(Scope::All, 0, half, 3).2, "{half}");
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
                    // With `keep` 0 even an empty input is removed.
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
            let (kept, _, whole) = filter(Scope::All, keep, &text, piece);
            prop_assert!(whole);
            prop_assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), without_inputs(&value, keep));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, piece in 1usize..20) {
            let (mut filter, mut kept, mut input) = (InputFilter::new(Scope::All, 3), BytesMut::new(), BytesMut::new());
            for piece in bytes.chunks(piece) {
                filter.feed(piece, &mut kept, &mut input);
            }
        }
    }
}
