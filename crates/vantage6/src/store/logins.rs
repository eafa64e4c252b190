//! Limits how often a store's 401 makes the node log in to the server again. A store that does not know nodes, or is malicious, responds
//! 401 each time.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

/// The shortest time between two logins for one store.
const PAUSE: Duration = Duration::from_secs(300);
/// The largest number of stores with a login within this time.
const STORES: usize = 16;

/// When each store last caused a login.
#[derive(Default)]
pub(crate) struct StoreLogins(Mutex<HashMap<String, Instant>>);

impl StoreLogins {
    /// Whether the node may log in again because of this store's response. If so, that is recorded.
    pub fn may_log_in(&self, url: &Url) -> bool {
        let mut stores = self.0.lock();
        stores.retain(|_, at| at.elapsed() < PAUSE);
        let store = url.origin().ascii_serialization();
        if stores.len() >= STORES || stores.contains_key(&store) {
            return false;
        }
        stores.insert(store, Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_causes_one_log_in_in_some_minutes() {
        let logins = StoreLogins::default();
        let of = |store: &str| logins.may_log_in(&Url::parse(store).unwrap());
        assert!(of("https://one.example/api/algorithm"));
        assert!(!of("https://one.example/api/algorithm") && !of("https://one.example/other"));
        assert!(of("https://two.example/api/algorithm"));
        tokio::time::advance(PAUSE).await;
        assert!(of("https://one.example/api/algorithm"));
        let many = (0..10 * STORES).filter(|number| of(&format!("https://s{number}.example/")));
        assert_eq!(many.count(), STORES - 1);
    }
}
