//! From bytes to a message.

use aws_lc_rs::{
    cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    iv::FixedLength,
    rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey};
use crate::{
    OrganizationId,
    encoding::{Encoded, Payload, encode},
};

/// What stands between the parts of a message.
pub(super) const SEPARATOR: u8 = b'$';
/// Bytes of a message's own key.
pub(super) const KEY: usize = 32;
/// Bytes of a message's initial counter block.
pub(super) const IV: usize = 16;

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
    encrypt_with(message, recipient, &key, iv)
}

fn encrypt_with(
    message: Payload,
    recipient: &PublicKey,
    key: &[u8; KEY],
    iv: [u8; IV],
) -> Result<Encoded, EncryptionError> {
    let sealed = recipient.seal(key).ok_or(EncryptionError::Library("encrypt a key"))?;
    let head = format!("{}${}$", STANDARD.encode(sealed), STANDARD.encode(iv));
    let begin = UnboundCipherKey::new(&AES_256, key)
        .and_then(|key| StreamingEncryptingKey::less_safe_ctr(key, EncryptionContext::Iv128(FixedLength::from(iv))));
    let mut cipher = begin.map_err(|_| EncryptionError::Library("begin to encrypt"))?;

    let length = message.length();
    let encrypted = message.into_stream().map(move |piece| {
        let piece = piece?;
        let mut encrypted = vec![0; piece.len() + IV];
        let written = cipher.update(&piece, &mut encrypted).map(|update| update.written().len());
        encrypted.truncate(written.map_err(|_| std::io::Error::other("the cryptographic library could not encrypt"))?);
        Ok(Bytes::from(encrypted))
    });
    let Encoded(body) = encode(Payload::new(length, encrypted));
    let length = head.len() as u64 + body.length();
    Ok(Encoded(Payload::new(length, stream::iter([Ok(Bytes::from(head))]).chain(body.into_stream()))))
}
