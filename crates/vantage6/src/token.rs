//! Access tokens: their claims, and how long they are valid.

use std::time::Duration;

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::NodeId;

/// The longest token accepted, in bytes. Tokens are kept and sent with each request, and no server accepts headers of this size.
const LONGEST: usize = 32 * 1024;
/// The message for a longer token.
pub(crate) const TOO_LONG: &str = "it has a token of more than 32 KiB";
/// The largest response with tokens, in bytes.
pub(crate) const ANSWER_LIMIT: u64 = 128 * 1024;

/// A token from a server's response.
pub(crate) struct Token(pub SecretString);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = SecretString::deserialize(deserializer)?;
        if token.expose_secret().len() > LONGEST { Err(de::Error::custom(TOO_LONG)) } else { Ok(Self(token)) }
    }
}

/// The server's response to `POST token/node` and `POST token/refresh` (`_get_token_dict` in
/// `server/resource/token.py`).
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    pub access_token: Token,
    #[serde(default)]
    pub refresh_token: Option<Token>,
    #[serde(default)]
    node_url: Option<String>,
}

/// The claims that the client uses. The signature is not checked: only the server can check it, and the token comes
/// directly from the server.
#[derive(Deserialize, Default)]
struct Claims {
    /// A number or a text, so it is kept as JSON.
    #[serde(default)]
    sub: Option<Box<RawValue>>,
    exp: Option<f64>,
    iat: Option<f64>,
}

fn claims(token: &SecretString) -> Option<Claims> {
    let payload = token.expose_secret().split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A token, and when it was requested, by this machine's monotonic clock. Its expiry follows from its lifetime, not from its
/// date, so this machine's date need not be right.
pub(crate) struct ExpiringToken {
    pub token: SecretString,
    pub since: Instant,
    lifetime: Option<Duration>,
}

impl ExpiringToken {
    /// `since` is when the token was requested, slightly before the server made it.
    pub fn new(token: SecretString, since: Instant) -> Self {
        let lifetime = claims(&token)
            .and_then(|claims| Some(claims.exp? - claims.iat?))
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .map(|seconds| Duration::from_secs_f64(seconds.min(1e9)));
        Self { token, since, lifetime }
    }

    /// Whether the token stays valid for a while: long enough for the request that is about to start. The regular node
    /// refreshes 10 minutes before the end (`common/globals.py`). A server can issue tokens of only 30 minutes
    /// (`MIN_TOKEN_VALIDITY_SECONDS` in `server/globals.py`); a quarter of that is less.
    pub fn is_fresh(&self) -> bool {
        self.lifetime
            .is_none_or(|lifetime| self.since.elapsed() + (lifetime / 4).min(Duration::from_secs(600)) < lifetime)
    }

    /// Whether the token is still valid, as far as the client can tell.
    pub fn is_valid(&self) -> bool {
        self.lifetime.is_none_or(|lifetime| self.since.elapsed() < lifetime)
    }
}

/// The result of a login.
pub(crate) struct Session {
    pub access: ExpiringToken,
    pub refresh: Option<ExpiringToken>,
    pub node: Option<NodeId>,
}

impl Session {
    pub fn new(answer: TokenAnswer, since: Instant) -> Self {
        let node = node_of(&answer);
        Self {
            access: ExpiringToken::new(answer.access_token.0, since),
            refresh: answer.refresh_token.map(|Token(token)| ExpiringToken::new(token, since)),
            node,
        }
    }
}

/// The node's id: `sub` of the token (a number; a text in newer JWT libraries), else the end of `node_url`.
fn node_of(answer: &TokenAnswer) -> Option<NodeId> {
    let of_token = claims(&answer.access_token.0).and_then(|claims| {
        let sub = claims.sub?;
        let number = || serde_json::from_str::<u64>(sub.get()).ok();
        number().or_else(|| serde_json::from_str::<String>(sub.get()).ok()?.parse().ok())
    });
    of_token.or_else(|| answer.node_url.as_deref()?.rsplit('/').next()?.parse().ok()).map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> SecretString {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims), "c2ln").into()
    }

    #[test]
    fn the_node_is_known_from_either_place() {
        for (claims, node_url, node) in [
            (r#"{"sub": 7}"#, None, Some(7)),
            (r#"{"sub": "7"}"#, Some("/api/node/8"), Some(7)),
            (r#"{"sub": {"client_type": "container"}}"#, Some("/api/node/8"), Some(8)),
            ("not json", Some("/api/node/8"), Some(8)),
            ("not json", Some("/api/node/"), None),
            ("{}", None, None),
        ] {
            let answer = TokenAnswer {
                access_token: Token(jwt(claims)),
                refresh_token: None,
                node_url: node_url.map(str::to_owned),
            };
            assert_eq!(node_of(&answer), node.map(NodeId), "{claims} {node_url:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn freshness_follows_the_lifetime_whatever_the_date() {
        // The server's clock is wrong: the token's date is in 1970.
        for (lifetime, fresh_for) in [(21_600, 21_000), (1_800, 1_350), (8, 6)] {
            let token =
                ExpiringToken::new(jwt(&format!(r#"{{"iat": 100, "exp": {}}}"#, 100 + lifetime)), Instant::now());
            tokio::time::advance(Duration::from_secs(fresh_for) - Duration::from_millis(500)).await;
            assert!(token.is_fresh());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!token.is_fresh() && token.is_valid());
            tokio::time::advance(Duration::from_secs(lifetime - fresh_for)).await;
            assert!(!token.is_valid());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_says_nothing_is_good_until_the_server_refuses_it() {
        for token in ["", "a.b", "a.!.c", "a.e30.c"] {
            let token = ExpiringToken::new(token.to_owned().into(), Instant::now());
            tokio::time::advance(Duration::from_secs(1_000_000)).await;
            assert!(token.is_fresh() && token.is_valid());
        }
    }
}
