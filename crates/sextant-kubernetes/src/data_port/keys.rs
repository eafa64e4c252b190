//! The data port's secrets. All derive from the node's own secret, which is kept across restarts so that pods
//! that were created before a restart still trust the node, and the node still trusts them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use data_encoding::HEXLOWER;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use vantage6_types::RunId;

/// The length of the node's secret in bytes.
pub const SECRET_BYTES: usize = 32;

/// What a run's key is derived from, in addition to the run's ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOf {
    /// The uid of the run's Job, so that the key of an earlier launch, or of an earlier run with the same ID, is not valid.
    Job(String),
    /// Nothing: for running Jobs that were created before keys were derived from a uid.
    Run,
}

/// The node's secret, from which all keys derive.
pub struct NodeSecret(SecretBox<[u8; SECRET_BYTES]>);

impl NodeSecret {
    /// Creates a new secret from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has no random numbers.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = Box::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())?;
        Ok(Self(SecretBox::new(bytes)))
    }

    /// Restores a stored secret; `None` if its length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(SecretBox::new(Box::new(bytes.try_into().ok()?))))
    }

    /// The secret's bytes, for storing it.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        self.0.expose_secret()
    }

    /// The key of a run, as text.
    pub fn run_key(&self, run: RunId, of: &KeyOf) -> SecretString {
        let purpose = match of {
            KeyOf::Job(uid) => format!("run {run} of the job {uid}"),
            KeyOf::Run => format!("run {run}"),
        };
        SecretString::from(HEXLOWER.encode(&self.derive(&purpose)))
    }

    /// Whether `key` is the key of this run. The comparison takes constant time.
    pub fn opens(&self, run: RunId, of: &KeyOf, key: &str) -> bool {
        verify_slices_are_equal(self.run_key(run, of).expose_secret().as_bytes(), key.as_bytes()).is_ok()
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
    use super::*;

    #[test]
    fn a_key_opens_its_own_run_alone() {
        let secret = NodeSecret::from_bytes(&[7; 32]).unwrap();
        let other = NodeSecret::from_bytes(&[8; 32]).unwrap();
        let all = [KeyOf::Run, KeyOf::Job("a".into()), KeyOf::Job("b".into()), KeyOf::Job(String::new())];
        for own in &all {
            let key = secret.run_key(RunId(1), own);
            for of in &all {
                assert_eq!(secret.opens(RunId(1), of, key.expose_secret()), of == own, "{own:?} {of:?}");
            }
            assert!(!secret.opens(RunId(2), own, key.expose_secret()));
            assert!(!secret.opens(RunId(1), own, ""));
            assert!(!other.opens(RunId(1), own, key.expose_secret()));
        }
    }

    #[test]
    fn a_kept_secret_gives_the_same_keys() {
        let secret = NodeSecret::generate().unwrap();
        let kept = NodeSecret::from_bytes(secret.expose()).unwrap();
        let of = KeyOf::Job("a-uid".into());
        assert!(kept.opens(RunId(5), &of, secret.run_key(RunId(5), &of).expose_secret()));
        assert!(NodeSecret::from_bytes(&[1; 31]).is_none());
    }
}
