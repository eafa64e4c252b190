//! The server's address, from the three settings that a node's configuration has for it.

use std::fmt;

use url::Url;

/// The server's address: `server_url`, `port` and `api_path`, combined as the regular node does (`base_path` in
/// `common/client/client_base.py`), but tolerant of missing and extra slashes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    api: Url,
    host: Url,
    configured: String,
}

/// The settings do not give a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server_url '{server_url}' {problem}. It must look like https://vantage6.example.org")]
pub struct ServerUrlError {
    server_url: String,
    problem: String,
}

impl ServerUrl {
    /// Without a `port`, the scheme's default applies. `api_path` is usually `/api` and may be empty.
    pub fn new(server_url: &str, port: Option<u16>, api_path: &str) -> Result<Self, ServerUrlError> {
        let error = |problem: String| ServerUrlError { server_url: server_url.to_owned(), problem };
        let configured_port =
            port.filter(|port| !server_url.trim().trim_end_matches('/').ends_with(&format!(":{port}")));
        let mut host = Url::parse(server_url.trim()).map_err(|cause| error(format!("is not an address ({cause})")))?;
        if !matches!(host.scheme(), "http" | "https") || !host.has_host() {
            return Err(error("does not begin with https:// or http://".into()));
        }
        if !host.username().is_empty() || host.password().is_some() {
            // The message does not repeat the URL, which may contain a real password.
            return Err(ServerUrlError {
                server_url: "…".into(), problem: "contains a user name or password".into()
            });
        }
        if host.query().is_some() || host.fragment().is_some() {
            return Err(error("contains '?' or '#'".into()));
        }
        if let (Some(of_url), Some(setting)) = (host.port(), port)
            && of_url != setting
        {
            return Err(error(format!("names port {of_url}, but the setting port says {setting}")));
        }
        if port.is_some() {
            host.set_port(port).map_err(|()| error("takes no port".into()))?;
        }
        let mut api = host.clone();
        let segments: Vec<&str> =
            host.path().split('/').chain(api_path.trim().split('/')).filter(|segment| !segment.is_empty()).collect();
        api.set_path(&segments.join("/"));
        let path = api_path.split('/').map(str::trim).filter(|segment| !segment.is_empty());
        let configured = format!(
            "{}{}{}",
            server_url.trim().trim_end_matches('/'),
            configured_port.map(|port| format!(":{port}")).unwrap_or_default(),
            path.map(|segment| format!("/{segment}")).collect::<String>()
        );
        host.set_path("");
        Ok(Self { api, host, configured })
    }

    /// Returns the address of a resource, e.g. of `run/12`.
    pub fn resource(&self, path: &str) -> Url {
        let mut url = self.api.clone();
        url.set_path(&format!("{}/{}", self.api.path().trim_end_matches('/'), path.trim_start_matches('/')));
        url
    }

    /// The address of the API as configured, including a port that is the scheme's default. Algorithm stores compare it
    /// character by character (`base_path` in `common/client/client_base.py`).
    pub fn as_configured(&self) -> &str {
        &self.configured
    }

    /// The server's host, with an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &Url {
        &self.host
    }

    /// The address of Socket.IO. It is always at the root of the host, whatever the API's path is (`SocketIO.connect` in
    /// `node/__init__.py` passes no path, and python-engineio drops the URL's).
    pub fn socket_io(&self) -> Url {
        let mut url = self.host.clone();
        url.set_path("socket.io");
        url
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.api.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_together_like_the_regular_node_does() {
        for (server_url, port, api_path, api, socket_io) in [
            ("https://v6.nl", Some(443), "/api", "https://v6.nl/api", "https://v6.nl/socket.io"),
            ("https://v6.nl/", Some(5000), "api/", "https://v6.nl:5000/api", "https://v6.nl:5000/socket.io"),
            ("http://v6.nl:5000", Some(5000), "/api", "http://v6.nl:5000/api", "http://v6.nl:5000/socket.io"),
            ("http://v6.nl:5000", None, "", "http://v6.nl:5000", "http://v6.nl:5000/socket.io"),
            (
                "http://localhost",
                Some(7601),
                "//api//v1",
                "http://localhost:7601/api/v1",
                "http://localhost:7601/socket.io",
            ),
            ("https://v6.nl/hub/", None, "/api", "https://v6.nl/hub/api", "https://v6.nl/socket.io"),
            ("http://[::1]", Some(80), "/api", "http://[::1]/api", "http://[::1]/socket.io"),
            (" https://v6.nl ", None, " /api ", "https://v6.nl/api", "https://v6.nl/socket.io"),
        ] {
            let url = ServerUrl::new(server_url, port, api_path).unwrap();
            assert_eq!(url.to_string(), api);
            assert_eq!(url.socket_io().as_str(), socket_io);
            assert_eq!(url.resource("/run/1").as_str(), format!("{api}/run/1"));
            assert_eq!(url.resource("run/1").as_str(), format!("{api}/run/1"));
        }
    }

    #[test]
    fn told_to_others_as_it_is_configured() {
        for (server_url, port, api_path, expected) in [
            ("https://v6.nl", Some(443), "/api", "https://v6.nl:443/api"),
            ("https://v6.nl/", None, "api/", "https://v6.nl/api"),
            ("http://v6.nl:5000", Some(5000), "/api", "http://v6.nl:5000/api"),
            ("http://localhost", Some(7601), "", "http://localhost:7601"),
        ] {
            assert_eq!(ServerUrl::new(server_url, port, api_path).unwrap().as_configured(), expected);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (server_url, port, problem) in [
            ("v6.nl", None, "is not an address"),
            ("localhost:5000", None, "does not begin with"),
            ("ftp://v6.nl", None, "does not begin with"),
            ("https://v6.nl:1", Some(2), "names port 1, but the setting port says 2"),
            ("https://me:secret@v6.nl", None, "user name or password"),
            ("https://v6.nl?x=1", None, "contains '?'"),
        ] {
            let error = ServerUrl::new(server_url, port, "/api").unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("https://vantage6.example.org"), "{error}");
            assert!(!error.contains("secret"));
        }
    }
}
