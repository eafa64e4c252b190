//! Parses the server's looser formats directly from the text. It never builds a tree of values (as `serde_json::Value` and untagged
//! enums do): a tree takes a hundred times the memory of its text, and other parties may have written the text.

use std::fmt;

use serde::de::{
    self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
};
use serde_json::value::RawValue;

use crate::RunStatus;
use crate::long_strings::CUT;

/// Reads a related object: a number, an object with an `id`, or null.
pub(crate) fn optional_reference<'de, D: Deserializer<'de>, T: From<u64>>(de: D) -> Result<Option<T>, D::Error> {
    struct Reference;
    impl<'de> Visitor<'de> for Reference {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or an object with an id")
        }

        fn visit_u64<E: de::Error>(self, id: u64) -> Result<Self::Value, E> {
            Ok(Some(id))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            #[derive(serde::Deserialize)]
            struct Object {
                id: u64,
            }
            Object::deserialize(MapAccessDeserializer::new(map)).map(|object| Some(object.id))
        }
    }
    Ok(de.deserialize_any(Reference)?.map(T::from))
}

/// Reads a related object that must not be null.
pub(crate) fn reference<'de, D: Deserializer<'de>, T: From<u64>>(de: D) -> Result<T, D::Error> {
    optional_reference(de)?.ok_or_else(|| de::Error::custom("a related object is null"))
}

/// Reads a boolean, or a number as a database stores it.
pub(crate) fn truth<'de, D: Deserializer<'de>>(de: D) -> Result<bool, D::Error> {
    struct Truth;
    impl Visitor<'_> for Truth {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: de::Error>(self, truth: bool) -> Result<bool, E> {
            Ok(truth)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<bool, E> {
            Ok(number != 0)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<bool, E> {
            Ok(number != 0)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<bool, E> {
            Ok(number != 0.0)
        }
    }
    de.deserialize_any(Truth)
}

/// Reads a text and cuts it to `MOST` characters. A mark at the end shows the cut, so that the text cannot be mistaken for
/// another one.
pub(crate) fn cut<'de, D: Deserializer<'de>, const MOST: usize>(de: D) -> Result<String, D::Error> {
    struct Text<const MOST: usize>;
    impl<const MOST: usize> Visitor<'_> for Text<MOST> {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(match text.char_indices().nth(MOST) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.to_owned(),
            })
        }
    }
    de.deserialize_str(Text::<MOST>)
}

/// Like [`cut`], but for an optional text: null or empty means none.
pub(crate) fn optional_cut<'de, D: Deserializer<'de>, const MOST: usize>(de: D) -> Result<Option<String>, D::Error> {
    struct Cut<const MOST: usize>(String);
    impl<'de, const MOST: usize> Deserialize<'de> for Cut<MOST> {
        fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
            cut::<D, MOST>(de).map(Self)
        }
    }
    let text = Option::<Cut<MOST>>::deserialize(de)?.map(|text| text.0);
    Ok(text.filter(|text| !text.is_empty()))
}

/// The value of a field that should have a short text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ShortText {
    /// Null.
    None,
    Text(String),
    /// A longer text, or not a text. The value is skipped and takes no memory.
    Other,
}

/// Reads a text of up to `MOST` bytes, or any other value.
pub(crate) fn short_text<'de, D: Deserializer<'de>, const MOST: usize>(de: D) -> Result<ShortText, D::Error> {
    struct Short<const MOST: usize>;
    impl<'de, const MOST: usize> Visitor<'de> for Short<MOST> {
        type Value = ShortText;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ShortText, E> {
            Ok(if text.len() <= MOST { ShortText::Text(text.to_owned()) } else { ShortText::Other })
        }

        fn visit_unit<E: de::Error>(self) -> Result<ShortText, E> {
            Ok(ShortText::None)
        }

        fn visit_bool<E: de::Error>(self, _: bool) -> Result<ShortText, E> {
            Ok(ShortText::Other)
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<ShortText, E> {
            Ok(ShortText::Other)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<ShortText, E> {
            Ok(ShortText::Other)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<ShortText, E> {
            Ok(ShortText::Other)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<ShortText, A::Error> {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            Ok(ShortText::Other)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ShortText, A::Error> {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(ShortText::Other)
        }
    }
    de.deserialize_any(Short::<MOST>)
}

/// How many characters of an unknown status are kept.
const STATUS: usize = 100;

/// Reads the status of a run. Cuts one that this version does not know.
pub(crate) fn status<'de, D: Deserializer<'de>>(de: D) -> Result<RunStatus, D::Error> {
    cut::<D, STATUS>(de).map(RunStatus::from)
}

/// Reads JSON that is given as a text or directly. Of one with more than `MOST` bytes only the length is kept.
pub(crate) fn json_text<'de, D: Deserializer<'de>, const MOST: usize>(de: D) -> Result<JsonText, D::Error> {
    let json = <&RawValue>::deserialize(de)?;
    let text: String = match json.get() {
        "null" => String::new(),
        text if text.starts_with('"') => serde_json::from_str(text).map_err(de::Error::custom)?,
        text if text.len() > MOST => return Ok(JsonText::TooLong(text.len())),
        text => text.to_owned(),
    };
    Ok(match text.len() {
        0 => JsonText::None,
        length if text.ends_with(CUT) => JsonText::TooLong(length),
        // Shrinks the allocation to the text's size.
        length if length <= MOST => JsonText::Text(text.into_boxed_str().into_string()),
        length => JsonText::TooLong(length),
    })
}

/// The kept part of a JSON text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum JsonText {
    #[default]
    None,
    Text(String),
    /// The text was longer than the limit and has this many bytes.
    TooLong(usize),
}

/// The first values of a list, and the number of further values, which are skipped unread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beginning<T> {
    pub list: Vec<T>,
    pub left_out: usize,
}

/// Reads the first `MOST` values of a list. Null is an empty list.
pub(crate) fn beginning<'de, D, T, const MOST: usize>(de: D) -> Result<Beginning<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const MOST: usize>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
        type Value = Beginning<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Beginning { list: Vec::new(), left_out: 0 })
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let (mut list, mut left_out) = (Vec::new(), 0);
            while list.len() < MOST
                && let Some(element) = elements.next_element()?
            {
                list.push(element);
            }
            while elements.next_element::<IgnoredAny>()?.is_some() {
                left_out += 1;
            }
            Ok(Beginning { list, left_out })
        }
    }
    de.deserialize_any(List::<T, MOST>(std::marker::PhantomData))
}

