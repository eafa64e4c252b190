//! Bodies where none belong: at a vantage6 server only `POST`, `PUT` and `PATCH` have one, and some servers and front ends don't read one
//! elsewhere. What they leave would be read as the next request on the connection, so the proxy refuses such a body.
//!
//! The algorithm tools (4.5.5 to 4.15.2) send JSON with `POST` alone; Python's `requests` sends `Content-Length: 0` with `DELETE`.

use http::{Method, StatusCode, header, request};
use http_body::Body;

use super::refusal::Refusal;

/// Whether a request may have the body that it has, if it has one.
///
/// # Errors
/// What the algorithm hears.
pub(crate) fn check(parts: &request::Parts, body: &impl Body) -> Result<(), Refusal> {
    // Of other methods than these the proxy passes on none, and says so.
    let may = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    // Also a body in chunks that turns out to be empty.
    let has = !body.is_end_stream() || parts.headers.contains_key(header::TRANSFER_ENCODING);
    if may || !has {
        return Ok(());
    }
    let message = format!("A {} request has no body at a vantage6 server. Send it without one.", parts.method);
    Err(Refusal::new(StatusCode::BAD_REQUEST, message))
}
