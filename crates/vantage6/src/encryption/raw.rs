//! The format of messages in a blob store (`encrypt_stream` and `decrypt_bytes_blob_storage` in `common/encryption.py`, since 4.13):
//!
//! ```text
//!   base64(RSA(key)) $ base64(iv) $ AES-256-CTR(key, iv, bytes)
//! ```
//!
//! The encrypted bytes are not base64, and the length of a message need not be known in advance.

use std::io;

use aws_lc_rs::{
    cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    iv::FixedLength,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::{
    EncryptionError, PublicKey,
    encrypt::{self, IV, MessageKey},
};

/// How many bytes are encrypted at a time, which takes some microseconds.
const STEP: usize = 48 * 1024;

/// The length of a message of this many bytes after encryption.
pub(crate) fn encrypted_length(length: u64, recipient: &PublicKey) -> u64 {
    encrypt::head_length(recipient) + length
}

/// Encrypts bytes for a blob store. `recipient` is the public key of the receiving organization. When the stream is read, it waits for
/// the permit `turn` before it encrypts the message's key, and drops the permit afterwards.
///
/// # Errors
/// If the cryptographic library fails, which is not expected.
pub fn encrypt_raw<S, T>(
    bytes: S,
    recipient: &PublicKey,
    turn: T,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<S, T>, EncryptionError>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    T: Future<Output: Send + 'static> + Send + 'static,
{
    let MessageKey { key, iv } = MessageKey::random()?;
    let failed = |_| EncryptionError::Library("begin to encrypt");
    let cipher = UnboundCipherKey::new(&AES_256, &**key)
        .and_then(|key| StreamingEncryptingKey::less_safe_ctr(key, EncryptionContext::Iv128(FixedLength::from(iv))))
        .map_err(failed)?;
    let head = stream::once(encrypt::head_of(recipient.clone(), key, iv, turn));
    let begin = (Box::pin(bytes), Bytes::new(), Some(cipher));
    let body = stream::unfold(begin, |(mut bytes, mut rest, cipher)| async move {
        let mut cipher = cipher?;
        while rest.is_empty() {
            match bytes.next().await? {
                Ok(piece) => rest = piece,
                Err(error) => return Some((Err(error), (bytes, rest, None))),
            }
        }
        let step = rest.split_to(rest.len().min(STEP));
        let mut encrypted = vec![0; step.len() + IV];
        let written = cipher.update(&step, &mut encrypted).map(|update| update.written().len());
        match written {
            Ok(written) => {
                encrypted.truncate(written);
                Some((Ok(encrypted.into()), (bytes, rest, Some(cipher))))
            }
            Err(_) => {
                let error = io::Error::other("the cryptographic library could not encrypt");
                Some((Err(error), (bytes, rest, None)))
            }
        }
    });
    Ok(head.chain(body))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::encryption::{PrivateKey, decrypt_raw};

    fn pieces<E: Send + 'static>(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, E>> + Send + use<E> {
        stream::iter(bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
    }

    async fn decrypted(message: &[u8], size: usize, key: &Arc<PrivateKey>) -> Result<Vec<u8>, String> {
        let read = decrypt_raw(pieces(message, size), Arc::clone(key), std::future::ready(()));
        let pieces: Vec<Bytes> = read.try_collect().await.map_err(|error| error.to_string())?;
        Ok(pieces.concat())
    }

    /// Also bytes that look like separators, base64 and white space, which a raw message may have anywhere.
    #[tokio::test]
    async fn there_and_back_in_pieces_of_any_size() {
        let key = Arc::new(PrivateKey::generate().unwrap());
        for length in [0, 1, 15, 16, 17, 1000, STEP - 1, STEP, STEP + 1, 3 * STEP + 7] {
            let bytes: Vec<u8> = (0..length).map(|number| (number * 7 % 256) as u8).collect();
            for (size, other) in [(1000, 1), (7, 1000), (1 << 20, 1 << 20)] {
                let message = encrypt_raw(pieces(&bytes, size), key.public(), std::future::ready(())).unwrap();
                let message: Vec<Bytes> = message.try_collect().await.unwrap();
                let message = message.concat();
                assert_eq!(message.len() as u64, encrypted_length(length as u64, key.public()));
                assert!(decrypted(&message, other, &key).await.unwrap() == bytes, "{length} {size} {other}");
            }
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_breaks_the_message() {
        let key = PrivateKey::generate().unwrap();
        let broken = pieces(&[1; 100], 10).chain(stream::iter([Err(io::Error::other("gone")), Ok(Bytes::from("x"))]));
        let read: Vec<_> = encrypt_raw(broken, key.public(), std::future::ready(())).unwrap().collect().await;
        assert!(read.last().unwrap().is_err() && read.iter().filter(|piece| piece.is_err()).count() == 1);
    }

    #[tokio::test]
    async fn what_can_not_be_decrypted_is_said() {
        let [key, other] = [(); 2].map(|()| Arc::new(PrivateKey::generate().unwrap()));
        let message = encrypt_raw(pieces(b"abc", 10), other.public(), std::future::ready(())).unwrap();
        let foreign: Vec<Bytes> = message.try_collect().await.unwrap();
        let foreign = foreign.concat();
        let head = foreign.len() - 3;
        for (message, says) in [
            (&foreign[..], "its key can't be opened"),
            (&foreign[..head - 1], "it ends before its encrypted part"),
            (b"YWJj", "it is not encrypted, but this collaboration is"),
            (&[b'x'; 10_000], "it is not encrypted, but this collaboration is"),
            (b"!$!$abc", "its key is not base64"),
        ] {
            for size in [1, 100_000] {
                let error = decrypted(message, size, &key).await.unwrap_err();
                assert!(error.contains(says), "{says}: {error}");
            }
        }
        assert_eq!(decrypted(b"", 1, &key).await, Ok(vec![]), "nothing at all, as an empty input is");
    }
}
