//! Decides what the proxy does with a request, from its method and path.
//!
//! Only requests that algorithms need pass: those of the algorithm tools of 4.5.5 and 4.15.2 (`tests/e2e/test_proxy.py` runs them all), and
//! whatever else a container's token may do at these servers. Only `POST task` and `POST blobstream` may send data to the server.

use std::borrow::Cow;

use http::{Method, Uri};
use vantage6::BlobId;

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Forwarded even without a token, because the server requires none.
    Open,
    /// Forwarded unchanged.
    Plain,
    /// A page of a list. Its links are rewritten to lead through the proxy.
    List,
    /// `POST task`. The task must have the caller's image, and each organization's input is encrypted for it.
    CreateTask,
    /// `GET result`: a page of results, decrypted if they belong to a subtask of the caller.
    Results,
    /// `GET result/{id}`: one result, decrypted if it belongs to a subtask of the caller.
    Result(u64),
    /// The proxy's own query, with the caller's token.
    Lookup,
    /// `GET task/{id}/status`, which servers before 4.11 don't have.
    TaskStatus(u64),
    /// `POST blobstream`. The blob is encrypted for the recipient that the caller names.
    StoreBlob,
    /// `GET blobstream/{id}`. The blob is decoded; in an encrypted collaboration only if it is the result of a subtask of the caller.
    Blob,
    /// `GET blobstream/status`, which servers before 4.13 don't have.
    BlobStatus,
}

/// The methods of the server's API.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// The same, for the header `Allow`.
pub(crate) const ALLOW: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// What the proxy does with it.
    pub route: Route,
    /// The path without the API's own path; starts with a slash.
    pub path: Cow<'a, str>,
    /// The query after the `?`.
    pub query: Option<&'a str>,
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misrouted {
    /// The method is not one of the API's, or not in capitals: servers accept `post` for `POST`.
    Method,
    /// No algorithm needs it.
    NotForAlgorithms,
    /// The path is ambiguous.
    Path,
}

impl Target<'_> {
    /// Returns path and query as the server gets them.
    pub fn at_server(&self, api_path: &str) -> String {
        let query = self.query.map_or(0, |query| query.len() + 1);
        let mut all = String::with_capacity(api_path.len() + self.path.len() + query);
        all.push_str(api_path);
        all.push_str(&self.path);
        if let Some(query) = self.query {
            all.push('?');
            all.push_str(query);
        }
        all
    }
}

/// Determines the target of a request. The path may include the API's own path (`/api/task`, as in the server's links) or not (`/task`, as
/// algorithms write it).
///
/// # Errors
/// If the request must not be forwarded.
pub fn route<'a>(method: &Method, uri: &'a Uri, api_path: &str) -> Result<Target<'a>, Misrouted> {
    if !METHODS.contains(method) {
        return Err(Misrouted::Method);
    }
    let path = canonical(uri.path())?;
    let path = match below(&path, api_path) {
        Some(0) => path,
        Some(length) => match path {
            Cow::Borrowed(path) => Cow::Borrowed(&path[length..]),
            Cow::Owned(path) => Cow::Owned(path[length..].to_owned()),
        },
        None => path,
    };
    Ok(Target { route: of(method, &path)?, path, query: uri.query() })
}

/// Returns the length of the API's own path at the beginning of a path.
fn below(path: &str, api_path: &str) -> Option<usize> {
    let rest = path.strip_prefix(api_path)?;
    rest.starts_with('/').then_some(api_path.len())
}

