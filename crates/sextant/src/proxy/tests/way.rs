//! An HTTP proxy of the organization's on the way to the server.

use std::sync::atomic::Ordering;

use hyper_util::client::proxy::matcher::Matcher;

use super::stand_in::{raw, server};
use super::*;
use crate::proxy::upstream::Place;

/// A proxy whose server can be reached through an HTTP proxy only.
async fn behind(http_proxy: SocketAddr, server_url: &str) -> Served {
    let text = format!("server_url: {server_url}\napi_key: k\n");
    let config = Config::parse(&text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
    let way = Matcher::builder().all(format!("http://somebody:hushhush@{http_proxy}")).build();
    let place = Place::of(&config, &way).unwrap();
    proxy_of(http_proxy, Cryptor::Plain, |settings| settings.place = place).await
}

#[tokio::test]
async fn a_server_without_tls_is_named_whole() {
    let (http_proxy, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = behind(http_proxy, "http://server.example:5000").await;
    assert_eq!(proxy.ask("POST", "/task?a=b", "{}").await.status, 200);
    let last = seen.last();
    assert_eq!(last.uri().to_string(), "http://server.example:5000/api/task?a=b");
    assert_eq!(last.headers()[header::HOST], "server.example:5000");
    assert_eq!(last.headers()[header::PROXY_AUTHORIZATION], "Basic c29tZWJvZHk6aHVzaGh1c2g=");
    assert_eq!(last.headers()[header::AUTHORIZATION], bearer(ALGORITHM));
}

#[tokio::test]
async fn a_login_that_is_wanted_is_the_operators_concern() {
    let (http_proxy, _) = server(|_, _| async { answer(407, "log in!") }).await;
    let proxy = behind(http_proxy, "http://server.example:5000").await;
    let got = proxy.get("/task").await;
    assert_eq!(got.status, 502);
    assert!(got.json()["msg"].as_str().unwrap().contains("HTTPS_PROXY"), "{}", got.text());
}

/// What it refuses was not sent, so that it is tried again, and then told of as of a server that is away.
#[tokio::test]
async fn a_tunnel_that_is_refused() {
    let (http_proxy, asked) = raw(b"HTTP/1.1 403 Filtered\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = behind(http_proxy, "https://server.example").await;
    for method in ["GET", "POST"] {
        let got = proxy.ask(method, "/task", "").await;
        assert_eq!(got.status, 503, "{}", got.text());
        assert!(!got.text().contains("127.0.0.1"), "addresses are the operator's");
    }
    assert!(asked.load(Ordering::SeqCst) > 2);
}
