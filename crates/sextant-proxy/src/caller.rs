//! Reads the caller from the algorithm's token, which the server issues and verifies.
//!
//! The proxy has no key to verify tokens and needs none: it forwards each request with the caller's own token. It only accepts tokens of
//! algorithms, so that tokens of users and nodes can't be used through it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The longest token that is read. Servers issue shorter ones.
const LONGEST: usize = 32 * 1024;

/// The run that a token was issued for, as far as the token tells: its task, node and organization. The token does not contain the run's
/// own id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The id of the task.
    pub task: Option<u64>,
    /// The id of the node.
    pub node: Option<u64>,
    /// The id of the node's organization.
    pub organization: Option<u64>,
}

/// A caller and its address. One address may have many tokens, because tokens never expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub caller: Caller,
    pub source: IpAddr,
}

/// Why a request's token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCaller {
    /// The request has no token.
    Missing,
    /// The header does not contain a token.
    Unreadable,
    /// The token belongs to a user or a node.
    NotAnAlgorithm,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    client_type: String,
    /// Set by flask-jwt-extended; distinguishes access tokens from refresh tokens.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "subject")]
    sub: Caller,
}

/// Reads the subject of a token. An algorithm's subject is an object; any other subject gives an empty caller. Other members are skipped
/// without keeping them, because the subject is long and comes with every request.
fn subject<'de, D: Deserializer<'de>>(from: D) -> Result<Caller, D::Error> {
    struct Subject;
    impl<'de> Visitor<'de> for Subject {
        type Value = Caller;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a subject")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Caller, A::Error> {
            let mut caller = Caller::default();
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                match &*key {
                    "task_id" => caller.task = map.next_value()?,
                    "node_id" => caller.node = map.next_value()?,
                    "organization_id" => caller.organization = map.next_value()?,
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(caller)
        }

        fn visit_str<E>(self, _: &str) -> Result<Caller, E> {
            Ok(Caller::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Caller, E> {
            Ok(Caller::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Caller, E> {
            Ok(Caller::default())
        }

        fn visit_unit<E>(self) -> Result<Caller, E> {
            Ok(Caller::default())
        }
    }
    from.deserialize_any(Subject)
}

/// Reads the caller from a request's headers.
///
/// # Errors
/// If there is no token, or if it is not an algorithm's.
pub fn caller(headers: &HeaderMap) -> Result<Caller, NoCaller> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let header = all.next().ok_or(NoCaller::Missing)?;
    if all.next().is_some() {
        return Err(NoCaller::Unreadable);
    }
    let claims: Claims = claims(header).ok_or(NoCaller::Unreadable)?;
    // `_get_container_token` in `server/resource/token.py` of 4.5.5, and the loader of claims in `server/__init__.py`.
    if claims.client_type != "container" || claims.kind.is_some_and(|kind| kind != "access") {
        return Err(NoCaller::NotAnAlgorithm);
    }
    Ok(claims.sub)
}

/// Returns the image that an algorithm's token was issued for; `None` if it names none.
pub(crate) fn image(headers: &HeaderMap) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Subject,
    }
    #[derive(Deserialize)]
    struct Subject {
        image: String,
    }
    let Claims { sub } = claims(headers.get(header::AUTHORIZATION)?)?;
    (!sub.image.is_empty()).then_some(sub.image)
}

/// Returns the collaboration that an algorithm's token was issued for; `None` if it names none.
pub(crate) fn collaboration(headers: &HeaderMap) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Subject,
    }
    #[derive(Deserialize)]
    struct Subject {
        collaboration_id: u64,
    }
    let Claims { sub } = claims(headers.get(header::AUTHORIZATION)?)?;
    Some(sub.collaboration_id)
}

/// Returns when the server issued an algorithm's token, in seconds since 1970; `None` if the token doesn't say.
pub(crate) fn issued_at(headers: &HeaderMap) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        iat: i64,
    }
    Some(claims::<Claims>(headers.get(header::AUTHORIZATION)?)?.iat)
}