/// Returns the route for a method and a canonical path.
fn of(method: &Method, path: &str) -> Result<Route, Misrouted> {
    let get = *method == Method::GET;
    let looks = get || *method == Method::HEAD || *method == Method::OPTIONS;
    let mut parts = path.split('/').skip(1);
    let parts = (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next());
    let numbered = parts.1.and_then(number);
    Ok(match parts {
        ("task", None, ..) if *method == Method::POST => Route::CreateTask,
        ("blobstream", None, ..) if *method == Method::POST => Route::StoreBlob,
        _ if !looks => return Err(Misrouted::NotForAlgorithms),
        ("version" | "health", None, ..) if *method == Method::OPTIONS => Route::Plain,
        ("version" | "health", None, ..) => Route::Open,
        ("result", None, ..) if get => Route::Results,
        ("task" | "run" | "organization" | "study", None, ..) if get => Route::List,
        ("task" | "run" | "organization" | "study" | "result", None, ..) => Route::Plain,
        ("blobstream", Some("status"), None, _) if get => Route::BlobStatus,
        ("blobstream", Some("status"), None, _) | ("vpn", Some("algorithm"), Some("addresses"), None) => Route::Plain,
        ("blobstream", Some(blob), None, _) if blob.parse::<BlobId>().is_ok() => {
            if get {
                Route::Blob
            } else {
                Route::Plain
            }
        }
        (name, Some(_), rest, None) => match (name, numbered, rest) {
            ("result", Some(id), None) if get => Route::Result(id),
            ("task", Some(id), Some("status")) if get => Route::TaskStatus(id),
            ("task", Some(_), Some("status")) => Route::Plain,
            ("task" | "run" | "result" | "organization" | "collaboration" | "node" | "study", Some(_), None) => {
                Route::Plain
            }
            _ => return Err(Misrouted::NotForAlgorithms),
        },
        _ => return Err(Misrouted::NotForAlgorithms),
    })
}

/// Parses an id in the form that the server writes.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (text == "0" || !text.starts_with('0')) { text.parse().ok() } else { None }
}

