//! A bounded cache whose entries expire.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most entries.
const CAPACITY: usize = 4096;

/// Answers by question, each with its own lifetime.
pub(crate) struct Known<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Copy> Known<K, V> {
    /// Returns the answer, if it has not expired.
    pub fn get(&self, question: &K) -> Option<V> {
        let known = self.0.lock();
        known.get(question).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| *answer)
    }

    /// Stores an answer for this time. A full cache drops new questions.
    pub fn insert(&self, question: K, answer: V, ttl: Duration) {
        let (mut known, now) = (self.0.lock(), Instant::now());
        if known.len() >= CAPACITY {
            known.retain(|_, (until, _)| *until > now);
        }
        if known.len() < CAPACITY || known.contains_key(&question) {
            known.insert(question, (now + ttl, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_does_not_grow_and_not_last() {
        let known = Known::default();
        for number in 0..CAPACITY + 10 {
            known.insert(number, true, Duration::from_secs(1));
        }
        assert_eq!((known.get(&1), known.get(&CAPACITY)), (Some(true), None));
        assert_eq!(known.0.lock().len(), CAPACITY);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(known.get(&1), None);
        known.insert(1, false, Duration::from_secs(1));
        assert_eq!(known.get(&1), Some(false));
        known.insert(CAPACITY + 10, true, Duration::from_secs(1));
        assert_eq!(known.0.lock().len(), 2, "what does not count any more makes room");
    }
}