fn claims<T: DeserializeOwned>(header: &HeaderValue) -> Option<T> {
    let token = header.to_str().ok()?.strip_prefix("Bearer ")?;
    if token.len() > LONGEST {
        return None;
    }
    // Only the form that servers write is accepted: no blanks, no padding and no unused bits. Another spelling of the same token would be
    // the same caller at the server, but another one in the proxy's caches and limits.
    let mut parts = token.split('.');
    let (head, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || [head, signature].iter().any(|part| URL_SAFE_NO_PAD.decode(part).is_err()) {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    // `from_str`, because `from_slice` does not check the UTF-8 of values that it skips.
    serde_json::from_str(str::from_utf8(&json).ok()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header with a token that has these claims.
    pub(crate) fn bearer(claims: &str) -> HeaderValue {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("Bearer {}.{}.{}", part(r#"{"alg":"HS256"}"#), part(claims), part("signature")).parse().unwrap()
    }

    /// The algorithm of a task, at an address.
    pub(crate) fn client(task: u64, source: u8) -> Client {
        Client { caller: Caller { task: Some(task), ..Caller::default() }, source: [10, 0, 0, source].into() }
    }

    /// The claims that server 4.5.5 puts into an algorithm's token.
    pub(crate) const ALGORITHM: &str = r#"{"fresh":false,"iat":1700000000,"jti":"x","type":"access","sub":{"client_type":"container","node_id":3,"organization_id":2,"collaboration_id":1,"study_id":null,"task_id":7,"image":"i","databases":[{"label":"default"}]},"nbf":1700000000,"client_type":"container","roles":[]}"#;

    fn read(values: &[HeaderValue]) -> Result<Caller, NoCaller> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.clone());
        }
        caller(&headers)
    }

    #[test]
    fn algorithms_and_nobody_else() {
        let algorithm = Caller { task: Some(7), node: Some(3), organization: Some(2) };
        assert_eq!(read(&[bearer(ALGORITHM)]), Ok(algorithm));
        assert_eq!(read(&[]), Err(NoCaller::Missing));
        for claims in [
            r#"{"sub":5,"type":"access","client_type":"user"}"#,
            r#"{"sub":5,"type":"access","client_type":"node"}"#,
            r#"{"sub":{"client_type":"container"},"type":"access"}"#,
            r#"{"sub":5,"type":"refresh","client_type":"container"}"#,
            r#"{"sub":-5,"client_type":"node"}"#,
            r#"{"sub":null,"client_type":"node"}"#,
            "{}",
        ] {
            assert_eq!(read(&[bearer(claims)]), Err(NoCaller::NotAnAlgorithm), "{claims}");
        }
        for header in [
            "Bearer x",
            "Bearer a.b.c",
            "Basic YTpi",
            "Bearer a.e30.c.d",
            "Bearer  e30.e30.c2ln",
            "Bearer e30.e30=.c2ln",
            "Bearer e30.e30.c2ln==",
            "Bearer e30.e30.c2lo=",
            "Bearer e30.e31.c2ln",
            "Bearer e30.e30.c2l,",
            "Bearer ",
            "bearer",
            "Bearer a,Bearer b.e30.c",
            "Bearer a.e30.c d",
        ] {
            assert_eq!(read(&[header.parse().unwrap()]), Err(NoCaller::Unreadable), "{header}");
        }
        // Claims that are not UTF-8 are unreadable, too.
        let claims = URL_SAFE_NO_PAD.encode(b"{\"client_type\":\"container\",\"jti\":\"\xff\"}");
        assert_eq!(read(&[format!("Bearer e30.{claims}.c2ln").parse().unwrap()]), Err(NoCaller::Unreadable));
        assert_eq!(read(&[bearer(r#"{"client_type":"node"}"#), bearer(ALGORITHM)]), Err(NoCaller::Unreadable));
        assert_eq!(read(&[bearer(ALGORITHM), bearer(ALGORITHM)]), Err(NoCaller::Unreadable));
    }

    #[test]
    fn when_a_token_was_made() {
        for (claims, expected) in [
            (ALGORITHM, Some(1_700_000_000)),
            (r#"{"client_type":"container"}"#, None),
            (r#"{"iat":"1700000000"}"#, None),
            (r#"{"iat":null}"#, None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer(claims))]);
            assert_eq!(issued_at(&headers), expected, "{claims}");
        }
    }

    #[test]
    fn a_token_that_tells_less_is_one_all_the_same() {
        assert_eq!(read(&[bearer(r#"{"client_type":"container","sub":"7"}"#)]), Ok(Caller::default()));
    }
}