/// Returns the canonical form of a path: without unnecessary escapes and without empty parts. Refuses a path that another program on the
/// way could read differently.
fn canonical(path: &str) -> Result<Cow<'_, str>, Misrouted> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~' | b':' | b'@');
    if path.len() > 1 && !path.ends_with('/') && !path.contains("//") && path.bytes().all(harmless) {
        return Ok(Cow::Borrowed(path));
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        clean.push('/');
        let from = clean.len();
        let mut bytes = part.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'%' => {
                    let digits =
                        [bytes.next(), bytes.next()].map(|digit| char::from(digit.unwrap_or_default()).to_digit(16));
                    let [Some(high), Some(low)] = digits else { return Err(Misrouted::Path) };
                    u8::try_from(high * 16 + low).map_err(|_| Misrouted::Path)?
                }
                byte => byte,
            };
            match byte {
                b'/' | b'\\' | 0..=0x1f | 0x7f | b';' => return Err(Misrouted::Path),
                b'.' | b',' | b'+' | b'=' | b'!' | b'(' | b')' | b'*' | b'\'' | b'$' | b'&' => clean.push(byte.into()),
                byte if harmless(byte) => clean.push(byte.into()),
                byte => clean.push_str(&format!("%{byte:02X}")),
            }
        }
        if matches!(&clean[from..], "." | "..") {
            return Err(Misrouted::Path);
        }
    }
    if clean.is_empty() {
        clean.push('/');
    }
    Ok(Cow::Owned(clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "/blobstream/8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";

    fn routed(method: &str, uri: &str) -> Result<(Route, String), Misrouted> {
        let uri: Uri = uri.parse().unwrap();
        let target = route(&method.parse().unwrap(), &uri, "/api")?;
        Ok((target.route, target.at_server("/api")))
    }

    #[test]
    fn what_goes_where() {
        for (method, uri, route, at_server) in [
            ("GET", "/version", Route::Open, "/api/version"),
            ("GET", "/api/health", Route::Open, "/api/health"),
            ("OPTIONS", "/version", Route::Plain, "/api/version"),
            ("POST", "/task", Route::CreateTask, "/api/task"),
            ("POST", "/api/task", Route::CreateTask, "/api/task"),
            ("POST", "//api//task/", Route::CreateTask, "/api/task"),
            ("POST", "/%74ask", Route::CreateTask, "/api/task"),
            ("POST", "http://elsewhere.example.org/task", Route::CreateTask, "/api/task"),
            ("GET", "/task", Route::List, "/api/task"),
            ("GET", "/task/7", Route::Plain, "/api/task/7"),
            ("GET", "/task/7/status", Route::TaskStatus(7), "/api/task/7/status"),
            ("HEAD", "/task/7/status", Route::Plain, "/api/task/7/status"),
            ("GET", "/result?task_id=3&page=2", Route::Results, "/api/result?task_id=3&page=2"),
            ("HEAD", "/result?task_id=3", Route::Plain, "/api/result?task_id=3"),
            ("GET", "/result/3", Route::Result(3), "/api/result/3"),
            ("HEAD", "/result/3", Route::Plain, "/api/result/3"),
            ("GET", "/organization?page=1", Route::List, "/api/organization?page=1"),
            ("GET", "/organization/1", Route::Plain, "/api/organization/1"),
            ("GET", "/vpn/algorithm/addresses?only_self=1", Route::Plain, "/api/vpn/algorithm/addresses?only_self=1"),
            ("GET", "/blobstream/status", Route::BlobStatus, "/api/blobstream/status"),
            ("POST", "/blobstream", Route::StoreBlob, "/api/blobstream"),
            ("GET", BLOB, Route::Blob, &format!("/api{BLOB}")),
        ] {
            assert_eq!(routed(method, uri), Ok((route, at_server.to_owned())), "{method} {uri}");
        }
    }

    /// More cases are in `tests/allowed.rs`.
    #[test]
    fn what_no_algorithm_needs() {
        for (method, uri) in [
            ("GET", "/"),
            ("GET", "/..."),
            ("GET", "/a%20b.c"),
            ("GET", "/api"),
            ("GET", "/apiary"),
            ("GET", "/task/x/status"),
            ("GET", "/task/07"),
            ("GET", "/version/x"),
            ("GET", "/vpn/algorithm/addresses/x"),
            ("GET", "/task/7/status/x"),
            ("GET", "/task/7/x"),
            ("GET", "/blobstream/8c7e"),
            ("GET", "/blobstream/8C7E2F0A-5F36-4A44-9A45-0D5A7D1B2C3D"),
            ("GET", "/blobstream/------------------------------------"),
            ("GET", "/blobstream"),
            ("POST", "/version"),
            ("POST", "/task/7"),
            ("DELETE", "/task/7"),
            ("POST", "/token/user"),
        ] {
            assert_eq!(routed(method, uri), Err(Misrouted::NotForAlgorithms), "{method} {uri}");
        }
    }

    #[test]
    fn what_is_not_passed_on() {
        for uri in [
            "/../socket.io/",
            "/api/../socket.io/",
            "/api/./task",
            "/%2e%2e/socket.io",
            "/.%2E/x",
            "/task%2f7",
            "/task%5c7",
            "/task%00",
            "/task%0d%0ax",
            "/%",
            "/%4",
            "/%zz",
            "/task;a=b",
        ] {
            assert_eq!(routed("GET", uri), Err(Misrouted::Path), "{uri}");
        }
        for method in ["TRACE", "CONNECT", "post", "Post", "get", "HEADS", "PROPFIND"] {
            assert_eq!(routed(method, "/task"), Err(Misrouted::Method), "{method}");
        }
    }

    #[test]
    fn a_server_whose_api_has_no_path_of_its_own() {
        let uri: Uri = "/task/1?a=b".parse().unwrap();
        assert_eq!(route(&Method::GET, &uri, "").unwrap().at_server(""), "/task/1?a=b");
    }

    proptest::proptest! {
        #[test]
        fn nothing_leads_out_of_the_api(path in "/[a-z%./2ef;:]{0,20}") {
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            if let Ok(target) = route(&Method::GET, &uri, "/api") {
                let at_server = target.at_server("/api");
                proptest::prop_assert!(at_server.starts_with("/api/"));
                proptest::prop_assert!(!at_server[5..].split('/').any(|part| matches!(part, "." | "..")), "{at_server}");
                proptest::prop_assert!(at_server.parse::<Uri>().is_ok());
            }
        }
    }
}
