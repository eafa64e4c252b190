//! Caches the public keys of organizations.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use vantage6::encryption::PublicKey;

/// How long a key is cached. Short, so that a new key is soon in use.
const TTL: Duration = Duration::from_secs(60);
/// The most keys.
const CAPACITY: usize = 1024;

/// Public keys by organization id.
#[derive(Default)]
pub(crate) struct PublicKeyCache(Mutex<HashMap<u64, (Instant, PublicKey)>>);

impl PublicKeyCache {
    /// Returns an organization's key, if it was fetched recently.
    pub fn get(&self, organization: u64) -> Option<PublicKey> {
        let keys = self.0.lock();
        keys.get(&organization).filter(|(since, _)| since.elapsed() < TTL).map(|(_, key)| key.clone())
    }

    /// Stores a key from the server.
    pub fn insert(&self, organization: u64, key: PublicKey) {
        let mut keys = self.0.lock();
        if keys.len() >= CAPACITY {
            keys.retain(|_, (since, _)| since.elapsed() < TTL);
        }
        if keys.len() < CAPACITY {
            keys.insert(organization, (Instant::now(), key));
        }
    }
}
