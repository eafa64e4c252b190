//! Remembers which tokens the server has accepted recently. The proxy can't verify tokens itself; it learns from the server's answers.
//!
//! Connections without an accepted token have few slots. And before the proxy stores anything for a caller on disk, it asks the server
//! about the token; this cache saves repeated queries.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a token counts as accepted. The server still checks it with each forwarded request.
const TTL: Duration = Duration::from_secs(60);
/// The most tokens. Beyond that, the server is asked each time.
const CAPACITY: usize = 8 * 1024;

/// Resources that servers 4.5.5 and 4.15.2 return only for an accepted token. Others, such as `version`, prove nothing.
const FOR_TOKENS: [&str; 7] = ["task", "run", "result", "organization", "collaboration", "node", "study"];

/// Whether an answer proves that the server accepts the token. `path` is the server's, with the query.
pub(crate) fn proves_token(method: &Method, path: &str, api_path: &str, status: StatusCode) -> bool {
    let below = path.strip_prefix(api_path).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
    let resource = below.split(['/', '?']).next().unwrap_or_default();
    // Web frameworks answer OPTIONS themselves.
    status.is_success() && *method != Method::OPTIONS && FOR_TOKENS.contains(&resource)
}

/// Hashes of accepted tokens, with the time of acceptance.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<[u8; 32], Instant>>);

impl TokenCache {
    /// Whether the server has accepted the token of this request recently.
    pub fn contains(&self, headers: &HeaderMap) -> bool {
        let tokens = self.0.lock();
        tokens.get(&token_hash(headers)).is_some_and(|since| since.elapsed() < TTL)
    }

    /// Removes the token of this request after the server has refused it.
    pub fn remove(&self, headers: &HeaderMap) {
        self.0.lock().remove(&token_hash(headers));
    }

    /// Adds the token of this request after the server has accepted it.
    pub fn insert(&self, headers: &HeaderMap) {
        let mut tokens = self.0.lock();
        let token = token_hash(headers);
        if tokens.len() >= CAPACITY {
            tokens.retain(|_, since| since.elapsed() < TTL);
        }
        if tokens.len() < CAPACITY || tokens.contains_key(&token) {
            tokens.insert(token, Instant::now());
        }
    }
}

/// Hashes a request's token, so that the token itself need not be stored.
pub(super) fn token_hash(headers: &HeaderMap) -> [u8; 32] {
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
        let accepted = TokenCache::default();
        assert!(!accepted.contains(&with("a")));
        accepted.insert(&with("a"));
        assert!(accepted.contains(&with("a")) && !accepted.contains(&with("b")));
        tokio::time::advance(TTL).await;
        assert!(!accepted.contains(&with("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_refused_is_forgotten() {
        let accepted = TokenCache::default();
        accepted.insert(&with("a"));
        accepted.remove(&with("b"));
        assert!(accepted.contains(&with("a")));
        accepted.remove(&with("a"));
        assert!(!accepted.contains(&with("a")));
    }

    #[test]
    fn only_answers_that_need_a_token_prove_one() {
        for (method, path, status, proves) in [
            ("GET", "/api/task/7", 200, true),
            ("GET", "/api/task?a=b", 200, true),
            ("POST", "/api/task", 201, true),
            ("GET", "/api/organization/2", 200, true),
            ("GET", "/api/task/7", 404, false),
            ("GET", "/api/task/7", 401, false),
            ("GET", "/api/task/7", 304, false),
            ("GET", "/api/task/7", 500, false),
            ("OPTIONS", "/api/task/7", 200, false),
            ("GET", "/api/version", 200, false),
            ("GET", "/api/health", 200, false),
            ("GET", "/api/version/task", 200, false),
            ("GET", "/api/?task", 200, false),
            ("POST", "/api/recover/lost", 200, false),
            ("POST", "/api/token/user", 200, false),
            ("GET", "/tasks", 200, false),
        ] {
            let (method, status) = (method.parse().unwrap(), StatusCode::from_u16(status).unwrap());
            assert_eq!(proves_token(&method, path, "/api", status), proves, "{method} {path} {status}");
        }
        assert!(proves_token(&Method::GET, "/task/7", "", StatusCode::OK));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow() {
        let accepted = TokenCache::default();
        for number in 0..CAPACITY + 10 {
            accepted.insert(&with(&number.to_string()));
        }
        assert_eq!(accepted.0.lock().len(), CAPACITY);
        tokio::time::advance(TTL).await;
        accepted.insert(&with("a"));
        assert_eq!(accepted.0.lock().len(), 1);
    }
}
