//! An organization's key pair.

use std::fmt;

use aws_lc_rs::{
    digest,
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeySize, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::pem;

/// Why a key is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

fn error<T>(why: impl Into<String>) -> Result<T, KeyError> {
    Err(KeyError(why.into()))
}

/// An RSA private key. The library wipes its memory.
pub struct PrivateKey {
    key: PrivateDecryptingKey,
    opener: Pkcs1PrivateDecryptingKey,
    public: PublicKey,
}

impl PrivateKey {
    /// Reads a PEM file: PKCS#1 or PKCS#8, without a password.
    ///
    /// # Errors
    /// The file is anything else.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let Some((label, der)) = pem::block(text, "PRIVATE KEY") else {
            let public = pem::block(text, "PUBLIC KEY").is_some();
            return error(if public { "it holds a public key, not a private one" } else { "it is not a PEM file" });
        };
        if label.starts_with("ENCRYPTED") {
            return error("it is protected by a password; vantage6 needs it without one");
        }
        let der = der.or_else(|why| error(format!("its block {label} can't be read: {why}")))?;
        match label.as_str() {
            "RSA PRIVATE KEY" => Self::from_pkcs8(&pem::to_pkcs8(&der)),
            "PRIVATE KEY" => Self::from_pkcs8(&der),
            other => error(format!("it holds another kind of key ({other}); vantage6 needs an RSA key")),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let rejected = |why| KeyError(format!("it is not an RSA key of 2048 to 8192 bits ({why})"));
        Self::new(PrivateDecryptingKey::from_pkcs8(der).map_err(|why| rejected(why.to_string()))?)
    }

    fn new(key: PrivateDecryptingKey) -> Result<Self, KeyError> {
        let unusable = |_| KeyError("the cryptographic library does not accept it".into());
        Ok(Self {
            opener: Pkcs1PrivateDecryptingKey::new(key.clone()).map_err(unusable)?,
            public: PublicKey::new(key.public_key())?,
            key,
        })
    }

    /// Generates a key of 4096 bits, as vantage6 does. Takes about a second.
    ///
    /// # Errors
    /// The machine provides no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let failed = |_| KeyError("no key could be created: the machine provides no random numbers".into());
        Self::new(PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(failed)?)
    }

    /// Encodes the key as a PEM text (PKCS#1, as vantage6's own tools write it).
    ///
    /// # Errors
    /// The cryptographic library fails, which is not expected.
    pub fn to_pem(&self) -> Result<SecretString, KeyError> {
        let der: Pkcs8V1Der<'_> = self.key.as_der().or_else(|_| error("the key can't be encoded"))?;
        let Some(pkcs1) = pem::to_pkcs1(der.as_ref()) else {
            return error("the key can't be encoded as PKCS#1");
        };
        // Copied into a secret of the exact length, so that no spare capacity with key material remains.
        Ok(SecretString::from(pem::text("RSA PRIVATE KEY", pkcs1).as_str()))
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The length in bytes of a message's key that is encrypted for this one.
    pub(super) fn encrypted_length(&self) -> usize {
        self.key.key_size_bytes()
    }

    /// Decrypts data that was encrypted with the public key. `None` if that fails, for whatever reason.
    pub(super) fn open(&self, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut opened = Zeroizing::new(vec![0; self.opener.min_output_size()]);
        let length = self.opener.decrypt(encrypted, &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public)
    }
}

/// An RSA public key, as the server stores it for an organization.
#[derive(Clone)]
pub struct PublicKey {
    key: PublicEncryptingKey,
    /// SubjectPublicKeyInfo.
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads an organization's `public_key`: base64 of a PEM.
    ///
    /// # Errors
    /// The text is anything else.
    pub fn from_server(text: &str) -> Result<Self, KeyError> {
        let compact: String = text.split_ascii_whitespace().collect();
        let Ok(pem) = STANDARD.decode(compact) else {
            return error("it is not base64");
        };
        let Some((label, der)) = pem::block(&pem, "PUBLIC KEY") else {
            return error("it is not the PEM of a public key");
        };
        if label != "PUBLIC KEY" {
            return error(format!("it is a key in another form ({label}); vantage6 needs PUBLIC KEY"));
        }
        let der = der.or_else(|why| error(format!("its PEM can't be read: {why}")))?;
        match PublicEncryptingKey::from_der(&der) {
            Ok(key) => Self::new(key),
            Err(why) => error(format!("it is not an RSA key of 2048 to 8192 bits ({why})")),
        }
    }

    fn new(key: PublicEncryptingKey) -> Result<Self, KeyError> {
        let der: PublicKeyX509Der<'_> = key.as_der().or_else(|_| error("the public key can't be encoded"))?;
        let der = der.as_ref().to_vec();
        Ok(Self { key, der })
    }

    /// Encodes the key as the server stores it, byte for byte as vantage6 does: clients compare it as text, and upload their
    /// own if it differs.
    pub fn to_server(&self) -> String {
        STANDARD.encode(self.to_pem())
    }

    /// Encodes the key as a PEM text.
    pub fn to_pem(&self) -> String {
        pem::text("PUBLIC KEY", &self.der).to_string()
    }

    /// A short identifier for comparing keys: SHA-256 of the DER form, as `openssl pkey -pubout -outform der | sha256sum` prints.
    pub fn fingerprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.der);
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key's length in bits.
    pub fn bits(&self) -> usize {
        self.key.key_size_bits()
    }

    /// The length in bytes of data that was encrypted with this key.
    pub(crate) fn encrypted_length(&self) -> usize {
        self.key.key_size_bytes()
    }

    /// Encrypts a short secret for the holder of the private key.
    pub(crate) fn seal(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let key = Pkcs1PublicEncryptingKey::new(self.key.clone()).ok()?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let length = key.encrypt(secret, &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}
