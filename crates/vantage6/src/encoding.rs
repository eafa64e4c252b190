//! The encoding of inputs and results in a collaboration without encryption: base64 of the bytes (`DummyCryptor` in
//! `common/encryption.py`).
//!
//! Encoding and decoding are streams, so that nothing large is held in memory. The length of an [`Encoded`] is known before
//! its first byte, because the server (or something in front of it) requires it. [`crate::encryption`] has the same shapes.

use std::{fmt, io, pin::Pin, sync::LazyLock};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurposeConfig, simd::Simd},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};

use crate::Error;

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A stream of bytes whose length is known in advance.
pub struct Payload {
    length: u64,
    pieces: Pieces,
}

impl Payload {
    /// The stream must yield exactly `length` bytes; fewer or more are an error when it is read.
    pub fn new(length: u64, pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { length, pieces: Box::pin(pieces) }
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the bytes. A stream that is too short or too long ends with an error.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let counted = |(pieces, left): (Pieces, u64)| async move {
            let mut pieces = pieces;
            let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
            loop {
                return match pieces.next().await {
                    Some(Ok(piece)) if piece.is_empty() => continue,
                    Some(Ok(piece)) => match left.checked_sub(piece.len() as u64) {
                        Some(left) => Ok(Some((piece, (pieces, left)))),
                        None => Err(wrong("it is longer than announced")),
                    },
                    Some(Err(error)) => Err(error),
                    None if left > 0 => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("it ended {left} bytes before the announced length"),
                    )),
                    None => Ok(None),
                };
            }
        };
        stream::try_unfold((self.pieces, self.length), counted)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes.len() as u64, stream::iter([Ok(bytes)]))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.length)
    }
}

/// An encoded input or result: ASCII text that needs no escapes in JSON.
#[derive(Debug)]
pub struct Encoded(pub(crate) Payload);

impl Encoded {
    /// The length in characters.
    pub fn length(&self) -> u64 {
        self.0.length()
    }

    /// Returns the characters.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.0.into_stream()
    }
}

/// Encodes a message for a collaboration without encryption.
pub fn encode(result: Payload) -> Encoded {
    let length = result.length().div_ceil(3) * 4;
    Encoded(Payload::new(length, encode_pieces(result.into_stream())))
}

/// Encodes a message of unknown length as it arrives.
pub fn encode_pieces<S>(pieces: S) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    stream::unfold((Box::pin(pieces), Base64Encoder::default(), false), |(mut pieces, mut encoder, done)| async move {
        if done {
            return None;
        }
        loop {
            let (text, done) = match pieces.next().await {
                Some(Ok(piece)) => (encoder.feed(&piece), false),
                Some(Err(error)) => return Some((Err(error), (pieces, encoder, true))),
                None => (encoder.finish(), true),
            };
            match text {
                text if !text.is_empty() => return Some((Ok(text), (pieces, encoder, done))),
                _ if done => return None,
                _ => {}
            }
        }
    })
}

/// Why a message can't be decoded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// It could not be received.
    #[error(transparent)]
    Transfer(#[from] Error),
    /// It is not base64.
    #[error(
        "the input is not base64: {0}. Is the collaboration encrypted, or was the task created without a vantage6 client?"
    )]
    NotBase64(String),
    /// It can't be decrypted.
    #[error("the message can't be decrypted: {0}")]
    Undecipherable(String),
}

/// Decodes a message of a collaboration without encryption.
///
/// White space is skipped. (Python's `b64decode` skips all characters outside of the alphabet, which would hide damage.)
pub fn decode<S>(input: S) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    stream::unfold((Box::pin(input), Base64Decoder::default(), false), |(mut input, mut decoder, done)| async move {
        if done {
            return None;
        }
        loop {
            let (result, done) = match input.next().await {
                Some(Ok(piece)) => (decoder.feed(&piece).map_err(DecodeError::NotBase64), false),
                Some(Err(error)) => (Err(error.into()), true),
                None => (decoder.finish().map(|()| Bytes::new()).map_err(DecodeError::NotBase64), true),
            };
            match result {
                Ok(bytes) if bytes.is_empty() && done => return None,
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some((Ok(bytes), (input, decoder, done))),
                Err(error) => return Some((Err(error), (input, decoder, true))),
            }
        }
    })
}

/// Decodes a message that is in memory.
pub fn decode_text(input: &str) -> Result<Bytes, DecodeError> {
    let mut decoder = Base64Decoder::default();
    let bytes = decoder.feed(input.as_bytes()).and_then(|bytes| decoder.finish().map(|()| bytes));
    bytes.map_err(DecodeError::NotBase64)
}

/// Base64 with the fastest implementation for this processor. It decodes as Python does: the unused bits of the last
/// character may have any value, but padding is required.
pub(crate) static BASE64: LazyLock<Simd> = LazyLock::new(|| {
    Simd::standard(
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
    )
});

/// Encodes bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct Base64Encoder {
    /// Bytes of an incomplete group of three.
    carry: BytesMut,
}

impl Base64Encoder {
    /// Takes the next piece and returns the characters that it completes.
    pub fn feed(&mut self, bytes: &[u8]) -> Bytes {
        self.carry.extend_from_slice(bytes);
        let whole = self.carry.split_to(self.carry.len() / 3 * 3);
        BASE64.encode(whole).into()
    }

