//! Removes the layer of base64 that the web interface adds to a text before encrypting it.
//!
//! Nothing marks this layer. The regular node removes it if the text is not JSON but base64. [`Layer`] does the same without
//! holding the text in memory: a text that is both base64 and JSON can only be a number or a word. A text that is neither
//! is left as it is (the regular node fails or guesses).

use base64::Engine as _;
use bytes::{Bytes, BytesMut};

use crate::encoding::BASE64;

/// After this many characters of base64 the text is decoded instead of held.
const ENOUGH: usize = 64 * 1024;

/// The only message for invalid text. It gets into the run's log, which the server can read. A server that flips bits of the message
/// to see the effect must not learn which character is wrong, or where: that would reveal the text piece by piece.
const WRONG: &str = "its text begins as base64, as the web interface sends it, but does not continue as base64";

/// What is known about the text so far.
pub(super) enum Layer {
    /// The text so far, which may be base64.
    Undecided(BytesMut),
    /// The text is not base64.
    Absent,
    /// The text is base64; holds the characters of an incomplete group of four.
    Present(BytesMut),
}

impl Default for Layer {
    fn default() -> Self {
        Self::Undecided(BytesMut::new())
    }
}

impl Layer {
    /// Takes the next piece of the text.
    pub fn feed(&mut self, piece: Bytes) -> Result<Bytes, &'static str> {
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
                BASE64.decode(groups).map(Bytes::from).map_err(|_| WRONG)
            }
        }
    }

    /// Returns the rest at the end of the text.
    pub fn finish(&mut self) -> Result<Bytes, &'static str> {
        match self {
            Self::Absent => Ok(Bytes::new()),
            Self::Undecided(text) => {
                let text = std::mem::take(text).freeze();
                Ok(if is_json(&text) { text } else { BASE64.decode(&text).map_or(text, Bytes::from) })
            }
            Self::Present(carry) if carry.is_empty() => Ok(Bytes::new()),
            Self::Present(_) => Err(WRONG),
        }
    }
}

/// Returns whether Python would parse the text as JSON.
fn is_json(text: &[u8]) -> bool {
    matches!(text, b"NaN" | b"Infinity") || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
        let (mut layer, mut all) = (Layer::default(), Vec::new());
        for piece in text.chunks(size) {
            all.extend_from_slice(&layer.feed(Bytes::copy_from_slice(piece))?);
        }
        all.extend_from_slice(&layer.finish()?);
        Ok(all)
    }

    /// A party that flips bits of a message in transit must not learn the text at that position from a log.
    #[test]
    fn what_is_wrong_with_a_text_says_nothing_of_it() {
        let text = BASE64.encode(vec![7; 60_000]).into_bytes();
        for size in [1, 4, 1_000, 70_000] {
            assert_eq!(read(&text, size).unwrap(), [7; 60_000]);
            // Truncated texts.
            for length in [text.len() - 1, text.len() - 2, text.len() - 3] {
                assert_eq!(read(&text[..length], size), Err(WRONG));
            }
        }
        for at in [ENOUGH + 5_000, ENOUGH + 5_001, text.len() - 2, text.len() - 1] {
            for byte in [b'!', b'=', b'{', 0, 0xff] {
                let mut text = text.clone();
                text[at] = byte;
                for size in [1, 4, 1_000] {
                    match read(&text, size) {
                        Err(why) => assert_eq!(why, WRONG),
                        // Padding is valid at the end.
                        Ok(_) => assert!(byte == b'=' && at >= text.len() - 2, "{byte} at {at}"),
                    }
                }
            }
        }
    }
}
