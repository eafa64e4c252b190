//! Reads the parts of a subtask that the proxy checks before it forwards it: the image and the organizations.
//!
//! The server only checks whether the image's name *ends* with the name in the caller's token (`__verify_container_permissions` in
//! `server/resource/task.py` of 4.5.5 and 4.15.2), which an image in another registry may do, too. The algorithm tools send the name from
//! the token.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::caller;
use super::refusal::Refusal;

/// Returns the caller's image as its token names it.
///
/// # Errors
/// If the token names none.
pub(crate) fn image_of_the_caller(headers: &HeaderMap) -> Result<String, Refusal> {
    caller::image(headers).ok_or_else(|| {
        let message = "The token names no image, so that no subtask can be told to have the same one.";
        Refusal::new(StatusCode::FORBIDDEN, message)
    })
}

/// Refuses a compressed task, because the proxy can't check it.
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

/// The checked parts of a subtask.
#[derive(Debug, Deserialize)]
pub(crate) struct Subtask<'a> {
    #[serde(borrow, default)]
    image: Option<&'a RawValue>,
    /// The organizations that run it.
    #[serde(borrow, default)]
    pub organizations: Vec<Organization<'a>>,
}

/// An organization that runs the subtask.
#[derive(Debug, Deserialize)]
pub(crate) struct Organization<'a> {
    #[serde(default)]
    pub id: Option<u64>,
    /// Its input, of any JSON type.
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

/// A subtask without its organizations, which the server checks.
#[derive(Debug, Deserialize)]
struct WithImage<'a> {
    #[serde(borrow, default)]
    image: Option<&'a RawValue>,
}

impl<'a> Subtask<'a> {
    /// Reads a complete task.
    ///
    /// # Errors
    /// If it is no task, or if another parser could read it differently; the text says why.
    pub fn read(text: &'a [u8]) -> Result<Self, String> {
        read(text)
    }

    /// Checks that it has this image.
    ///
    /// # Errors
    /// If it has another one.
    pub fn has_image(&self, image: &str) -> Result<(), Refusal> {
        is_image(self.image, image)
    }
}

/// Checks that a complete task has this image.
///
/// # Errors
/// If it has another one, is no task, or if another parser could read it differently.
pub(crate) fn has_image(text: &[u8], image: &str) -> Result<(), Refusal> {
    let unreadable =
        |why| Refusal::new(StatusCode::BAD_REQUEST, format!("The task is not sent, since it can't be read: {why}."));
    is_image(read::<WithImage<'_>>(text).map_err(unreadable)?.image, image)
}

fn is_image(named: Option<&RawValue>, image: &str) -> Result<(), Refusal> {
    // Anything but a string is no image.
    let named = named.and_then(|named| serde_json::from_str::<String>(named.get()).ok());
    if named.is_some_and(|named| named == image) {
        return Ok(());
    }
    let message = "A subtask runs the image of the algorithm that creates it, and no other: `image` has to be exactly what the algorithm's \
                   token has there, as the algorithm tools send it. The task was not sent.";
    Err(Refusal::new(StatusCode::FORBIDDEN, message))
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    // The JSON parser does not check the UTF-8 of values that it skips, but the server may.
    let text = str::from_utf8(text).map_err(|error| error.to_string())?;
    // Serde also accepts lists for structs; the server does not.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_str::<Names>(text).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// An object whose keys contain no escapes, so that every parser reads the same keys.
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
                // A key with an escape can't be borrowed.
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
