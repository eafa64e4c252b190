//! Connects to the server through an HTTP proxy of the organization, if the environment names one. The same rules apply as for the node's
//! own client.

use std::{fmt, io};

use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use outbound::{HttpProxies, HttpProxy};
use tokio::net::TcpStream;
use url::Url;

/// Returns the HTTP proxy for this URL, if there is one.
///
/// # Errors
/// If its kind is not supported; the text says what to do and does not contain a password.
pub(crate) fn for_url(url: &Url, environment: &HttpProxies) -> Result<Option<HttpProxy>, String> {
    let Some(proxy) = environment.for_url(url) else { return Ok(None) };
    if proxy.scheme() != "http" {
        return Err(format!(
            "The environment names {}://{} as the proxy for {url} ({}). Algorithms' requests can go through one that begins with http:// \
             only; NO_PROXY excepts hosts.",
            proxy.scheme(),
            proxy.host(),
            proxy.variable()
        ));
    }
    Ok(Some(proxy.clone()))
}

/// Gives a request without TLS the absolute form that HTTP proxies expect, and the proxy's credentials.
pub(crate) fn use_absolute_form<B>(
    proxy: &HttpProxy,
    request: &mut Request<B>,
    authority: &HeaderValue,
) -> Result<(), http::Error> {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let whole = Uri::builder().scheme("http").authority(authority.as_bytes()).path_and_query(path).build()?;
    *request.uri_mut() = whole;
    if let Some(value) = proxy.authorization() {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
    }
    Ok(())
}

/// Opens a tunnel to the server through a connection to the proxy.
///
/// # Errors
/// If the proxy refuses; the error contains its answer.
pub(crate) async fn tunnel(proxy: &HttpProxy, stream: TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
    let (mut sender, connection) =
        http1::handshake::<_, Empty<&[u8]>>(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection.with_upgrades());
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
    if let Some(value) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::new()).map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(|cause| error(proxy, cause))?;
    if !answer.status().is_success() {
        connection.abort();
        return Err(error(proxy, format!("it answers {} when it is asked for {authority}", answer.status())));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|cause| error(proxy, cause))?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| error(proxy, "its connection is not the one that was made"))?;
    // The client speaks first, so the server can't have sent anything yet.
    if !parts.read_buf.is_empty() {
        return Err(error(proxy, "it sends what nobody asked for"));
    }
    Ok(parts.io.into_inner())
}

/// Returns an error that names the HTTP proxy.
pub(crate) fn error(proxy: &HttpProxy, why: impl fmt::Display) -> io::Error {
    io::Error::other(format!("through the {proxy}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &str, server: &str) -> Result<Option<HttpProxy>, String> {
        let proxies = HttpProxies::from_lookup(&|name| match name {
            "HTTPS_PROXY" => Some(environment.to_owned()),
            "NO_PROXY" => Some("inside.example".to_owned()),
            _ => None,
        });
        for_url(&server.parse().unwrap(), &proxies.unwrap())
    }

    #[test]
    fn the_environment_decides() {
        let proxy = found("http://proxy.example:3128", "https://server.example/api").unwrap().unwrap();
        assert_eq!((proxy.host().as_str(), proxy.port()), ("proxy.example", 3128));
        assert!(found("http://proxy.example:3128", "https://inside.example/api").unwrap().is_none());
        assert!(found("http://proxy.example:3128", "http://server.example/api").unwrap().is_none());
        let bare = found("proxy.example", "https://server.example/api").unwrap().unwrap();
        assert_eq!((bare.host().as_str(), bare.port()), ("proxy.example", 80));
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
