//! The layer of base64 that the web interface puts around the text before it encrypts it.
//!
//! Nothing says that it is there: the regular node takes it off if the text is no JSON but base64. So does [`Layer`], without
//! holding the text: base64 that is JSON as well can only be a number or a word. A text that is neither is left as it is
//! (where the regular node fails, or guesses).

use base64::Engine as _;
use bytes::{Bytes, BytesMut};

use crate::encoding::BASE64;

/// After so many characters of base64, what follows is not held any more.
const ENOUGH: usize = 64 * 1024;

/// What is known of a text so far.
pub(super) enum Layer {
    /// So far it could be base64.
    Undecided(BytesMut),
    /// It isn't.
    Absent,
    /// It is; these are characters that make no group of four yet.
    Present(BytesMut),
}

impl Default for Layer {
    fn default() -> Self {
        Self::Undecided(BytesMut::new())
    }
}

impl Layer {
    /// Takes the next piece of the text.
    pub fn feed(&mut self, piece: Bytes) -> Result<Bytes, String> {
        match self {
            Self::Absent => Ok(piece),
            Self::Undecided(text) => {
                let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
                let first = text.is_empty();
                if !piece.iter().all(is_base64) {
                    let mut text = std::mem::take(text);
                    *self = Self::Absent;
                    if first {
                        return Ok(piece);
                    }
                    text.extend_from_slice(&piece);
                    return Ok(text.freeze());
                }
                text.extend_from_slice(&piece);
                if text.len() < ENOUGH {
                    return Ok(Bytes::new());
                }
                *self = Self::Present(std::mem::take(text));
                self.feed(Bytes::new())
            }
            Self::Present(carry) => {
                carry.extend_from_slice(&piece);
                let groups = carry.split_to(carry.len() / 4 * 4);
                let wrong = |why| {
                    format!(
                        "its text begins as base64, as the web interface sends it, but goes on as something else: {why}"
                    )
                };
                BASE64.decode(groups).map(Bytes::from).map_err(wrong)
            }
        }
    }

    /// What is left when the text has ended.
    pub fn finish(&mut self) -> Result<Bytes, String> {
        match self {
            Self::Absent => Ok(Bytes::new()),
            Self::Undecided(text) => {
                let text = std::mem::take(text).freeze();
                Ok(if is_json(&text) { text } else { BASE64.decode(&text).map_or(text, Bytes::from) })
            }
            Self::Present(carry) if carry.is_empty() => Ok(Bytes::new()),
            Self::Present(_) => Err("its text is base64 that ends in the middle".into()),
        }
    }
}

/// As Python sees it.
fn is_json(text: &[u8]) -> bool {
    matches!(text, b"NaN" | b"Infinity") || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}
