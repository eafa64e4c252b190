//! Decrypts a message.

use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey},
    iv::FixedLength,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use zeroize::Zeroizing;

use super::{
    PrivateKey,
    encrypt::{IV, KEY, SEPARATOR},
    web::Layer,
};
use crate::{
    Error,
    encoding::{Base64Decoder, DecodeError, decode_text},
};

/// The most bytes of key and iv with their separator, for the largest keys that exist.
const LONGEST_HEAD: usize = 4096;

/// Decrypts a message for this key as it arrives.
///
/// White space between characters is skipped.
pub fn decrypt<S>(message: S, key: Arc<PrivateKey>) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
{
    decrypt_with_permit(message, key, std::future::ready(()))
}

/// Like [`decrypt`], but waits for the permit `turn` before decrypting the message's key, which takes some milliseconds of CPU time,
/// and drops the permit afterwards.
pub fn decrypt_with_permit<S, T>(
    message: S,
    key: Arc<PrivateKey>,
    turn: T,
) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    T: Future<Output: Send + 'static> + Send + 'static,
{
    decrypt_form(message, key, turn, Form::Text)
}

/// Decrypts a message as a blob store holds it ([`encrypt_raw`](super::encrypt_raw)) as it arrives. Waits for the permit `turn` like
/// [`decrypt_with_permit`].
pub fn decrypt_raw<S, T>(
    message: S,
    key: Arc<PrivateKey>,
    turn: T,
) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    T: Future<Output: Send + 'static> + Send + 'static,
{
    decrypt_form(message, key, turn, Form::Raw)
}

/// How a message's encrypted bytes are written.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// As base64.
    Text,
    /// As they are.
    Raw,
}

fn decrypt_form<S, T>(
    message: S,
    key: Arc<PrivateKey>,
    turn: T,
    form: Form,
) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    T: Future<Output: Send + 'static> + Send + 'static,
{
    let begin = (Box::pin(message), Stage::Head { key, text: Vec::new(), turn: Box::pin(turn), form });
    stream::unfold(begin, |(mut message, mut stage)| async move {
        loop {
            if matches!(stage, Stage::Ended) {
                return None;
            }
            let (next, result) = match message.next().await {
                Some(Ok(piece)) => stage.feed(piece).await,
                Some(Err(error)) => (Stage::Ended, Err(error.into())),
                None => (Stage::Ended, stage.finish()),
            };
            stage = next;
            match result {
                Ok(bytes) if bytes.is_empty() => {}
                other => return Some((other, (message, stage))),
            }
        }
    })
}

/// How much of a message has been read.
enum Stage<T> {
    /// Up to the second separator.
    Head {
        key: Arc<PrivateKey>,
        text: Vec<u8>,
        turn: Pin<Box<T>>,
        form: Form,
    },
    /// After the second separator.
    Body(Box<Body>),
    Ended,
}

struct Body {
    cipher: StreamingDecryptingKey,
    text: Option<Text>,
}

/// What is undone of a message that is text, before and after the cipher.
#[derive(Default)]
struct Text {
    decoder: Base64Decoder,
    layer: Layer,
}

impl<T: Future<Output: Send + 'static>> Stage<T> {
    async fn feed(self, piece: Bytes) -> (Self, Result<Bytes, DecodeError>) {
        match self {
            Self::Head { key, mut text, turn, form } => {
                let missing = 1 - text.iter().filter(|byte| **byte == SEPARATOR).count().min(1);
                let second = piece.iter().enumerate().filter(|(_, byte)| **byte == SEPARATOR).nth(missing);
                let head = second.map_or(piece.len(), |(at, _)| at);
                if text.len() + head > LONGEST_HEAD {
                    return (Self::Ended, Err(no_head(&text)));
                }
                text.extend_from_slice(&piece[..head]);
                if second.is_none() {
                    return (Self::Head { key, text, turn, form }, Ok(Bytes::new()));
                }
                match open(key, &text, turn, form).await {
                    Ok(body) => Self::Body(Box::new(body)).body(&piece[head + 1..]),
                    Err(error) => (Self::Ended, Err(error)),
                }
            }
            other => other.body(&piece),
        }
    }

    fn body(self, text: &[u8]) -> (Self, Result<Bytes, DecodeError>) {
        let Self::Body(mut body) = self else { return (self, Ok(Bytes::new())) };
        match body.feed(text) {
            Ok(bytes) => (Self::Body(body), Ok(bytes)),
            Err(error) => (Self::Ended, Err(error)),
        }
    }

    fn finish(self) -> Result<Bytes, DecodeError> {
        match self {
            Self::Head { text, .. } if text.trim_ascii().is_empty() => Ok(Bytes::new()),
            Self::Head { text, .. } => Err(no_head(&text)),
            Self::Body(mut body) => match &mut body.text {
                Some(Text { decoder, layer }) => {
                    decoder.finish().map_err(|why| damaged(format!("of its encrypted part, {why}")))?;
                    layer.finish().map_err(damaged)
                }
                None => Ok(Bytes::new()),
            },
            Self::Ended => Ok(Bytes::new()),
        }
    }
}

