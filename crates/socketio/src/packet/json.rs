//! JSON that stays text until the reader takes typed values out of it.
//!
//! A tree of values takes up to a hundred times the memory of its text (`{"":0}`, 6 bytes, becomes 600), and
//! a peer writes the text. A packet is therefore only checked to be JSON, in constant stack and without keeping anything.
//! The reader then takes typed values out of it and skips the fields that those types lack.

#![expect(clippy::disallowed_types, reason = "made by the caller, to be sent; what comes stays text")]

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::PacketError;

/// One JSON value, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// Checks that the text is one JSON value.
    pub(super) fn checked(text: &str) -> Result<Self, PacketError> {
        Ok(Self(serde_json::from_str::<&RawValue>(text)?.get().into()))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a typed value.
    ///
    /// # Errors
    /// The JSON does not have the shape of the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Debug for Json {
    /// Omits the data, which must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// The arguments of an event or an ack, as the text of a JSON array. Made from no value (`()`), one [`Value`] (even if that
/// is an array), or several (a `Vec` or array of [`Value`]s).
#[derive(Clone, PartialEq, Eq)]
pub struct Args(Json);

impl Args {
    /// Makes arguments from the text between the brackets of an array.
    pub(super) fn inside(elements: &str) -> Self {
        Self(Json(format!("[{elements}]").into()))
    }

    /// Checks that the text is a JSON array.
    pub(super) fn checked(text: &str) -> Result<Self, PacketError> {
        let json = Json::checked(text)?;
        if json.0.starts_with('[') { Ok(Self(json)) } else { Err(PacketError::Shape("the data must be an array")) }
    }

    /// The text of the array.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Reads all arguments, as a tuple or a list.
    ///
    /// # Errors
    /// The JSON does not have the shape of the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        self.0.read()
    }

    /// Reads the first argument and skips the others. `None` if there is none, or if it has another shape.
    #[must_use]
    pub fn first<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        self.read::<First<T>>().ok()?.0
    }
}

impl Default for Args {
    fn default() -> Self {
        Self::inside("")
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<()> for Args {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Value> for Args {
    fn from(one: Value) -> Self {
        Self::inside(&one.to_string())
    }
}

impl From<Vec<Value>> for Args {
    fn from(several: Vec<Value>) -> Self {
        Self(Value::Array(several).into())
    }
}

impl<const N: usize> From<[Value; N]> for Args {
    fn from(several: [Value; N]) -> Self {
        Vec::from(several).into()
    }
}

/// Reads the first element of an array.
struct First<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<First<T>, A::Error> {
                let first = elements.next_element()?;
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

/// The text of an array, split after its first element, which the caller parses.
pub(super) struct Split<'a> {
    /// The first element.
    pub first: &'a str,
    /// The other elements, with the commas between them.
    pub others: &'a str,
}

impl<'a> Split<'a> {
    /// Splits the text of an array; `None` for an empty one.
    pub(super) fn of(text: &'a str) -> Result<Option<Self>, PacketError> {
        let Ends { first, second, last } = serde_json::from_str(text)?;
        let Some(first) = first else { return Ok(None) };
        // `first`, `second` and `last` are slices of `text`.
        let place = |part: &str| part.as_ptr().addr().checked_sub(text.as_ptr().addr());
        let others = match (second, last) {
            (Some(second), Some(last)) => {
                place(second).zip(place(last)).and_then(|(from, to)| text.get(from..to + last.len()))
            }
            _ => Some(""),
        };
        let others = others.ok_or(PacketError::Shape("the data must be an array"))?;
        Ok(Some(Self { first, others }))
    }
}

/// The first, second and last elements of an array.
#[derive(Default)]
struct Ends<'a> {
    first: Option<&'a str>,
    second: Option<&'a str>,
    last: Option<&'a str>,
}

impl<'de> Deserialize<'de> for Ends<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Ends<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Ends<'de>, A::Error> {
                let mut ends =
                    Ends { first: elements.next_element::<&RawValue>()?.map(RawValue::get), ..Ends::default() };
                while let Some(element) = elements.next_element::<&RawValue>()? {
                    ends.second.get_or_insert(element.get());
                    ends.last = Some(element.get());
                }
                Ok(ends)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_read_by_type() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Known {
            id: u64,
        }
        let args = Args::from([json!({"id": 1, "unknown": [[{"": 0}]]}), json!("more")]);
        assert_eq!(args.first::<Known>(), Some(Known { id: 1 }));
        assert_eq!(args.read::<(Value, String)>().unwrap().1, "more");
        assert_eq!(args.first::<u64>(), None);
        assert_eq!(Args::default().first::<u64>(), None);
        // A single argument may be an array.
        assert_eq!(Args::from(json!([1, 2])).as_str(), "[[1,2]]");
        assert_eq!(Args::from([json!(1), json!(2)]).as_str(), "[1,2]");
        assert_eq!(Args::from(()).as_str(), "[]");
        assert_eq!(format!("{:?}", Args::from(json!("secret"))), "[10 bytes]");
    }

    #[test]
    fn arrays_are_split_behind_their_first_element() {
        for (text, first, others) in
            [("[1]", "1", ""), (" [ 1 , [2, 3] , 4 ] ", "1", "[2, 3] , 4"), (r#"["a,]","b"]"#, r#""a,]""#, r#""b""#)]
        {
            let split = Split::of(text).unwrap().unwrap();
            assert_eq!((split.first, split.others), (first, others), "{text}");
        }
        assert!(Split::of("[]").unwrap().is_none());
        for bad in ["", "{}", "[1", "[1]x", "[1,]", "[NaN]"] {
            assert!(Split::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        let deep = format!("[1,{}{}]", "[".repeat(500_000), "]".repeat(500_000));
        let split = Split::of(&deep).unwrap().unwrap();
        assert_eq!(split.others.len(), 1_000_000);
        assert_eq!(Args::inside(split.others).first::<u64>(), None);
    }
}
