//! Whose token the server has accepted a moment ago. The proxy can't tell a real token from an invented one; before it keeps
//! anything of a caller's on its disk, it asks the server, and for a while it needn't ask again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, header};
use tokio::time::Instant;

/// How long a token counts as accepted. What comes of the request decides the server anyhow.
const KNOWN: Duration = Duration::from_secs(60);
/// How many are known at once; of more, each is asked about each time.
const MOST: usize = 1024;

/// The tokens that the server has accepted, as their hashes.
#[derive(Default)]
pub(crate) struct Accepted(Mutex<HashMap<[u8; 32], Instant>>);

impl Accepted {
    /// Whether the server has accepted a request's token lately.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(headers)).is_some_and(|since| since.elapsed() < KNOWN)
    }

    /// The server has accepted a request's token.
    pub fn learned(&self, headers: &HeaderMap) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            tokens.retain(|_, since| since.elapsed() < KNOWN);
        }
        if tokens.len() < MOST {
            tokens.insert(hash(headers), Instant::now());
        }
    }
}

/// A request's token, so that it needn't be kept.
pub(super) fn hash(headers: &HeaderMap) -> [u8; 32] {
    let token = headers.get(header::AUTHORIZATION).map_or(b"".as_slice(), |value| value.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, token.parse().unwrap())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_known_for_a_while() {
        let accepted = Accepted::default();
        assert!(!accepted.knows(&with("a")));
        accepted.learned(&with("a"));
        assert!(accepted.knows(&with("a")) && !accepted.knows(&with("b")));
        tokio::time::advance(KNOWN).await;
        assert!(!accepted.knows(&with("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow() {
        let accepted = Accepted::default();
        for number in 0..MOST + 10 {
            accepted.learned(&with(&number.to_string()));
        }
        assert_eq!(accepted.0.lock().unwrap().len(), MOST);
        tokio::time::advance(KNOWN).await;
        accepted.learned(&with("a"));
        assert_eq!(accepted.0.lock().unwrap().len(), 1);
    }
}
