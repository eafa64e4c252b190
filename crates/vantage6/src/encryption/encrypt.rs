//! From bytes to a message.
//!
//! AES and base64 together are slower than many a disk, so the work is done in blocks, several at once: in counter mode a block needs
//! to know nothing of the one before but where it begins.

use std::{io, sync::Arc, thread::available_parallelism};

use aws_lc_rs::{
    cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    iv::FixedLength,
    rand,
};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey};
use crate::{
    OrganizationId,
    encoding::{BASE64, Encoded, Payload},
};

/// What stands between the parts of a message.
pub(super) const SEPARATOR: u8 = b'$';
/// Bytes of a message's own key.
pub(super) const KEY: usize = 32;
/// Bytes of a message's initial counter block.
pub(super) const IV: usize = 16;

/// Bytes that are encrypted at once: whole blocks of AES and whole groups of base64.
const BLOCK: usize = 48 * 8 * 1024;
/// Bytes that go through AES and base64 one after the other: few enough to stay in the processor's nearest cache.
const STEP: usize = 12 * 1024;
/// Less than this is done where it is; more on a thread that is for work.
const LITTLE: usize = 32 * 1024;
/// Blocks in the works at once, at most; each takes about a megabyte.
const AT_ONCE: usize = 4;

/// Why nothing can be encrypted for somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// The organization has no public key at the server.
    #[error(
        "organization {0} has no public key at the server, so nothing can be encrypted for it. Its node puts one there when it starts, or its administrator does"
    )]
    NoPublicKey(OrganizationId),
    /// What the organization has there is no key.
    #[error(
        "the public key that organization {organization} has at the server can't be used: {source}. Its administrator has to put it there again"
    )]
    PublicKey {
        /// Whose key.
        organization: OrganizationId,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The cryptographic library failed.
    #[error("the cryptographic library could not {0}")]
    Library(&'static str),
}

/// Encrypts a message for the organization that has the private part of this key. Its length is known at once.
///
/// # Errors
/// If the cryptographic library fails, which it doesn't.
pub fn encrypt(message: Payload, recipient: &PublicKey) -> Result<Encoded, EncryptionError> {
    let (mut key, mut iv) = (Zeroizing::new([0; KEY]), [0; IV]);
    let random = |_| EncryptionError::Library("get random numbers");
    rand::fill(&mut *key).map_err(random)?;
    rand::fill(&mut iv).map_err(random)?;
    encrypt_with(message, recipient, key, iv)
}

fn encrypt_with(
    message: Payload,
    recipient: &PublicKey,
    key: Zeroizing<[u8; KEY]>,
    iv: [u8; IV],
) -> Result<Encoded, EncryptionError> {
    let sealed = recipient.seal(&*key).ok_or(EncryptionError::Library("encrypt a key"))?;
    let head = format!("{}${}$", BASE64.encode(sealed), BASE64.encode(iv));
    let length = head.len() as u64 + message.length().div_ceil(3) * 4;

    let key = Arc::new(key);
    let body = blocks(message.into_stream())
        .enumerate()
        .map(move |(number, block)| {
            // The counter is one large number, which begins anew behind its end.
            let counter = u128::from_be_bytes(iv).wrapping_add((number * (BLOCK / IV)) as u128);
            let key = Arc::clone(&key);
            let work = move |pieces: Vec<Bytes>| encrypt_block(&key, counter.to_be_bytes(), &pieces);
            async move {
                let pieces = block?;
                if size(&pieces) <= LITTLE {
                    return work(pieces);
                }
                tokio::task::spawn_blocking(move || work(pieces)).await.map_err(io::Error::other)?
            }
        })
        .buffered(available_parallelism().map_or(1, usize::from).min(AT_ONCE));
    Ok(Encoded(Payload::new(length, stream::iter([Ok(Bytes::from(head))]).chain(body))))
}

fn size(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// The same bytes in blocks, each in the pieces in which it came. Only the last one may be shorter.
fn blocks<S>(pieces: S) -> impl Stream<Item = io::Result<Vec<Bytes>>> + Send
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    stream::try_unfold((Box::pin(pieces), Bytes::new()), |(mut pieces, mut rest)| async move {
        let (mut block, mut missing) = (Vec::new(), BLOCK);
        while missing > 0 {
            if rest.is_empty() {
                match pieces.try_next().await? {
                    Some(piece) => rest = piece,
                    None => break,
                }
            }
            let part = rest.split_to(rest.len().min(missing));
            missing -= part.len();
            block.push(part);
        }
        Ok((!block.is_empty()).then_some((block, (pieces, rest))))
    })
}

/// Base64 of the encrypted block whose first counter this is.
fn encrypt_block(key: &[u8; KEY], counter: [u8; IV], pieces: &[Bytes]) -> io::Result<Bytes> {
    let failed = |_| io::Error::other("the cryptographic library could not encrypt");
    let key = UnboundCipherKey::new(&AES_256, key).map_err(failed)?;
    let counter = EncryptionContext::Iv128(FixedLength::from(counter));
    let mut cipher = StreamingEncryptingKey::less_safe_ctr(key, counter).map_err(failed)?;

    let mut text = vec![0; size(pieces).div_ceil(3) * 4];
    // What is encrypted, and not yet encoded.
    let (mut encrypted, mut held, mut written) = ([0; STEP + IV + 2], 0, 0);
    let mut encode = |bytes: &[u8]| {
        written += BASE64.encode_slice(bytes, &mut text[written..]).map_err(io::Error::other)?;
        io::Result::Ok(())
    };
    for step in pieces.iter().flat_map(|piece| piece.chunks(STEP)) {
        held += cipher.update(step, &mut encrypted[held..]).map_err(failed)?.written().len();
        let whole = held / 3 * 3;
        encode(&encrypted[..whole])?;
        encrypted.copy_within(whole..held, 0);
        held -= whole;
    }
    encode(&encrypted[..held])?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::encryption::{PrivateKey, decrypt};

    /// Also where blocks meet, and where the counter begins anew.
    #[tokio::test]
    async fn messages_of_several_blocks_come_back() {
        let private = Arc::new(PrivateKey::generate().unwrap());
        let bytes: Vec<u8> = (0..3 * BLOCK + 1000).map(|number: usize| (number % 251) as u8 + 4).collect();
        for iv in [[0; IV], [0xff; IV]] {
            for (length, piece) in [
                (BLOCK - 1, BLOCK),
                (BLOCK, 1000),
                (BLOCK + 1, BLOCK + 1),
                (2 * BLOCK, 7 * STEP + 5),
                (3 * BLOCK + 1000, 2 * BLOCK + 1),
                (LITTLE + 1, 1),
            ] {
                let message = &bytes[..length];
                let pieces: Vec<_> = message.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                let payload = Payload::new(length as u64, stream::iter(pieces));
                let encoded = encrypt_with(payload, private.public(), Zeroizing::new([7; KEY]), iv).unwrap();
                let text = encoded.into_stream().map_err(|error| panic!("{error}"));
                let read: Vec<Bytes> = decrypt(text, Arc::clone(&private)).try_collect().await.unwrap();
                assert!(read.concat() == message, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_breaks_the_message() {
        let key = PrivateKey::generate().unwrap();
        for given in [0, 10, BLOCK, BLOCK + 10] {
            let payload = Payload::new(2 * BLOCK as u64, stream::iter([Ok(Bytes::from(vec![1; given]))]));
            let read = encrypt(payload, key.public()).unwrap().into_stream().try_collect::<Vec<_>>().await;
            assert!(read.unwrap_err().to_string().contains("before the length that was announced"));
        }
    }
}