/// Reads a list of up to `MOST` values; a longer one is an error. Null is an empty list.
pub(crate) fn list<'de, D, T, const MOST: usize>(de: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const MOST: usize>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == MOST {
                    return Err(de::Error::custom(format!("a list of more than {MOST} entries")));
                }
                list.push(element);
            }
            Ok(list)
        }
    }
    de.deserialize_any(List::<T, MOST>(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{Beginning, JsonText, ShortText};

    #[derive(Deserialize, Debug, PartialEq)]
    struct Loose {
        #[serde(default, deserialize_with = "super::optional_reference")]
        reference: Option<u64>,
        #[serde(default, deserialize_with = "super::truth")]
        truth: bool,
        #[serde(default, deserialize_with = "super::optional_cut::<_, 3>")]
        text: Option<String>,
        #[serde(default, deserialize_with = "super::json_text::<_, 20>")]
        json: JsonText,
        #[serde(default, deserialize_with = "super::list::<_, _, 2>")]
        list: Vec<u64>,
    }

    #[test]
    fn what_is_no_short_text_is_passed_over() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct Short(#[serde(deserialize_with = "super::short_text::<_, 3>")] ShortText);
        let text = |text: &str| ShortText::Text(text.into());
        for (json, expected) in [
            ("null", ShortText::None),
            ("\"abc\"", text("abc")),
            ("\"\"", text("")),
            ("\"\\u0061\"", text("a")),
            ("\"abcd\"", ShortText::Other),
            ("true", ShortText::Other),
            ("-1", ShortText::Other),
            ("1", ShortText::Other),
            ("1.5", ShortText::Other),
            (r#"[{"": 0}, [1]]"#, ShortText::Other),
            (r#"{"a": {"b": []}}"#, ShortText::Other),
        ] {
            assert_eq!(serde_json::from_str::<Short>(json).unwrap(), Short(expected), "{json}");
        }
        assert!(serde_json::from_str::<Short>("[1").is_err());
    }

    #[test]
    fn of_a_long_list_the_beginning_is_kept() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct Few(#[serde(deserialize_with = "super::beginning::<_, u64, 2>")] Beginning<u64>);
        let few = |json: &str| serde_json::from_str::<Few>(json).ok().map(|few| (few.0.list, few.0.left_out));
        for (json, expected) in [
            ("null", Some((vec![], 0))),
            ("[]", Some((vec![], 0))),
            ("[1, 2]", Some((vec![1, 2], 0))),
            (r#"[1, 2, {"a": [3]}, "x"]"#, Some((vec![1, 2], 2))),
            (r#"["x", 2]"#, None),
            ("7", None),
        ] {
            assert_eq!(few(json), expected, "{json}");
        }
    }

    #[test]
    fn loose_shapes() {
        let read = |text: &str| serde_json::from_str::<Loose>(text);
        let nothing = || Loose { reference: None, truth: false, text: None, json: JsonText::None, list: vec![] };
        for (text, expected) in [
            ("{}", nothing()),
            (r#"{"reference": null, "text": null, "json": null, "list": null}"#, nothing()),
            (r#"{"reference": 1, "truth": true}"#, Loose { reference: Some(1), truth: true, ..nothing() }),
            (
                r#"{"reference": {"x": [{}], "id": 1}, "truth": 1}"#,
                Loose { reference: Some(1), truth: true, ..nothing() },
            ),
            (r#"{"truth": 0.0, "text": "", "json": ""}"#, nothing()),
            (r#"{"text": "\u00e9bc"}"#, Loose { text: Some("ébc".into()), ..nothing() }),
            (r#"{"text": "abcd"}"#, Loose { text: Some("abc…".into()), ..nothing() }),
            (r#"{"json": "{\"a\": 1}"}"#, Loose { json: JsonText::Text(r#"{"a": 1}"#.into()), ..nothing() }),
            (r#"{"json": "aaaaaaaaaaaaaaaaaaaaa"}"#, Loose { json: JsonText::TooLong(21), ..nothing() }),
            (r#"{"json": {"a": "aaaaaaaaaaaaa"}}"#, Loose { json: JsonText::TooLong(22), ..nothing() }),
            (
                r#"{"json": {"a": [1]}, "list": [1, 2]}"#,
                Loose { json: JsonText::Text(r#"{"a": [1]}"#.into()), list: vec![1, 2], ..nothing() },
            ),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for bad in [
            r#"{"reference": "1"}"#,
            r#"{"reference": {"x": 1}}"#,
            r#"{"reference": -1}"#,
            r#"{"truth": "yes"}"#,
            r#"{"text": 1}"#,
            r#"{"list": [1, 2, 3]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
