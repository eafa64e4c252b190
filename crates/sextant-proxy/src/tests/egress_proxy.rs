//! Tests an HTTP proxy of the organization between the proxy and the server.

use std::sync::atomic::Ordering;

use super::fake_server::{raw, server};
use super::*;
use crate::upstream::Origin;

/// A proxy whose server is reachable only through an HTTP proxy.
async fn behind(http_proxy: SocketAddr, server_url: &str) -> Served {
    let text = format!("server_url: {server_url}\napi_key: k\n");
    let config = Config::parse(&text, std::path::Path::new("a.yaml"), &|_| None).unwrap();
    let way = HttpProxies::from_lookup(&|name| {
        (name == "ALL_PROXY").then(|| format!("http://somebody:hushhush@{http_proxy}"))
    });
    let origin = Origin::new(&config, &way.unwrap()).unwrap();
    proxy_of(http_proxy, Cryptor::Plain, |settings| settings.origin = origin).await
}

#[tokio::test]
async fn a_server_without_tls_is_named_whole() {
    let (http_proxy, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = behind(http_proxy, "http://server.example:5000").await;
    assert_eq!(proxy.ask("POST", "/task?a=b", TASK).await.status, 200);
    let last = seen.last();
    assert_eq!(last.uri().to_string(), "http://server.example:5000/api/task?a=b");
    assert_eq!(last.headers()[header::HOST], "server.example:5000");
    assert_eq!(last.headers()[header::PROXY_AUTHORIZATION], "Basic c29tZWJvZHk6aHVzaGh1c2g=");
    assert_eq!(last.headers()[header::AUTHORIZATION], bearer(ALGORITHM));
}

#[tokio::test]
async fn pages_of_the_http_proxy_are_the_operators_concern() {
    for (status, says) in [(407, "HTTPS_PROXY"), (401, "HTTPS_PROXY"), (403, "HTTPS_PROXY"), (502, "does not reach it")]
    {
        let (http_proxy, _) = server(move |_, _| async move {
            let mut page = answer(status, "<html>ask postmaster@inside.example</html>");
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            page
        })
        .await;
        let proxy = behind(http_proxy, "http://server.example:5000").await;
        let got = proxy.ask("POST", "/task", TASK).await;
        assert_eq!(got.status, 502);
        let message = got.json()["msg"].as_str().unwrap().to_owned();
        assert!(message.contains(says) && !got.text().contains("postmaster"), "{status}: {}", got.text());
    }
}

#[tokio::test]
async fn the_servers_own_words_pass() {
    for status in [401, 403, 502] {
        let (http_proxy, _) = server(move |_, _| async move { answer(status, r#"{"msg": "no"}"#) }).await;
        let proxy = behind(http_proxy, "http://server.example:5000").await;
        let got = proxy.ask("POST", "/task", TASK).await;
        assert_eq!((got.status.as_u16(), got.text()), (status, r#"{"msg": "no"}"#));
    }
}

/// An algorithm can't send credentials to the HTTP proxy.
#[tokio::test]
async fn a_login_of_an_algorithms_goes_no_further() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let request = Request::get("/task")
        .header(header::AUTHORIZATION, bearer(ALGORITHM))
        .header(header::PROXY_AUTHORIZATION, "Basic YTpi")
        .body(Full::default())
        .unwrap();
    assert_eq!(proxy.send(request).await.status, 200);
    assert!(!seen.last().headers().contains_key(header::PROXY_AUTHORIZATION));
}

/// A refused tunnel means that the request was not sent. The proxy retries, and then reports an unreachable server.
#[tokio::test]
async fn a_tunnel_that_is_refused() {
    let (http_proxy, asked) = raw(b"HTTP/1.1 403 Filtered\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = behind(http_proxy, "https://server.example").await;
    for method in ["GET", "POST"] {
        let got = proxy.ask(method, "/task", if method == "POST" { TASK } else { "" }).await;
        assert_eq!(got.status, 503, "{}", got.text());
        assert!(!got.text().contains("127.0.0.1"), "addresses are the operator's");
    }
    assert!(asked.load(Ordering::SeqCst) > 2);
}
