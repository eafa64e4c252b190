//! The public keys of organizations: asked of the server, and known for a while.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use vantage6::encryption::PublicKey;

/// How long a key is taken for the organization's: a new one is used soon after it is there.
const TTL: Duration = Duration::from_secs(60);
/// How many are known at once.
const CAPACITY: usize = 1024;

/// The keys that are known.
#[derive(Default)]
pub(crate) struct PublicKeyCache(Mutex<HashMap<u64, (Instant, PublicKey)>>);

impl PublicKeyCache {
    /// An organization's key, if it was asked for lately.
    pub fn get(&self, organization: u64) -> Option<PublicKey> {
        let keys = self.0.lock();
        keys.get(&organization).filter(|(since, _)| since.elapsed() < TTL).map(|(_, key)| key.clone())
    }

    /// The server has told an organization's key.
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
