//! The data port's secrets, all derived from one: the node's own, which is kept across restarts so that pods
//! made before one still trust and are trusted after it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use data_encoding::HEXLOWER;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use vantage6_types::RunId;

/// How many bytes the node's secret has.
pub const SECRET_BYTES: usize = 32;

/// The node's secret.
pub struct NodeSecret(SecretBox<[u8; SECRET_BYTES]>);

impl NodeSecret {
    /// A new one, from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has none.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = Box::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())?;
        Ok(Self(SecretBox::new(bytes)))
    }

    /// One that was kept; `None` when it has not the right length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(SecretBox::new(Box::new(bytes.try_into().ok()?))))
    }

    /// Its bytes, to be kept.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        self.0.expose_secret()
    }

    /// The key of one run, as text.
    pub fn run_key(&self, run: RunId) -> SecretString {
        SecretString::from(HEXLOWER.encode(&self.derive(&format!("run {run}"))))
    }

    /// Whether a text is the key of this run; takes the same time whatever the text is.
    pub fn opens(&self, run: RunId, key: &str) -> bool {
        verify_slices_are_equal(self.run_key(run).expose_secret().as_bytes(), key.as_bytes()).is_ok()
    }

    /// The seed of the data port's TLS key.
    pub(super) fn tls_seed(&self) -> [u8; 32] {
        self.derive("data port tls key")
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let tag = sign(&Key::new(HMAC_SHA256, self.expose()), purpose.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::data_port::keys::*;

    #[test]
    fn a_key_opens_its_own_run_alone() {
        let secret = NodeSecret::from_bytes(&[7; 32]).unwrap();
        let key = secret.run_key(RunId(1));
        assert!(secret.opens(RunId(1), key.expose_secret()));
        assert!(!secret.opens(RunId(2), key.expose_secret()));
        assert!(!secret.opens(RunId(1), ""));
        let other = NodeSecret::from_bytes(&[8; 32]).unwrap();
        assert!(!other.opens(RunId(1), key.expose_secret()));
    }

    #[test]
    fn a_kept_secret_gives_the_same_keys() {
        let secret = NodeSecret::generate().unwrap();
        let kept = NodeSecret::from_bytes(secret.expose()).unwrap();
        assert!(kept.opens(RunId(5), secret.run_key(RunId(5)).expose_secret()));
        assert!(NodeSecret::from_bytes(&[1; 31]).is_none());
    }
}
