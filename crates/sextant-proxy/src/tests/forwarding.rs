//! Tests which requests the proxy forwards, and how.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use http::Method;
use tokio::join;

use super::super::caller::tests::{ALGORITHM, bearer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fake_server::server;
use super::*;

#[tokio::test]
async fn methods_paths_and_bodies_pass_with_the_callers_token() {
    let (to, seen) = server(|request, _| async move { answer(201, request.into_body()) }).await;
    let proxy = proxy(to).await;
    for (method, resource, body) in [
        ("GET", "/run/7?a=b%20c&a=d", ""),
        ("HEAD", "/run/7?a=b%20c&a=d", ""),
        ("OPTIONS", "/run/7?a=b%20c&a=d", ""),
        ("POST", "/task?a=b%20c&a=d", r#"{"a": "ä", "image": "i"}"#),
    ] {
        for path in [resource, &format!("/api{resource}")] {
            let got = proxy.ask(method, path, body).await;
            assert_eq!(got.status, 201);
            assert_eq!(got.text(), if method == "HEAD" { "" } else { body });
            let request = seen.last();
            assert_eq!(request.method(), method);
            assert_eq!(request.uri(), format!("/api{resource}").as_str());
            assert_eq!(request.body(), body);
            assert_eq!(request.headers()[header::AUTHORIZATION], bearer(ALGORITHM));
            assert_eq!(request.headers()[header::HOST], to.to_string());
        }
    }
    assert_eq!(seen.connections(), 3, "connections are used again, but for those of the two HEAD");
}

#[tokio::test]
async fn nobody_passes_but_algorithms() {
    let (to, seen) = server(|_, _| async { answer(200, r#"{"version": "4.5.5"}"#) }).await;
    let proxy = proxy(to).await;
    let ask = |path: &str, token: Option<HeaderValue>| {
        let mut request = Request::get(path).body(Full::default()).unwrap();
        request.headers_mut().extend(token.map(|token| (header::AUTHORIZATION, token)));
        proxy.send(request)
    };
    for path in ["/version", "/api/health"] {
        assert_eq!(ask(path, None).await.status, 200, "{path}");
    }
    assert_eq!(seen.count(), 2);
    let node = bearer(r#"{"sub": 3, "type": "access", "client_type": "node"}"#);
    let user = bearer(r#"{"sub": 3, "type": "access", "client_type": "user"}"#);
    for (path, token, status, says) in [
        ("/task", None, 401, "There is no token"),
        ("/version", Some(node.clone()), 403, "for algorithms"),
        ("/task", Some(node), 403, "for algorithms"),
        ("/organization/1", Some(user), 403, "for algorithms"),
        ("/task", Some(HeaderValue::from_static("Bearer x")), 401, "no token of a vantage6 server"),
    ] {
        let got = ask(path, token).await;
        assert_eq!(got.status, status);
        assert!(got.json()["msg"].as_str().unwrap().contains(says), "{}", got.text());
        assert_eq!(got.headers[header::CONTENT_TYPE], "application/json");
    }
    assert_eq!(seen.count(), 2, "the server has heard of none");
}

#[tokio::test]
async fn lists_lead_through_the_proxy() {
    let page = r#"{"data": [], "links": {"next": "/api/result?task_id=1&page=2"}}"#;
    let (to, seen) = server(move |request, _| async move {
        // The large answer is rewritten while it streams.
        let filler = if request.uri().query() == Some("large") { " ".repeat(200_000) } else { String::new() };
        answer(200, format!("{page}{filler}"))
    })
    .await;
    let proxy = proxy(to).await;
    for path in ["/result?task_id=1", "/api/organization", "/run?large"] {
        let request = Request::get(path)
            .header(header::AUTHORIZATION, bearer(ALGORITHM))
            .header(header::ACCEPT_ENCODING, "gzip, deflate")
            .body(Full::default())
            .unwrap();
        let got = proxy.send(request).await;
        assert_eq!(got.json()["links"]["next"], "/result?task_id=1&page=2", "{path}");
        assert_eq!(seen.last().headers()[header::ACCEPT_ENCODING], "identity");
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways_as_they_come() {
    let (to, _) = server(|request, _| async move { answer(200, request.into_body()) }).await;
    let proxy = proxy(to).await;
    let body: Bytes = (0..16_000_000u32).map(|number| (number % 251) as u8).collect();
    let got = proxy.ask("POST", "/blobstream", body.clone()).await;
    // Without encryption, all other readers of blobs expect base64.
    assert!(got.body == STANDARD.encode(&body));
}

#[tokio::test]
async fn the_same_question_at_the_same_time_is_asked_once() {
    let (to, seen) = server(|_, number| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer(200, number.to_string())
    })
    .await;
    let proxy = proxy(to).await;
    let got = join_all((0..20).map(|_| proxy.get("/task/7"))).await;
    assert!(got.iter().all(|got| got.headers[header::CONTENT_TYPE] == "application/json"));
    // All other requests arrived while the first query was in progress.
    let with = |text: &str| got.iter().filter(|got| got.text() == text).count();
    assert_eq!((with("1"), with("2")), (1, 19));
    assert_eq!(proxy.get("/task/7").await.text(), "3", "a moment later");
    let other = ALGORITHM.replace("\"task_id\":7", "\"task_id\":8");
    let request = Request::get("/task/7").header(header::AUTHORIZATION, bearer(&other)).body(Full::default()).unwrap();
    let (same, question, caller) = join!(proxy.get("/task/7"), proxy.get("/task/8"), proxy.send(request));
    let mut told = [same.text(), question.text(), caller.text()];
    told.sort_unstable();
    assert_eq!(told, ["4", "5", "6"], "another question, another caller");
    assert_eq!(seen.count(), 6);
    assert_eq!(proxy.shared.metrics.shared_answers(), 18);
}

/// A server that counts POST requests and returns the count with a delay.
async fn counting_server() -> SocketAddr {
    let made = Arc::new(AtomicUsize::new(0));
    let (to, _) = server(move |request, _| {
        let made = made.clone();
        async move {
            if request.method() == Method::POST {
                made.fetch_add(1, Ordering::SeqCst);
                return answer(201, "{}");
            }
            let now = made.load(Ordering::SeqCst).to_string();
            tokio::time::sleep(Duration::from_millis(150)).await;
            answer(200, now)
        }
    })
    .await;
    to
}

#[tokio::test]
async fn what_was_changed_through_one_replica_is_seen_through_the_other() {
    let to = counting_server().await;
    let replicas = [proxy(to).await, proxy(to).await];
    for change in 0..4 {
        let (one, other) = (&replicas[change % 2], &replicas[(change + 1) % 2]);
        let before = change.to_string();
        assert_eq!(other.get("/task?parent_id=7").await.text(), before);
        // This query is in progress during the change, so both counts are correct.
        let under_way = async { other.get("/task?parent_id=7").await };
        let changed = async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            assert_eq!(one.ask("POST", "/task", TASK).await.status, 201);
            let (first, second) = join!(other.get("/task?parent_id=7"), one.get("/task?parent_id=7"));
            let after = (change + 1).to_string();
            assert_eq!((first.text(), second.text()), (&*after, &*after));
        };
        join!(under_way, changed);
    }
}

#[tokio::test]
async fn errors_are_shared_with_nobody() {
    let (to, seen) = server(|_, number| async move { answer(if number == 1 { 404 } else { 200 }, "{}") }).await;
    let proxy = proxy(to).await;
    assert_eq!(proxy.get("/task/7").await.status, 404);
    assert_eq!(proxy.get("/task/7").await.status, 200);
    assert_eq!(seen.count(), 2);
}

#[tokio::test]
async fn a_tasks_status_can_be_asked_of_servers_that_know_only_the_task() {
    let (to, _) = server(|request, _| async move {
        match request.uri().path() {
            "/api/task/7" => answer(200, r#"{"id": 7, "status": "completed", "name": "x"}"#),
            _ => answer(404, r#"{"msg": "no such thing"}"#),
        }
    })
    .await;
    let proxy = proxy(to).await;
    let got = proxy.get("/task/7/status").await;
    assert_eq!((got.status.as_u16(), got.text()), (200, r#"{"status":"completed"}"#));
    let got = proxy.get("/task/8/status").await;
    assert_eq!((got.status.as_u16(), got.text()), (404, r#"{"msg": "no such thing"}"#));
}

#[tokio::test]
async fn what_is_under_way_is_finished_at_the_end() {
    let (to, _) = server(|_, _| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(200, "done")
    })
    .await;
    let proxy = proxy(to).await;
    let slow = proxy.get("/task/7");
    let ends = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.end.send_replace(true);
        tokio::time::sleep(Duration::from_millis(50)).await;
        TcpStream::connect(proxy.address).await.expect_err("nobody is let in any more");
    };
    let (got, ()) = tokio::join!(slow, ends);
    assert_eq!(got.text(), "done");
    tokio::time::timeout(Duration::from_secs(1), proxy.serving).await.unwrap().unwrap();
}
