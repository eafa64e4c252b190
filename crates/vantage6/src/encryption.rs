//! End-to-end encryption between organizations, as `RSACryptor` in `common/encryption.py` does it.
//!
//! ```text
//!   message:  base64(RSA(key)) $ base64(iv) $ base64(AES-256-CTR(key, iv, bytes))
//! ```
//!
//! Every message has a fresh key and iv. The key is encrypted with PKCS#1 v1.5 for the organization that is to read it. Both
//! ways are streams, as in [`crate::encoding`]. [`Cryptor`] and [`Recipient`] are either encrypted or not, so that their
//! users need only one way.
//!
//! What this scheme does not give: it keeps a secret, but it has no signature. Whoever carries a message can change or
//! replace it, and only what reads the bytes afterwards may notice.

mod decrypt;
mod encrypt;
mod keys;
mod pem;
mod web;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future::Either, stream};

pub use self::{
    decrypt::{decrypt, decrypt_with_permit},
    encrypt::{EncryptionError, encrypt, encrypt_with_permit},
    keys::{KeyError, PrivateKey, PublicKey},
};
use crate::{
    Error, Organization,
    encoding::{self, DecodeError, Encoded, Payload},
};

/// How one organization reads what is sent to it.
#[derive(Debug, Clone)]
pub enum Cryptor {
    /// In a collaboration that isn't encrypted.
    Plain,
    /// In an encrypted one: with its private key.
    Encrypted(Arc<PrivateKey>),
}

impl Cryptor {
    /// Whether messages are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted(_))
    }

    /// The bytes of a message as it arrives.
    pub fn decode<S>(&self, message: S) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static + use<S>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        match self {
            Self::Plain => Either::Left(encoding::decode(message)),
            Self::Encrypted(key) => Either::Right(decrypt(message, Arc::clone(key))),
        }
    }

    /// The bytes of a message that is at hand.
    ///
    /// # Errors
    /// If it is damaged, or not meant for this organization.
    pub async fn decode_text(&self, message: &str) -> Result<Bytes, DecodeError> {
        let message = Bytes::copy_from_slice(message.as_bytes());
        let bytes: Vec<_> = self.decode(stream::iter([Ok(message)])).boxed().try_collect().await?;
        Ok(bytes.concat().into())
    }
}

/// Whom a message is for.
#[derive(Debug, Clone)]
pub enum Recipient {
    /// Whoever is in the collaboration, which isn't encrypted.
    Plain,
    /// The organization that has this key's private part.
    Key(PublicKey),
}

impl Recipient {
    /// An organization of an encrypted collaboration.
    ///
    /// # Errors
    /// If the server has no usable public key of it.
    pub fn organization(organization: &Organization) -> Result<Self, EncryptionError> {
        let wrong = |source| EncryptionError::PublicKey { organization: organization.id, source };
        let key = organization.public_key.as_deref().ok_or(EncryptionError::NoPublicKey(organization.id))?;
        PublicKey::from_server(key).map(Self::Key).map_err(wrong)
    }

    /// A message in the form in which it goes to the server.
    ///
    /// # Errors
    /// If the cryptographic library fails, which it doesn't.
    pub fn encode(&self, message: Payload) -> Result<Encoded, EncryptionError> {
        match self {
            Self::Plain => Ok(encoding::encode(message)),
            Self::Key(key) => encrypt(message, key),
        }
    }
}
