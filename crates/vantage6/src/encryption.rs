//! End-to-end encryption between organizations, as `RSACryptor` in `common/encryption.py` does it.
//!
//! ```text
//!   message:  base64(RSA(key)) $ base64(iv) $ base64(AES-256-CTR(key, iv, bytes))
//! ```
//!
//! Each message has a new key and iv. The key is encrypted with PKCS#1 v1.5 for the receiving organization. Encryption and
//! decryption are streams, as in [`crate::encoding`]. [`Cryptor`] and [`Recipient`] also have a variant for collaborations
//! without encryption, so their users need only one code path.
//!
//! In a server's blob store (since 4.13) the last part is the encrypted bytes themselves ([`encrypt_raw`]).
//!
//! The scheme provides secrecy, but no signature. Any party that carries a message can change or replace it, and only the
//! reader of the decrypted bytes may notice.

mod decrypt;
mod encrypt;
mod keys;
mod pem;
mod raw;
mod web;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future::Either, stream};

pub use self::{
    decrypt::{decrypt, decrypt_raw, decrypt_with_permit},
    encrypt::{EncryptionError, encrypt, encrypt_with_permit},
    keys::{KeyError, PrivateKey, PublicKey},
    raw::encrypt_raw,
};
use crate::{
    Error, Organization,
    encoding::{self, DecodeError, Encoded, Payload},
};

/// How one organization decodes the messages for it.
#[derive(Debug, Clone)]
pub enum Cryptor {
    /// In a collaboration without encryption.
    Plain,
    /// In an encrypted collaboration, with the organization's private key.
    Encrypted(Arc<PrivateKey>),
}

impl Cryptor {
    /// Whether messages are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted(_))
    }

    /// Decodes a message as it arrives.
    pub fn decode<S>(&self, message: S) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static + use<S>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        match self {
            Self::Plain => Either::Left(encoding::decode(message)),
            Self::Encrypted(key) => Either::Right(decrypt(message, Arc::clone(key))),
        }
    }

    /// Decodes a message of the server's blob store as it arrives: base64, or encrypted bytes ([`encrypt_raw`]).
    pub fn decode_blob<S>(&self, message: S) -> impl Stream<Item = Result<Bytes, DecodeError>> + Send + 'static + use<S>
    where
        S: Stream<Item = Result<Bytes, Error>> + Send + 'static,
    {
        match self {
            Self::Plain => Either::Left(encoding::decode(message)),
            Self::Encrypted(key) => Either::Right(decrypt_raw(message, Arc::clone(key), std::future::ready(()))),
        }
    }

    /// Decodes a message that is in memory.
    ///
    /// # Errors
    /// The message is damaged, or is meant for another organization.
    pub async fn decode_text(&self, message: &str) -> Result<Bytes, DecodeError> {
        let message = Bytes::copy_from_slice(message.as_bytes());
        let bytes: Vec<_> = self.decode(stream::iter([Ok(message)])).boxed().try_collect().await?;
        Ok(bytes.concat().into())
    }
}

/// The recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// Any member of a collaboration without encryption.
    Plain,
    /// The organization that holds the private key of this public key.
    Key(PublicKey),
}

impl Recipient {
    /// An organization of an encrypted collaboration.
    ///
    /// # Errors
    /// The server has no usable public key of the organization.
    pub fn organization(organization: &Organization) -> Result<Self, EncryptionError> {
        let wrong = |source| EncryptionError::PublicKey { organization: organization.id, source };
        let key = organization.public_key.as_deref().ok_or(EncryptionError::NoPublicKey(organization.id))?;
        PublicKey::from_server(key).map(Self::Key).map_err(wrong)
    }

    /// Encodes a message as the server expects it.
    ///
    /// # Errors
    /// The cryptographic library fails, which is not expected.
    pub fn encode(&self, message: Payload) -> Result<Encoded, EncryptionError> {
        match self {
            Self::Plain => Ok(encoding::encode(message)),
            Self::Key(key) => encrypt(message, key),
        }
    }
    /// Encodes a message as the server's blob store holds it.
    ///
    /// # Errors
    /// The cryptographic library fails, which is not expected.
    pub fn encode_blob(&self, message: Payload) -> Result<EncodedBlob, EncryptionError> {
        let length = message.length();
        Ok(EncodedBlob(match self {
            Self::Plain => encoding::encode(message).0,
            Self::Key(key) => {
                let encrypted = raw::encrypt_raw(message.into_stream(), key, std::future::ready(()))?;
                Payload::new(raw::encrypted_length(length, key), encrypted)
            }
        }))
    }
}

/// A message as the server's blob store holds it. It is not text, and no part of a JSON text.
#[derive(Debug)]
pub struct EncodedBlob(pub(crate) Payload);
