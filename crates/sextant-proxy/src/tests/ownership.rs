//! Tests that only results of the caller's own subtasks are decrypted, however they are requested.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::encrypted::{key, message};
use super::fake_server::{Seen, server};
use super::*;

/// The plaintext of each result.
const SECRET: &[u8] = b"a result of somebody's";

/// A result in the form of servers 4.5.5 and 4.15.2.
fn result(run: u64, task: u64, text: &str) -> Value {
    json!({
        "blob_storage_used": null,
        "result": text,
        "id": run,
        "run": { "id": run, "link": format!("/api/run/{run}"), "methods": ["GET", "PATCH"] },
        "task": { "id": task, "link": format!("/api/task/{task}"), "methods": ["DELETE", "GET"] },
    })
}

/// A server with these tasks. Each has one run, whose id is ten times the task's, and whose result is encrypted for the caller's
/// organization.
async fn tasks(tasks: &'static [(u64, &'static str)]) -> (Served, Seen, String) {
    let text = message(SECRET.to_vec(), 0).await;
    let given = text.clone();
    let (to, seen) = server(move |request, _| {
        let uri = request.uri().clone();
        let parts: Vec<String> = uri.path().split('/').skip(2).map(str::to_owned).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let found = |id: &str| tasks.iter().find(|(task, _)| task.to_string() == id).copied();
        let answered = match parts[..] {
            ["task", id] => found(id).map(|(_, text)| text.to_owned()),
            ["run", id] => found(&id[..id.len() - 1])
                .map(|(task, _)| json!({ "id": 1, "input": "x".repeat(200_000), "task": { "id": task } }).to_string()),
            ["result", id] => found(&id[..id.len() - 1]).map(|(task, _)| result(task * 10, task, &given).to_string()),
            // As in 4.5.5, the first `task_id` counts, and without one all results are returned.
            ["result"] => {
                let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
                let which = query.into_iter().find(|(name, _)| name == "task_id").map(|(_, id)| id.into_owned());
                let data: Vec<_> = tasks
                    .iter()
                    .filter(|(task, _)| which.as_ref().is_none_or(|which| which.trim() == task.to_string()))
                    .map(|(task, _)| result(task * 10, *task, &given))
                    .collect();
                Some(json!({ "data": data, "links": { "first": "/api/result?page=1" } }).to_string())
            }
            _ => None,
        };
        async move { answered.map_or_else(|| answer(404, r#"{"msg": "not found"}"#), |text| answer(200, text)) }
    })
    .await;
    (proxy_with(to, Cryptor::Encrypted(key(0))).await, seen, text)
}

/// The caller's task is 7, its organization 2.
const TASKS: &[(u64, &str)] = &[
    (7, r#"{"id": 7, "parent": null, "init_org": {"id": 1}, "image": "i"}"#),
    (
        9,
        r#"{"id": 9, "parent": {"id": 7, "link": "/api/task/7"}, "init_org": {"id": 2, "link": "/api/organization/2"}, "image": "i"}"#,
    ),
    (10, r#"{"id": 10, "parent": {"id": 8}, "init_org": {"id": 2}, "image": "i"}"#),
    (11, r#"{"id": 11, "parent": null, "init_org": {"id": 2}, "image": "i"}"#),
    // Created by another node that runs the caller's task.
    (12, r#"{"id": 12, "parent": {"id": 7}, "init_org": {"id": 1}, "image": "i"}"#),
    // A subtask of a subtask.
    (13, r#"{"id": 13, "parent": {"id": 9}, "init_org": {"id": 2}, "image": "i"}"#),
    // Forms that no server sends.
    (20, r#"{"id": 20, "parent": 7, "init_org": {"id": 2}, "image": "i"}"#),
    (21, r#"{"id": 21, "parent": {"id": "7"}, "init_org": {"id": 2}, "image": "i"}"#),
    (22, r#"{"id": 9, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}"#),
    (23, r#"{"id": 23, "parent": {"id": 7}, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "i"}"#),
    (24, r#"[24, {"id": 7}, {"id": 2}]"#),
    (25, r#"{"id": 25, "parent": {"id": 7.0}, "init_org": {"id": 2}, "image": "i"}"#),
    (26, r#"{"id": 26, "data": {"parent": {"id": 7}}}"#),
    (27, "no task"),
    // Another image: the caller's task was deleted, and its id reused for a task of another job.
    (28, r#"{"id": 28, "parent": {"id": 7}, "init_org": {"id": 2}, "image": "j"}"#),
    (29, r#"{"id": 29, "parent": {"id": 7}, "init_org": {"id": 2}}"#),
];

fn plain() -> String {
    STANDARD.encode(SECRET)
}

#[tokio::test]
async fn a_subtask_of_the_callers_is_read() {
    let (proxy, _, _) = tasks(TASKS).await;
    for path in
        ["/result?task_id=9", "/result?page=1&task_id=9", "/api/result?task_id=9&per_page=5", "/result?task%5Fid=%39"]
    {
        let got = proxy.get(path).await;
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(got.json()["data"].as_array().unwrap().len(), 1, "{path}");
        assert_eq!(got.json()["data"][0]["result"], plain(), "{path}");
        assert_eq!(got.json()["links"]["first"], "/result?page=1");
    }
    assert_eq!(proxy.get("/result/90").await.json()["result"], plain());
}

#[tokio::test]
async fn nothing_else_is_read() {
    let (proxy, _, text) = tasks(TASKS).await;
    for (task, _) in TASKS.iter().filter(|(task, _)| *task != 9) {
        let got = proxy.get(&format!("/result?task_id={task}")).await;
        assert_eq!(got.json()["data"][0]["result"], text, "task {task}");
        let got = proxy.get(&format!("/result/{task}0")).await;
        assert_eq!(got.json()["result"], text, "task {task}");
    }
    for query in [
        "",
        "?",
        "?per_page=50",
        "?task_id=",
        "?task_id=10&task_id=9",
        "?task_id=9&task_id=10",
        "?task_id=9&task%5fid=10",
        "?task_id=09",
        "?task_id=%209",
        "?task_id=9%20",
        "?task_id=%2B9",
        "?task_id=9.0",
        "?task_id=9,10",
        "?TASK_ID=9",
        "?task_id[]=9",
        "?task_id=9;task_id=10",
        "?include=task&organization_id=2",
        "?parent_id=7",
    ] {
        let got = proxy.get(&format!("/result{query}")).await;
        assert!(!got.text().contains(&plain()), "{query}: {}", got.text());
    }
}

/// Neither an answer nor an ownership finding for one caller is given to another.
#[tokio::test]
async fn another_caller_gets_nothing_of_it() {
    let (proxy, _, text) = tasks(TASKS).await;
    let ask = |claims: &str, path: &str| {
        proxy.send(Request::get(path).header(header::AUTHORIZATION, bearer(claims)).body(Full::default()).unwrap())
    };
    for path in ["/result?task_id=9", "/result/90"] {
        for claims in [
            ALGORITHM.replace("\"task_id\":7", "\"task_id\":8"),
            ALGORITHM.replace("\"task_id\":7", "\"task_id\":null"),
            ALGORITHM.replace("\"task_id\":7,", ""),
            ALGORITHM.replace("\"organization_id\":2", "\"organization_id\":1"),
            r#"{"client_type":"container","sub":"7"}"#.to_owned(),
        ] {
            let (own, others) = tokio::join!(proxy.get(path), ask(&claims, path));
            assert!(own.text().contains(&plain()), "{claims}");
            assert!(others.text().contains(&text) && !others.text().contains(&plain()), "{claims}: {}", others.text());
        }
    }
}

/// The same text elsewhere is not a result of the caller.
#[tokio::test]
async fn only_results_in_their_place_are_read() {
    let text = message(SECRET.to_vec(), 0).await;
    let own = json!({ "id": 9, "parent": { "id": 7 }, "init_org": { "id": 2 }, "image": "i" }).to_string();
    for (page, path) in [
        (json!({ "data": [{ "result": text, "task": { "id": 10 } }] }), "/result?task_id=9"),
        (json!({ "data": [{ "result": text }] }), "/result?task_id=9"),
        (json!({ "data": [{ "task": { "id": 9, "result": text } }] }), "/result?task_id=9"),
        (json!({ "data": [], "links": { "result": text } }), "/result?task_id=9"),
        (json!({ "result": text, "data": [], "task": { "id": 9 } }), "/result?task_id=9"),
        (json!({ "result": text, "task": { "id": 10 } }), "/result/90"),
        (json!([{ "result": text, "task": { "id": 9 } }]), "/result/90"),
        (json!({ "data": [{ "result": text, "task": { "id": 9 } }] }), "/result/90"),
        (json!({ "id": 9, "results": [{ "result": text, "task": { "id": 9 } }] }), "/task/9?include=results"),
        (json!({ "data": [{ "result": text, "task": { "id": 9 } }] }), "/run?task_id=9"),
        (json!({ "data": [{ "result": text, "task": { "id": 9 } }] }), "/task?result"),
    ] {
        let (own, page) = (own.clone(), page.to_string());
        let asked = path.split('?').next().unwrap().to_owned();
        let (to, _) = server(move |request, _| {
            let said = match request.uri().to_string().as_str() {
                "/api/task/9" => own.clone(),
                "/api/run/90" => r#"{"task": {"id": 9}}"#.to_owned(),
                whole if whole.contains(&asked) => page.clone(),
                _ => "{}".to_owned(),
            };
            async move { answer(200, said) }
        })
        .await;
        let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
        let got = proxy.get(path).await;
        assert!(got.text().contains(&text) && !got.text().contains(&plain()), "{path}: {}", got.text());
    }
}

/// Partial, encoded and non-JSON answers pass unchanged, too.
#[tokio::test]
async fn other_forms_of_an_answer_pass_as_they_are() {
    let text = message(SECRET.to_vec(), 0).await;
    let page = json!({ "data": [result(90, 9, &text)] }).to_string();
    for (status, name, value) in
        [(200, "content-encoding", "gzip"), (206, "content-range", "bytes 0-9/10"), (200, "content-type", "text/json")]
    {
        let given = page.clone();
        let (to, _) = server(move |request, _| {
            let own = request.uri().path() == "/api/task/9";
            let mut said =
                answer(if own { 200 } else { status }, if own { TASKS[1].1.to_owned() } else { given.clone() });
            if !own {
                said.headers_mut().insert(http::HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            async move { said }
        })
        .await;
        let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
        assert_eq!(proxy.get("/result?task_id=9").await.text(), page, "{name}");
    }
    let (proxy, _, text) = tasks(TASKS).await;
    let got = proxy.ask("HEAD", "/result?task_id=9", "").await;
    assert_eq!((got.status.as_u16(), got.text()), (200, ""));
    let length: usize = got.headers[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    assert!(length > text.len(), "of what the server has");
}

/// The proxy asks once for all pages of a task whether the task is the caller's. If the server fails then, the algorithm gets the error
/// and not an encrypted result.
#[tokio::test]
async fn whose_task_it_is_is_asked_seldom_and_surely() {
    let (proxy, seen, _) = tasks(TASKS).await;
    for page in 1..=3 {
        proxy.get(&format!("/result?task_id=9&page={page}")).await;
        proxy.get(&format!("/result?task_id=10&page={page}")).await;
    }
    assert_eq!(seen.count(), 6 + 2);
    for request in seen.requests.lock().iter() {
        assert_eq!(request.headers()[header::AUTHORIZATION], bearer(ALGORITHM));
    }
    let (to, _) = server(|request, _| async move {
        let fails = request.uri().path().starts_with("/api/task");
        answer(if fails { 500 } else { 200 }, r#"{"msg": "the server's own words"}"#)
    })
    .await;
    let proxy = proxy_with(to, Cryptor::Encrypted(key(0))).await;
    let got = proxy.get("/result?task_id=9").await;
    assert_eq!((got.status.as_u16(), got.text()), (500, r#"{"msg": "the server's own words"}"#));
}
