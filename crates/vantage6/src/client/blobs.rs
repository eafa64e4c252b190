//! The server's blob store (since 4.13; `server/resource/blobstream.py`): the inputs and results of a run with `blob_storage_used` are
//! there, and the run has only their ids.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;

use super::Client;
use crate::{
    Error,
    encoding::Encoded,
    encryption::EncodedBlob,
    http::{Answer, Call},
    upload::{Framing, UploadBody},
};

const OCTETS: &str = "application/octet-stream";

/// The id of something in the blob store: a UUID, as servers write it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlobId(String);

/// A text is no [`BlobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not the id of a blob")]
pub struct NoBlobId;

impl BlobId {
    /// The length of an id in characters.
    pub const LENGTH: usize = 36;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobId {
    type Err = NoBlobId;

    fn from_str(text: &str) -> Result<Self, NoBlobId> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        let is_one = text.len() == Self::LENGTH && text.bytes().enumerate().all(fits);
        if is_one { Ok(Self(text.to_owned())) } else { Err(NoBlobId) }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({})", self.0)
    }
}

impl From<&BlobId> for Encoded {
    /// The result of a run whose bytes are in the blob store.
    fn from(id: &BlobId) -> Self {
        Self(Bytes::from(id.0.clone()).into())
    }
}

/// What a run has as its input.
pub enum InputKind<S> {
    /// The encoded input itself.
    Text(S),
    /// Its id in the blob store.
    Blob(BlobId),
}

impl InputKind<()> {
    /// Tells which one it is. No encoded input looks like an id: base64 has no `-`.
    ///
    /// # Errors
    /// The input could not be read.
    pub async fn of<S>(
        input: S,
    ) -> Result<InputKind<impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<S>>, Error>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        let (mut input, mut begins) = (Box::pin(input.fuse()), Vec::new());
        let mut length = 0;
        while length <= BlobId::LENGTH {
            match input.next().await.transpose()? {
                Some(piece) => {
                    length += piece.len();
                    begins.push(piece);
                }
                None => {
                    let text = begins.concat();
                    match std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) {
                        Some(id) => return Ok(InputKind::Blob(id)),
                        None => break,
                    }
                }
            }
        }
        Ok(InputKind::Text(stream::iter(begins.into_iter().map(Ok)).chain(input)))
    }
}

impl Client {
    /// Streams what the blob store has under an id, still encoded; see [`crate::encryption::Cryptor::decode_blob`]. An error after the
    /// beginning of the stream is not retried here.
    pub async fn blob(&self, id: &BlobId) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + 'static, Error> {
        let call = Call::get(format!("blobstream/{id}"));
        let mut tries = self.inner.backoff.begin();
        let answer = loop {
            match self.send_authenticated(&call).await {
                Ok(answer) => break answer,
                Err(error) => tries.wait_or_fail(error).await?,
            }
        };
        let pieces = stream::try_unfold(answer, |mut answer: Answer| async move {
            Ok(answer.chunk().await?.map(|piece| (piece, answer)))
        });
        Ok(pieces)
    }

    /// Stores a message in the blob store.
    ///
    /// The request is sent once, because the stream is used up. After an error the server may have stored it under an id that nobody
    /// knows.
    pub async fn store_blob(&self, message: EncodedBlob) -> Result<BlobId, Error> {
        #[derive(Deserialize)]
        struct Stored {
            uuid: String,
        }
        let call = Call::post("blobstream");
        let body = UploadBody {
            content_type: OCTETS,
            framing: Framing::Chunks,
            length: message.0.length(),
            pieces: message.0.into_stream().boxed(),
        };
        let answer = self.send_once(&call, body).await?;
        let Stored { uuid } = answer.json(self.inner.transport.limit).await?;
        uuid.parse().map_err(|problem: NoBlobId| Error::Unreadable {
            request: call.to_string(),
            problem: problem.to_string(),
            excerpt: crate::error::excerpt(uuid.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";

    #[test]
    fn ids_are_written_in_one_way() {
        assert_eq!(ID.parse::<BlobId>().unwrap().as_str(), ID);
        for text in [
            "",
            "8c7e2f0a5f364a449a450d5a7d1b2c3d",
            "8C7E2F0A-5F36-4A44-9A45-0D5A7D1B2C3D",
            "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3",
            "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d ",
            "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3g",
            "8c7e2f0a05f36-4a44-9a45-0d5a7d1b2c3d",
            "../../../../../../../../../../../../",
        ] {
            assert_eq!(text.parse::<BlobId>(), Err(NoBlobId), "{text}");
        }
    }

    #[tokio::test]
    async fn an_id_is_told_from_an_input_in_pieces_of_any_size() {
        for (text, is_blob) in [
            (ID.to_owned(), true),
            (String::new(), false),
            ("YWJj".to_owned(), false),
            ("a".repeat(36), false),
            ("a".repeat(1000), false),
            (format!("{ID}{ID}"), false),
            (format!("{ID}="), false),
        ] {
            for size in [1, 36, 37, 10_000] {
                let pieces: Vec<_> =
                    text.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                match InputKind::of(stream::iter(pieces)).await.unwrap() {
                    InputKind::Blob(id) => assert!(is_blob && id.as_str() == text, "{text}"),
                    InputKind::Text(rest) => {
                        let rest: Vec<Bytes> = rest.map(Result::unwrap).collect().await;
                        assert!(!is_blob && rest.concat() == text.as_bytes(), "{text}");
                    }
                }
            }
        }
    }
}
