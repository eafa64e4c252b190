//! Refuses bodies of requests that have none at a vantage6 server. Only `POST`, `PUT` and `PATCH` have a body. Some servers and front ends
//! do not read other bodies, and would read the rest as the next request on the connection.
//!
//! The algorithm tools (4.5.5 to 4.15.2) send JSON only with `POST`; Python's `requests` sends `Content-Length: 0` with `DELETE`.

use http::{Method, StatusCode, header, request};
use http_body::Body;

use super::refusal::Refusal;

/// Checks that a request has no body, unless its method permits one.
///
/// # Errors
/// With the message for the algorithm.
pub(crate) fn check(parts: &request::Parts, body: &impl Body) -> Result<(), Refusal> {
    // Unknown methods are refused later, with their own message.
    let may = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    // A chunked body counts even if it turns out to be empty.
    let has = !body.is_end_stream() || parts.headers.contains_key(header::TRANSFER_ENCODING);
    if may || !has {
        return Ok(());
    }
    let message = format!("A {} request has no body at a vantage6 server. Send it without one.", parts.method);
    Err(Refusal::new(StatusCode::BAD_REQUEST, message))
}
