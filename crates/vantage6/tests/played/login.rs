//! Tokens: how the client gets, renews and protects them.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use outbound::HttpProxies;
use tokio::net::TcpListener;
use vantage6::{Backoff, Client, Error, ServerUrl};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, path},
};

use crate::*;

#[tokio::test]
async fn a_token_that_the_server_no_longer_takes_is_replaced() {
    for (status, message) in [(401, "Token has expired"), (422, "Signature verification failed")] {
        let server = server(600).await;
        Mock::given(path("/api/token/refresh"))
            .and(header("authorization", bearer("refresh first", 6000)))
            .respond_with(tokens("second", 600))
            .expect(1)
            .mount(&server)
            .await;
        Mock::given(path("/api/node/7"))
            .and(header("authorization", bearer("second", 600)))
            .respond_with(me())
            .mount(&server)
            .await;
        Mock::given(path("/api/node/7")).respond_with(refusal(status, message)).expect(1).mount(&server).await;
        let client = client(&server);
        client.whoami().await.unwrap();
        client.whoami().await.unwrap();
        assert_eq!(count(&server, "/api/token/node").await, 1);
    }
}

#[tokio::test]
async fn when_the_refresh_token_is_gone_too_the_node_logs_in_again() {
    let server = server(600).await;
    Mock::given(path("/api/token/refresh"))
        .respond_with(refusal(401, "Token has expired"))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/api/node/7"))
        .respond_with(refusal(401, "Token has expired"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    client(&server).whoami().await.unwrap();
    assert_eq!(count(&server, "/api/token/node").await, 2);
}

#[tokio::test]
async fn a_token_is_refreshed_before_it_ends_by_one_for_all() {
    let server = server(600).await;
    Mock::given(path("/api/token/refresh"))
        .respond_with(tokens("second", 600).set_delay(Duration::from_millis(100)))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    let client = client(&server);
    client.whoami().await.unwrap();
    later(450).await;
    stream::iter(0..10).map(|_| client.whoami()).buffer_unordered(10).try_collect::<Vec<_>>().await.unwrap();
}

#[tokio::test]
async fn a_refresh_that_fails_disturbs_nobody_while_the_token_is_good() {
    let server = server(600).await;
    Mock::given(path("/api/token/refresh")).respond_with(ResponseTemplate::new(503)).expect(1..).mount(&server).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    let client = client(&server);
    client.whoami().await.unwrap();
    later(450).await;
    client.whoami().await.unwrap();
    assert_eq!(count(&server, "/api/token/node").await, 1);
}

#[tokio::test]
async fn a_refresh_that_hangs_disturbs_nobody_while_the_token_is_good() {
    let server = server(600).await;
    let refresh = tokens("second", 600).set_delay(Duration::from_secs(600));
    Mock::given(path("/api/token/refresh")).respond_with(refresh).expect(1).mount(&server).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    let client = client(&server);
    client.whoami().await.unwrap();
    later(450).await;
    let began = std::time::Instant::now();
    for _ in 0..10 {
        tokio::time::timeout(Duration::from_secs(30), client.whoami()).await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Tokens are kept, one for each run.
#[tokio::test]
async fn a_token_that_no_header_could_hold_is_not_kept() {
    for (length, fits) in [(32 * 1024, true), (32 * 1024 + 1, false), (8 * 1024 * 1024, false)] {
        let server = server(600).await;
        let long = "t".repeat(length);
        let token = ResponseTemplate::new(200).set_body_json(serde_json::json!({"container_token": long}));
        Mock::given(path("/api/token/container")).respond_with(token).mount(&server).await;
        let got = client(&server).container_token(vantage6::TaskId(3), "average").await;
        assert_eq!(got.is_ok(), fits, "{length}");
        if let Err(error) = got {
            let told = error.to_string();
            let expected = matches!(error, Error::Unreadable { .. } | Error::TooLarge { .. });
            assert!(expected && told.len() < 500 && told.contains("more than"), "{told}");
        }
        for key in ["access_token", "refresh_token"] {
            let server = MockServer::start().await;
            let mut answer = serde_json::json!({"access_token": jwt("first", 600)});
            answer[key] = long.clone().into();
            let login = ResponseTemplate::new(200).set_body_json(answer);
            Mock::given(path("/api/token/node")).respond_with(login).mount(&server).await;
            let access = client_at(&server.uri()).backoff(Backoff::never()).build().unwrap().access_token().await;
            assert_eq!(access.is_ok(), fits, "{key} {length}");
        }
    }
}

#[tokio::test]
async fn secrets_are_never_told() {
    let token = jwt("first", 600);
    // Half of an answer with a token in it, and one that is a token where none is expected.
    for odd in [format!("{{\"access_token\": \"{token}"), format!("\"{token}\"")] {
        let server = MockServer::start().await;
        Mock::given(path("/api/token/node"))
            .respond_with(ResponseTemplate::new(200).set_body_string(&odd))
            .mount(&server)
            .await;
        let client = client(&server);
        let error = client.whoami().await.unwrap_err();
        for told in [format!("{error}"), format!("{error:?}"), format!("{client:?}")] {
            assert!(!told.contains("eyJ") && !told.contains("the key"), "{told}");
        }
    }
}

#[test]
fn certificates_are_looked_at_before_anything_is_sent() {
    let builder =
        || Client::builder(ServerUrl::new("https://v6.example", None, "/api").unwrap(), "key".to_owned().into());
    for bad in ["no certificate", "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n"] {
        let error = builder().ca_certificates(bad).build().unwrap_err();
        assert!(
            matches!(&error, Error::Setup(message) if message.contains("certificate") || message.contains("HTTP client")),
            "{error}"
        );
    }
    builder().build().unwrap();
}

/// The HTTP proxy of the environment is named where it is what does not answer; its password is not.
#[tokio::test]
async fn an_http_proxy_that_is_away_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = MockServer::start().await;
    let proxies = |no_proxy: &'static str| {
        let env = move |name: &str| match name {
            "HTTP_PROXY" | "HTTPS_PROXY" => Some(format!("http://somebody:hushhush@{nobody}")),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        };
        HttpProxies::from_lookup(&env).unwrap()
    };
    let ask = async |url: &str, no_proxy| {
        let builder = Client::builder(ServerUrl::new(url, None, "/api").unwrap(), "key".to_owned().into());
        let client = builder.http_proxies(proxies(no_proxy)).backoff(Backoff::never()).build().unwrap();
        client.whoami().await.unwrap_err().to_string()
    };
    for (url, variable) in [(server.uri(), "HTTP_PROXY"), ("https://v6.example".to_owned(), "HTTPS_PROXY")] {
        let said = ask(&url, "").await;
        let named = format!("through the HTTP proxy {nobody} of {variable}: ");
        assert!(said.contains(&named) && said.contains("refused") && !said.contains("hush"), "{said}");
    }
    let at_port: &'static str = format!("127.0.0.1:{}", server.address().port()).leak();
    for no_proxy in ["*", "127.0.0.1", at_port, "127.0.0.0/8"] {
        let said = ask(&server.uri(), no_proxy).await;
        assert!(said.contains("404") && !said.contains("proxy"), "{no_proxy}: {said}");
    }
}
