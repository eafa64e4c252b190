//! The way out of the organization, where it leads through an HTTP proxy: one that the environment names (`HTTPS_PROXY`,
//! `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), by the very rules of the node's own client.

use std::{fmt, io};

use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

/// An HTTP proxy of the organization's.
#[derive(Debug)]
pub struct HttpProxy {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Marked as sensitive.
    authorization: Option<HeaderValue>,
}

impl HttpProxy {
    /// The one that leads to this address, if there is one.
    ///
    /// # Errors
    /// If it is of a kind that can't be used here; the text says what to do, and tells no password.
    pub fn to(url: &Url, environment: &Matcher) -> Result<Option<Self>, String> {
        let target: Uri = url.as_str().parse().map_err(|error| format!("{url} can't be used: {error}"))?;
        let Some(found) = environment.intercept(&target) else { return Ok(None) };
        let uri = found.uri();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let scheme = uri.scheme_str().unwrap_or_default();
        if scheme != "http" || host.is_empty() {
            return Err(format!(
                "The environment names {scheme}://{host} as the proxy for {url} (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY). Algorithms' requests \
                 can go through one that begins with http:// only; NO_PROXY excepts hosts."
            ));
        }
        let authorization = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Some(Self { host, port: uri.port_u16().unwrap_or(80), authorization }))
    }

    /// Has a request for a server without TLS passed on: it names the server whole.
    pub fn pass_on<B>(&self, request: &mut Request<B>, authority: &HeaderValue) -> Result<(), http::Error> {
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let whole = Uri::builder().scheme("http").authority(authority.as_bytes()).path_and_query(path).build()?;
        *request.uri_mut() = whole;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
        }
        Ok(())
    }

    /// Makes of a connection with the proxy one with the server.
    ///
    /// # Errors
    /// If the proxy doesn't do it; the error says what it answers.
    pub async fn tunnel(&self, stream: TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
        let (mut sender, connection) =
            http1::handshake::<_, Empty<&[u8]>>(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection.with_upgrades());
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
        if let Some(value) = &self.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(|error| self.failed(error))?;
        if !answer.status().is_success() {
            connection.abort();
            return Err(self.failed(format!("it answers {} when it is asked for {authority}", answer.status())));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.failed(error))?;
        let parts = upgraded
            .downcast::<TokioIo<TcpStream>>()
            .map_err(|_| self.failed("its connection is not the one that was made"))?;
        // The server waits for us to begin.
        if !parts.read_buf.is_empty() {
            return Err(self.failed("it sends what nobody asked for"));
        }
        Ok(parts.io.into_inner())
    }

    /// An error of the way through it.
    pub fn failed(&self, why: impl fmt::Display) -> io::Error {
        io::Error::other(format!("the {self} of the environment: {why}"))
    }
}

impl fmt::Display for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP proxy {}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use crate::way::*;

    fn found(environment: &str, server: &str) -> Result<Option<HttpProxy>, String> {
        let matcher = Matcher::builder().https(environment).no("inside.example").build();
        HttpProxy::to(&server.parse().unwrap(), &matcher)
    }

    #[test]
    fn the_environment_decides() {
        let proxy = found("http://proxy.example:3128", "https://server.example/api").unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert!(found("http://proxy.example:3128", "https://inside.example/api").unwrap().is_none());
        assert!(found("http://proxy.example:3128", "http://server.example/api").unwrap().is_none());
        let bare = found("proxy.example", "https://server.example/api").unwrap().unwrap();
        assert_eq!((bare.host.as_str(), bare.port), ("proxy.example", 80));
    }

    #[test]
    fn other_kinds_are_refused_without_their_passwords() {
        for other in ["socks5://somebody:hushhush@proxy.example:1080", "https://somebody:hushhush@proxy.example"] {
            let error = found(other, "https://server.example/api").unwrap_err();
            assert!(error.contains("proxy.example") && error.contains("http://"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
