//! What is read of a subtask before it may leave: the image that it runs and the organizations that it is for.
//!
//! The server only looks whether the image's name *ends* in that of the caller's token (`__verify_container_permissions` in
//! `server/resource/task.py` of 4.5.5 and 4.15.2), which another registry's image does, too. The algorithm tools send the token's.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::caller;
use super::refusal::Refusal;

/// The image of the caller, as its token has it.
///
/// # Errors
/// If the token has none.
pub(crate) fn image_of_the_caller(headers: &HeaderMap) -> Result<String, Refusal> {
    caller::image(headers).ok_or_else(|| {
        let message = "The token names no image, so that no subtask can be told to have the same one.";
        Refusal::new(StatusCode::FORBIDDEN, message)
    })
}

/// Only what can be read is looked through.
///
/// # Errors
/// If the task is compressed.
pub(crate) fn is_readable(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(header::CONTENT_ENCODING).iter().all(|coding| coding == "identity") {
        return Ok(());
    }
    let message = "A compressed task can't be looked through: send it as it is.";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

/// A subtask, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Subtask<'a> {
    #[serde(borrow, default)]
    image: Option<&'a RawValue>,
    /// For whom it is.
    #[serde(borrow, default)]
    pub organizations: Vec<Organization<'a>>,
}

/// An organization that is to run it.
#[derive(Debug, Deserialize)]
pub(crate) struct Organization<'a> {
    /// Its number.
    #[serde(default)]
    pub id: Option<u64>,
    /// Its input, whatever that is.
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

/// The same without its organizations: the server looks at them.
#[derive(Debug, Deserialize)]
struct WithImage<'a> {
    #[serde(borrow, default)]
    image: Option<&'a RawValue>,
}

impl<'a> Subtask<'a> {
    /// Reads a whole task.
    ///
    /// # Errors
    /// If it is none, or could be read in another way by somebody else; the text says why.
    pub fn read(text: &'a [u8]) -> Result<Self, String> {
        read(text)
    }

    /// Whether it has its caller's image.
    ///
    /// # Errors
    /// If it hasn't.
    pub fn has_image(&self, image: &str) -> Result<(), Refusal> {
        is_image(self.image, image)
    }
}

/// Reads a whole task of which only the image matters.
///
/// # Errors
/// If it is none, could be read in another way by somebody else, or hasn't its caller's image.
pub(crate) fn has_image(text: &[u8], image: &str) -> Result<(), Refusal> {
    let unreadable =
        |why| Refusal::new(StatusCode::BAD_REQUEST, format!("The task is not sent, since it can't be read: {why}."));
    is_image(read::<WithImage<'_>>(text).map_err(unreadable)?.image, image)
}

fn is_image(named: Option<&RawValue>, image: &str) -> Result<(), Refusal> {
    // Something that is no text is no image.
    let named = named.and_then(|named| serde_json::from_str::<String>(named.get()).ok());
    if named.is_some_and(|named| named == image) {
        return Ok(());
    }
    let message = "A subtask runs the image of the algorithm that creates it, and no other: `image` has to be exactly what the algorithm's \
                   token has there, as the algorithm tools send it. The task was not sent.";
    Err(Refusal::new(StatusCode::FORBIDDEN, message))
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    // In what it skips the parser does not look at this, and the server may.
    let text = str::from_utf8(text).map_err(|error| error.to_string())?;
    // The parser takes lists for objects, too; the server doesn't.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_str::<Names>(text).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// An object whose names are all written without escapes: nobody can take one of them for another.
struct Names;

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose names have no escapes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                // One with an escape can't be borrowed.
                while map.next_key::<&str>()?.is_some() {
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Names)
            }
        }
        from.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_very_image_and_no_other() {
        for (task, allowed) in [
            (r#"{"image": "i/j:1"}"#, Ok(())),
            (r#" {"a": [{"image": "x"}], "image": "i\/j:\u0031"} "#, Ok(())),
            (r#"{"image": "x/i/j:1"}"#, Err(403)),
            (r#"{"image": "i/j"}"#, Err(403)),
            (r#"{"image": "i/j:1\u0000"}"#, Err(403)),
            (r#"{"image": ["i/j:1"]}"#, Err(403)),
            (r#"{"image": "\ud800"}"#, Err(403)),
            ("{}", Err(403)),
            (r#"{"image": "i/j:1", "image": "i/j:1"}"#, Err(400)),
            (r#"{"im\u0061ge": "x", "image": "i/j:1"}"#, Err(400)),
            (r#"["i/j:1"]"#, Err(400)),
            (r#"{"image": "i/j:1"}{}"#, Err(400)),
            ("", Err(400)),
        ] {
            let got = has_image(task.as_bytes(), "i/j:1").map_err(|refusal| refusal.status.as_u16());
            assert_eq!(got, allowed, "{task}");
        }
    }
}
