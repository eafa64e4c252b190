//! Tests which methods and resources the proxy allows, in encrypted and unencrypted collaborations.

use serde_json::json;

use super::encrypted::{key, organizations};
use super::fake_server::server;
use super::*;

const ID: &str = "8c7e2f0a-5f36-4a44-9a45-0d5a7d1b2c3d";

/// The requests of the algorithm tools of 4.5.5 and 4.15.2 (`tests/e2e/test_proxy.py` runs them), and those that a container's token
/// permits besides.
#[tokio::test]
async fn what_algorithms_need_passes() {
    let (to, seen) = server(|_, _| async { answer(200, "{}") }).await;
    let proxy = proxy(to).await;
    let blob = format!("/blobstream/{ID}");
    for path in [
        "/version",
        "/health",
        "/task",
        "/task/7",
        "/task/7/status",
        "/task?parent_id=7",
        "/run",
        "/run/7",
        "/run?task_id=7&page=1",
        "/result?task_id=7",
        "/result/7",
        "/organization",
        "/organization/7",
        "/collaboration/7",
        "/node/7",
        "/study?collaboration_id=1",
        "/study/7",
        "/vpn/algorithm/addresses?only_self=1",
        "/blobstream/status",
        &blob,
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let before = seen.count();
            assert_eq!(proxy.ask(method, path, "").await.status, 200, "{method} {path}");
            assert!(seen.count() > before && seen.last().method() == method, "{method} {path}");
        }
    }
    let before = seen.count();
    assert_eq!(proxy.ask("POST", "/task", json!({ "image": "i" }).to_string()).await.status, 200);
    assert_eq!(proxy.ask("POST", "/blobstream", "anything").await.status, 200);
    assert_eq!(seen.count(), before + 2);
}

#[tokio::test]
async fn nothing_else_passes() {
    for cryptor in [Cryptor::Plain, Cryptor::Encrypted(key(0))] {
        let (to, seen) = organizations().await;
        let proxy = proxy_with(to, cryptor).await;
        let task = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YWJj" }] }).to_string();
        for (method, path) in [
            ("POST", "/token/user"),
            ("POST", "/token/node"),
            ("POST", "/token/container"),
            ("POST", "/token/refresh"),
            ("GET", "/token/user"),
            ("POST", "/token/user/validate"),
            ("POST", "/recover/lost"),
            ("POST", "/recover/reset"),
            ("PATCH", "/password/change"),
            ("GET", "/user"),
            ("GET", "/user/1"),
            ("GET", "/role"),
            ("GET", "/rule"),
            ("GET", "/collaboration"),
            ("GET", "/node"),
            ("GET", "/vpn"),
            ("GET", "/port"),
            ("POST", "/port"),
            ("GET", "/algorithmstore"),
            ("POST", "/kill/task"),
            ("GET", "/event"),
            ("GET", "/"),
            ("GET", "/api"),
            ("GET", "/api/"),
            ("GET", "/api/api/task/7"),
            ("GET", "/spec"),
            ("GET", "/apidocs"),
            ("GET", "/Task/7"),
            ("GET", "/TASK"),
            ("GET", "/task/x"),
            ("GET", "/task/-1"),
            ("GET", "/task/%D9%A7"),
            ("GET", "/task/7/x"),
            ("GET", "/task/7/status/x"),
            ("GET", "/task/7/results"),
            ("GET", "/result/7/x"),
            ("GET", "/version/x"),
            ("POST", "/version"),
            ("POST", "/health"),
            ("POST", "/task/7"),
            ("PUT", "/task"),
            ("PATCH", "/task"),
            ("DELETE", "/task"),
            ("PUT", "/task/7"),
            ("PATCH", "/task/7"),
            ("DELETE", "/task/7"),
            ("POST", "/task/7/status"),
            ("POST", "/run"),
            ("PATCH", "/run/7"),
            ("POST", "/result"),
            ("PATCH", "/result/7"),
            ("PATCH", "/organization/1"),
            ("POST", "/organization"),
            ("POST", "/study"),
            ("POST", "/blobstream/status"),
            ("PUT", "/blobstream"),
            ("POST", "/blobstream/x"),
            ("GET", "/blobstream"),
            ("GET", "/blobstream/x/y"),
            ("DELETE", "/collaboration/1"),
        ] {
            let body = if matches!(method, "GET" | "DELETE") { "" } else { &task };
            let got = proxy.ask(method, path, body.to_owned()).await;
            assert_eq!(got.status, 403, "{method} {path}: {}", got.text());
            assert!(got.json()["msg"].as_str().unwrap().contains("no algorithm needs"), "{}", got.text());
        }
        assert_eq!(seen.count(), 0, "the server has heard of none");
    }
}

/// Werkzeug converts methods to capitals.
#[tokio::test]
async fn methods_are_the_ones_that_are_written_so() {
    for cryptor in [Cryptor::Plain, Cryptor::Encrypted(key(0))] {
        let (to, seen) = organizations().await;
        let proxy = proxy_with(to, cryptor).await;
        let task = json!({ "image": "i", "organizations": [{ "id": 1, "input": "YWJj" }] }).to_string();
        for method in [
            "post", "Post", "POSt", "get", "Get", "head", "options", "put", "patch", "delete", "TRACE", "trace",
            "PROPFIND", "X", "POST_",
        ] {
            for path in ["/task", "/result?task_id=9", "/task/7", "/version", "/nothing"] {
                let body = if path == "/task" { task.clone() } else { String::new() };
                let got = proxy.ask(method, path, body).await;
                assert_eq!(got.status, 405, "{method} {path}: {}", got.text());
                assert_eq!(got.headers[header::ALLOW], "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
            }
        }
        assert_eq!(seen.count(), 0, "the server has heard of none");
    }
}

/// A method in a header or in the query is not forwarded as one.
#[tokio::test]
async fn nothing_overrides_a_method() {
    let (to, seen) = organizations().await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let request = Request::get("/task?_method=POST")
            .header(header::AUTHORIZATION, bearer(ALGORITHM))
            .header(name, "POST")
            .body(Full::default())
            .unwrap();
        proxy.send(request).await;
        assert!(seen.last().method() == "GET" && !seen.last().headers().contains_key(name), "{name}");
    }
}
