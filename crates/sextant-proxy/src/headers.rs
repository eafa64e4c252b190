//! Selects the headers that pass through the proxy.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::refusal::Refusal;

/// The request headers that the server may need. All others are removed: headers of one connection, headers that would tell the server
/// where a request comes from, and headers that servers in front of it may obey.
const OF_REQUESTS: [HeaderName; 13] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::USER_AGENT,
];

/// The most bytes of a path with its query, and of all headers except the token. Servers have similar limits (nginx: 8 KB per line).
const LONGEST: usize = 8 * 1024;

/// Headers of a single connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Checks that path and headers are no larger than servers accept. Only the token may be long, because the server issues it.
///
/// # Errors
/// If they are larger.
pub(crate) fn are_bounded(parts: &Parts) -> Result<(), Refusal> {
    if parts.uri.path_and_query().is_some_and(|path| path.as_str().len() > LONGEST) {
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "The path with its query has more than 8 KB."));
    }
    let others = parts.headers.iter().filter(|(name, _)| **name != header::AUTHORIZATION);
    let bytes: usize = others.map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > LONGEST {
        let message = "The headers, apart from the token, have more than 8 KB.";
        return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    }
    Ok(())
}

/// Returns the headers of a request that go to the server.
pub fn of_request(theirs: &HeaderMap) -> HeaderMap {
    let mut ours = HeaderMap::with_capacity(8);
    for (name, value) in theirs {
        if OF_REQUESTS.contains(name) {
            ours.append(name, value.clone());
        }
    }
    ours
}

/// Returns the headers of the proxy's own query on behalf of a caller. Only the token is kept: the caller's ranges and conditions apply to
/// its own answer.
pub fn of_lookup(theirs: &HeaderMap) -> HeaderMap {
    let token = theirs.get_all(header::AUTHORIZATION).iter();
    let mut ours: HeaderMap = token.map(|token| (header::AUTHORIZATION, token.clone())).collect();
    ours.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    ours
}

/// Removes headers of the connection to the server from an answer, and the length if there is no body.
pub fn of_answer(status: StatusCode, headers: &mut HeaderMap) {
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &[(&str, &str)]) -> HeaderMap {
        text.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_request_tells_what_the_server_needs() {
        let theirs = map(&[
            ("host", "proxyserver:8080"),
            ("authorization", "Bearer x"),
            ("content-type", "application/json"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("connection", "keep-alive, x-public-key"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-original-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("user-agent", "python-requests/2.32.3"),
            ("x-public-key", "abc"),
        ]);
        let mut names: Vec<_> = of_request(&theirs).keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["authorization", "content-type", "user-agent"]);
    }

    #[test]
    fn an_answer_loses_what_belongs_to_the_connection() {
        let mut headers = map(&[
            ("connection", "close, X-Internal"),
            ("keep-alive", "timeout=5"),
            ("x-internal", "1"),
            ("transfer-encoding", "chunked"),
            ("content-type", "application/json"),
            ("content-length", "3"),
            ("total-count", "3"),
        ]);
        of_answer(StatusCode::OK, &mut headers);
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["content-length", "content-type", "total-count"]);
        of_answer(StatusCode::NO_CONTENT, &mut headers);
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
    }
}