impl Body {
    fn feed(&mut self, piece: &[u8]) -> Result<Bytes, DecodeError> {
        let Self { cipher, text } = self;
        let mut decrypt = |encrypted: &[u8]| {
            let mut bytes = vec![0; encrypted.len() + IV];
            let written = cipher.update(encrypted, &mut bytes).map(|update| update.written().len());
            bytes.truncate(written.map_err(|_| damaged("the cryptographic library could not decrypt it"))?);
            Ok(Bytes::from(bytes))
        };
        let Some(Text { decoder, layer }) = text else { return decrypt(piece) };
        let encrypted = decoder.feed(piece).map_err(|why| damaged(format!("in its encrypted part, {why}")))?;
        layer.feed(decrypt(&encrypted)?).map_err(damaged)
    }
}

/// Parses `key$iv` and decrypts the key.
async fn open(
    key: Arc<PrivateKey>,
    head: &[u8],
    turn: impl Future<Output: Send + 'static>,
    form: Form,
) -> Result<Body, DecodeError> {
    let not_text = |what: &str| damaged(format!("its {what} is not base64"));
    let mut parts = head.splitn(2, |byte| *byte == SEPARATOR);
    let mut part = |what: &str| {
        let text = parts.next().and_then(|part| std::str::from_utf8(part).ok()).ok_or_else(|| not_text(what))?;
        decode_text(text).map_err(|_| not_text(what))
    };
    let (sealed, iv) = (part("key")?, part("iv")?);
    let iv: [u8; IV] =
        iv[..].try_into().map_err(|_| damaged(format!("its iv has {} bytes instead of {IV}", iv.len())))?;
    if sealed.len() != key.encrypted_length() {
        return Err(damaged(format!(
            "its key has {} bytes, but one for this organization's key has {}; it was encrypted for another key",
            sealed.len(),
            key.encrypted_length()
        )));
    }
    // Takes some milliseconds of CPU time, so it must not block the runtime's workers.
    let turn = turn.await;
    let open = move || {
        let _turn = turn;
        key.open(&sealed)
    };
    let opened = tokio::task::spawn_blocking(open).await.ok().flatten();
    // The error is the same for all causes: more detail would help a party that carries messages to decrypt them.
    let opened = opened.and_then(|opened| message_key(&opened)).ok_or_else(|| {
        damaged("its key can't be opened. It was encrypted for another key than this organization's present one, or is damaged")
    })?;
    let cipher = UnboundCipherKey::new(&AES_256, &*opened)
        .and_then(|key| StreamingDecryptingKey::ctr(key, DecryptionContext::Iv128(FixedLength::from(iv))))
        .map_err(|_| damaged("the cryptographic library could not begin to decrypt it"))?;
    let text = match form {
        Form::Text => Some(Text::default()),
        Form::Raw => None,
    };
    Ok(Body { cipher, text })
}

/// Extracts the message's key. The web interface encrypts the key's base64; all other clients encrypt the key itself.
fn message_key(opened: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    if opened.len() == KEY {
        key.copy_from_slice(opened);
        return Some(key);
    }
    let text = std::str::from_utf8(opened).ok()?;
    let decoded = decode_text(text).ok()?;
    (decoded.len() == KEY).then(|| {
        key.copy_from_slice(&decoded);
        key
    })
}

fn damaged(why: impl Into<String>) -> DecodeError {
    DecodeError::Undecipherable(why.into())
}

fn no_head(text: &[u8]) -> DecodeError {
    damaged(if text.contains(&SEPARATOR) {
        "it ends before its encrypted part"
    } else {
        "it is not encrypted, but this collaboration is. A client must call setup_encryption with the organization's \
         private key before it creates a task"
    })
}