    /// Returns the last characters, with padding.
    pub fn finish(&mut self) -> Bytes {
        BASE64.encode(self.carry.split()).into()
    }
}

/// Decodes base64 that arrives in pieces of any size.
#[derive(Debug, Default)]
pub struct Base64Decoder {
    /// Characters of an incomplete group of four.
    carry: Vec<u8>,
    /// The number of characters so far, for messages.
    position: u64,
    ended: bool,
}

impl Base64Decoder {
    /// Takes the next piece of text and returns the bytes that it completes.
    ///
    /// # Errors
    /// The piece has something that is not base64; the error names it and its position.
    pub fn feed(&mut self, text: &[u8]) -> Result<Bytes, String> {
        let mut bytes = Vec::with_capacity((self.carry.len() + text.len()).div_ceil(4) * 3);
        // Checks the rest of an incomplete group byte by byte, then decodes the bulk unchecked, then checks the end byte by byte.
        let (begun, rest) = text.split_at(text.len().min((4 - self.carry.len()) % 4));
        self.look(begun, &mut bytes)?;
        let (plain, rest) = rest.split_at(rest.len().saturating_sub(4) / 4 * 4);
        let known = bytes.len();
        let in_between = self.carry.is_empty() && !self.ended && plain.last() != Some(&b'=');
        if !in_between || BASE64.decode_vec(plain, &mut bytes).is_err() {
            bytes.truncate(known);
            self.look(plain, &mut bytes)?;
        } else {
            self.position += plain.len() as u64;
        }
        self.look(rest, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Takes characters byte by byte; they may be white space or padding, or be invalid.
    fn look(&mut self, text: &[u8], bytes: &mut Vec<u8>) -> Result<(), String> {
        let mut groups = std::mem::take(&mut self.carry);
        groups.reserve(text.len());
        for &byte in text {
            self.position += 1;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => {}
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' if !self.ended => {
                    groups.push(byte);
                    // Padding ends the last group.
                    self.ended = byte == b'=' && groups.len().is_multiple_of(4);
                }
                _ if self.ended => {
                    return Err(format!("there is text after its end, at character {}", self.position));
                }
                _ => return Err(format!("character {} is {:?}", self.position, char::from(byte))),
            }
        }
        self.carry = groups.split_off(groups.len() / 4 * 4);
        let wrong = |error| format!("before character {}: {error}", self.position);
        BASE64.decode_vec(groups, bytes).map_err(wrong)
    }

    /// Ends the text.
    ///
    /// # Errors
    /// The text ends in the middle of a group.
    pub fn finish(&mut self) -> Result<(), String> {
        if self.carry.is_empty() {
            Ok(())
        } else {
            Err(format!("it ends in the middle, after {} characters", self.position))
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use proptest::prelude::*;

    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn pieces<E: Send + 'static>(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, E>> + Send + use<E> {
        stream::iter(bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
    }

    fn collect<E>(stream: impl Stream<Item = Result<Bytes, E>>) -> Result<Vec<u8>, E> {
        wait(stream.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        }))
    }

    proptest! {
        #[test]
        fn there_and_back_in_pieces_of_any_size(bytes: Vec<u8>, size in 1usize..50, other_size in 1usize..50) {
            let encoded = encode(Payload::new(bytes.len() as u64, pieces(&bytes, size)));
            let length = encoded.length();
            let text = collect(encoded.0.into_stream()).unwrap();
            prop_assert_eq!(text.len() as u64, length);
            prop_assert_eq!(String::from_utf8_lossy(&text), STANDARD.encode(&bytes));
            prop_assert_eq!(collect(decode(pieces(&text, other_size))).unwrap(), bytes.clone());
            let broken_lines: Vec<u8> = text.chunks(7).flat_map(|line| [line, b"\r\n ".as_slice()].concat()).collect();
            prop_assert_eq!(collect(decode(pieces(&broken_lines, other_size))).unwrap(), bytes);
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, size in 1usize..50) {
            let _ = collect(decode(pieces(&bytes, size)));
        }
    }

    #[test]
    fn what_is_not_base64_is_said() {
        for (text, problem) in [
            ("YWJj!", "character 5 is '!'"),
            ("YWJ", "ends in the middle, after 3"),
            ("YW==YW==", "after its end, at character 5"),
            ("Y===", "before character 4"),
            ("a2V5$aXY=$bWVzc2FnZQ==", "character 5 is '$'"),
            ("=", "ends in the middle"),
        ] {
            for size in [1, 3, 100] {
                let error = collect(decode(pieces(text.as_bytes(), size))).unwrap_err().to_string();
                assert!(error.contains(problem), "{text}: {error}");
            }
            assert!(decode_text(text).is_err());
        }
        assert_eq!(decode_text("").unwrap(), "");
        assert_eq!(decode_text("YWJj\n").unwrap(), "abc");
    }

    #[test]
    fn a_stream_of_another_length_than_announced_is_an_error() {
        for (announced, given, problem) in
            [(5u64, 4usize, "ended 1 bytes before"), (3, 4, "longer than announced"), (0, 1, "longer than")]
        {
            let payload = Payload::new(announced, pieces(&vec![7; given], 2));
            let error = collect(encode(payload).0.into_stream()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
