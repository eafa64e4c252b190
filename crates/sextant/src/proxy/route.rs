//! What a request asks for: where it goes at the server, and what the proxy has to do with it.

use std::borrow::Cow;

use http::{Method, Uri};

/// What the proxy has to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The server answers it without a login, so the proxy does, too.
    Open,
    /// Passed on as it is.
    Plain,
    /// A page of a list: its links lead through the proxy.
    List,
    /// `POST task`: each organization's input is encrypted for it.
    CreateTask,
    /// `GET result`: a page of results, decrypted for the caller.
    Results,
    /// `GET result/{id}`: one result, decrypted for the caller.
    Result,
    /// `GET task/{id}/status`, which servers before 4.8 don't have.
    TaskStatus(u64),
    /// `blobstream` with what servers have that keep inputs and results in a blob store.
    Blob,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// What there is to do.
    pub route: Route,
    /// The path below the API's, beginning with a slash.
    pub path: Cow<'a, str>,
    /// What follows the `?`.
    pub query: Option<&'a str>,
}

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misrouted {
    /// `CONNECT`, `TRACE`: not for a server's API.
    Method,
    /// A path that means different things to different readers.
    Path,
}

impl Target<'_> {
    /// Path and query at the server.
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

/// Reads a request. Paths count with the API's own path in front (`/api/task`, as the server's links have it) and
/// without (`/task`, as algorithms have it).
///
/// # Errors
/// What is not passed on at all.
pub fn route<'a>(method: &Method, uri: &'a Uri, api_path: &str) -> Result<Target<'a>, Misrouted> {
    if *method == Method::CONNECT || *method == Method::TRACE {
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
    Ok(Target { route: of(method, &path), path, query: uri.query() })
}

/// How much of the path is the API's own.
fn below(path: &str, api_path: &str) -> Option<usize> {
    let rest = path.strip_prefix(api_path)?;
    rest.starts_with('/').then_some(api_path.len())
}

fn of(method: &Method, path: &str) -> Route {
    let read = *method == Method::GET || *method == Method::HEAD;
    let mut parts = path.split('/').skip(1);
    match (parts.next().unwrap_or_default(), parts.next(), parts.next(), parts.next()) {
        ("version" | "health", None, ..) if read => Route::Open,
        ("task", None, ..) if *method == Method::POST => Route::CreateTask,
        ("task", Some(id), Some("status"), None) if *method == Method::GET => {
            id.parse().map_or(Route::Plain, Route::TaskStatus)
        }
        ("result", None, ..) if *method == Method::GET => Route::Results,
        ("result", Some(_), None, _) if *method == Method::GET => Route::Result,
        ("blobstream", Some("status"), None, _) => Route::Plain,
        ("blobstream", ..) => Route::Blob,
        (_, None, ..) if *method == Method::GET => Route::List,
        _ => Route::Plain,
    }
}

/// The one way of writing a path: characters that need no escape have none, and no part is empty. What could be read as
/// another path by somebody on the way is refused.
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
            ("POST", "/version", Route::Plain, "/api/version"),
            ("GET", "/version/x", Route::Plain, "/api/version/x"),
            ("POST", "/task", Route::CreateTask, "/api/task"),
            ("POST", "/api/task", Route::CreateTask, "/api/task"),
            ("POST", "//api//task/", Route::CreateTask, "/api/task"),
            ("POST", "/%74ask", Route::CreateTask, "/api/task"),
            ("POST", "http://elsewhere.example.org/task", Route::CreateTask, "/api/task"),
            ("GET", "/task/7", Route::Plain, "/api/task/7"),
            ("DELETE", "/task/7", Route::Plain, "/api/task/7"),
            ("GET", "/task/7/status", Route::TaskStatus(7), "/api/task/7/status"),
            ("GET", "/task/x/status", Route::Plain, "/api/task/x/status"),
            ("GET", "/result?task_id=3&page=2", Route::Results, "/api/result?task_id=3&page=2"),
            ("GET", "/result/3", Route::Result, "/api/result/3"),
            ("GET", "/organization?page=1", Route::List, "/api/organization?page=1"),
            ("GET", "/organization/1", Route::Plain, "/api/organization/1"),
            ("GET", "/vpn/algorithm/addresses?only_self=1", Route::Plain, "/api/vpn/algorithm/addresses?only_self=1"),
            ("GET", "/blobstream/status", Route::Plain, "/api/blobstream/status"),
            ("POST", "/blobstream", Route::Blob, "/api/blobstream"),
            ("GET", "/blobstream/8c7e", Route::Blob, "/api/blobstream/8c7e"),
            ("GET", "/apiary", Route::List, "/api/apiary"),
            ("GET", "/api", Route::List, "/api/api"),
            ("GET", "/", Route::List, "/api/"),
            ("GET", "/a%20b.c", Route::List, "/api/a%20b.c"),
            ("GET", "/...", Route::List, "/api/..."),
        ] {
            assert_eq!(routed(method, uri), Ok((route, at_server.to_owned())), "{method} {uri}");
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
        assert_eq!(routed("TRACE", "/task"), Err(Misrouted::Method));
        assert_eq!(routed("CONNECT", "/task"), Err(Misrouted::Method));
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
