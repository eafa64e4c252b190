//! Tests tokens that have outlived their task. Tokens never expire, and some servers reuse the ids of deleted tasks; a token must count
//! only for the task that it was issued for.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::encrypted::{key, message};
use super::fake_server::{Seen, server};
use super::*;
use crate::ownership::{self, OwnerCache};

const SECRET: &[u8] = b"a result of the later task's";
/// A second before the token of these tests was issued, which is 2023-11-14T22:13:20.
const BEFORE: &str = "2023-11-14T22:13:19.123456";

/// The server's answer about the task that has the id now.
fn own(created_at: &str, image: &str) -> Value {
    json!({ "id": 7, "parent": null, "job_id": 3, "init_org": { "id": 1 }, "image": image, "created_at": created_at })
}

fn without(mut task: Value, name: &str) -> Value {
    task.as_object_mut().unwrap().remove(name);
    task
}

/// A proxy without cached findings, and a server with this answer about the caller's own task.
async fn with_own(status: u16, own: String, cryptor: Cryptor) -> (Served, Seen) {
    let text = message(SECRET.to_vec(), 0).await;
    let (to, seen) = server(move |request, _| {
        let (status, said) = match (request.method().as_str(), request.uri().path()) {
            (_, "/api/task/7") => (status, own.clone()),
            ("POST", _) => (201, r#"{"id": 9}"#.to_owned()),
            (_, "/api/task/9") => {
                (200, json!({ "id": 9, "parent": { "id": 7 }, "init_org": { "id": 2 }, "image": "i" }).to_string())
            }
            (_, "/api/result") => (200, json!({ "data": [{ "result": text, "task": { "id": 9 } }] }).to_string()),
            _ => (200, json!({ "id": 2, "name": "x", "public_key": key(0).public().to_server() }).to_string()),
        };
        async move { answer(status, said) }
    })
    .await;
    (proxy_of(to, cryptor, |settings| settings.owners = OwnerCache::default()).await, seen)
}

fn posts(seen: &Seen) -> usize {
    seen.requests.lock().iter().filter(|request| request.method() == "POST").count()
}

#[tokio::test]
async fn a_token_of_its_task_gets_its_results_and_makes_subtasks() {
    for created_at in [BEFORE, "2020-01-01T00:00:00", "2023-11-14T22:13:20.999999", "2023-11-14T22:13:20+00:00"] {
        let own = own(created_at, "i").to_string();
        let (proxy, seen) = with_own(200, own.clone(), Cryptor::Encrypted(key(0))).await;
        for _ in 0..3 {
            let got = proxy.get("/result?task_id=9").await;
            assert_eq!(got.json()["data"][0]["result"], STANDARD.encode(SECRET), "{created_at}");
        }
        let task = json!({ "image": "i", "organizations": [{ "id": 2 }] }).to_string();
        assert_eq!(proxy.ask("POST", "/task", task).await.status, 201, "{created_at}");
        let looks = seen.requests.lock().iter().filter(|seen| seen.uri().path() == "/api/task/7").count();
        assert_eq!(looks, 1, "once for a token");
        let (proxy, _) = with_own(200, own, Cryptor::Plain).await;
        assert_eq!(proxy.ask("POST", "/task", TASK).await.status, 201, "{created_at}");
        assert_eq!(proxy.ask("POST", "/blobstream", "a blob").await.status, 201, "{created_at}");
    }
}

#[tokio::test]
async fn a_token_of_an_earlier_task_of_the_number_gets_nothing_of_the_later_one() {
    for own in [
        own("2023-11-14T22:13:23", "i"),
        own("2026-01-01T00:00:00.000001", "i"),
        own(BEFORE, "j"),
        own(BEFORE, ""),
        own("yesterday", "i"),
        without(own(BEFORE, "i"), "created_at"),
        without(own(BEFORE, "i"), "image"),
        json!({ "id": 8, "parent": null, "image": "i", "created_at": BEFORE }),
        json!([own(BEFORE, "i")]),
        json!({ "id": 7, "data": own(BEFORE, "i") }),
    ] {
        for cryptor in [Cryptor::Encrypted(key(0)), Cryptor::Plain] {
            let is_encrypted = cryptor.is_encrypted();
            let (proxy, seen) = with_own(200, own.to_string(), cryptor).await;
            let got = proxy.get("/result?task_id=9").await;
            assert!(!got.text().contains(&STANDARD.encode(SECRET)), "{own}: {}", got.text());
            let task = json!({ "image": "i", "organizations": [{ "id": 2 }] }).to_string();
            let got = proxy.ask("POST", "/task", task).await;
            assert_eq!((got.status.as_u16(), posts(&seen)), (403, 0), "{own}, encrypted: {is_encrypted}");
            assert!(got.text().contains("another task"), "{}", got.text());
            let got = proxy.ask("POST", "/blobstream", "a blob").await;
            assert_eq!((got.status.as_u16(), posts(&seen)), (403, 0), "a blob, {own}");
        }
    }
}

/// Ranges and conditions in a caller's request are not copied to the proxy's own queries.
#[tokio::test]
async fn the_proxys_own_questions_have_nothing_of_the_callers_but_its_token() {
    const WISHES: [(&str, &str); 8] = [
        ("range", "bytes=0-1"),
        ("if-match", "\"x\""),
        ("if-none-match", "*"),
        ("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("if-unmodified-since", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("accept-encoding", "gzip"),
        ("accept", "text/html"),
        ("content-encoding", "identity"),
    ];
    let own = own(BEFORE, "i").to_string();
    let (proxy, seen) = with_own(200, own, Cryptor::Encrypted(key(0))).await;
    let ask = |method: &str, path: &str, body: String| {
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, bearer(ALGORITHM));
        let request = WISHES.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        proxy.send(request.body(Full::new(body.into())).unwrap())
    };
    ask("GET", "/result?task_id=9", String::new()).await;
    ask("POST", "/task", json!({ "image": "i", "organizations": [{ "id": 4, "input": "YQ==" }] }).to_string()).await;
    let mut looks = Vec::new();
    for request in seen.requests.lock().iter() {
        let path = request.uri().path().to_owned();
        if path == "/api/result" || request.method() == "POST" {
            continue;
        }
        assert_eq!(request.headers()[header::AUTHORIZATION], bearer(ALGORITHM), "{path}");
        let sent = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        for (name, _) in WISHES {
            let expected = match name {
                "accept" => Some("application/json"),
                "accept-encoding" => Some("identity"),
                _ => None,
            };
            assert_eq!(sent(name), expected, "{path} {name}");
        }
        looks.push(path);
    }
    assert_eq!(looks, ["/api/task/9", "/api/organization/2", "/api/task/7", "/api/organization/4"]);
}

/// If the server does not return the task, the algorithm gets the server's answer; nothing is sent or decrypted.
#[tokio::test]
async fn the_servers_word_about_the_task_is_passed_on() {
    for status in [401, 403, 404, 501] {
        for cryptor in [Cryptor::Encrypted(key(0)), Cryptor::Plain] {
            let (proxy, seen) = with_own(status, r#"{"msg": "its words"}"#.into(), cryptor).await;
            let got = proxy.ask("POST", "/task", TASK).await;
            assert_eq!((got.status.as_u16(), got.text(), posts(&seen)), (status, r#"{"msg": "its words"}"#, 0));
            let got = proxy.get("/result?task_id=9").await;
            assert!(!got.text().contains(&STANDARD.encode(SECRET)), "{status}: {}", got.text());
        }
    }
}

/// A token without a task or an issue time.
#[tokio::test]
async fn a_token_that_does_not_say_enough_makes_no_subtasks() {
    for claims in [
        ALGORITHM.replace("\"task_id\":7,", ""),
        ALGORITHM.replace("\"iat\":1700000000,", ""),
        ALGORITHM.replace("\"iat\":1700000000", "\"iat\":\"1700000000\""),
        ALGORITHM.replace("\"iat\":1700000000", "\"iat\":9300000000000000000"),
    ] {
        let (proxy, seen) = with_own(200, own(BEFORE, "i").to_string(), Cryptor::Plain).await;
        let request = Request::post("/task").header(header::AUTHORIZATION, bearer(&claims)).body(TASK.into()).unwrap();
        assert_eq!((proxy.send(request).await.status.as_u16(), posts(&seen)), (403, 0), "{claims}");
    }
}

/// A leaked token is useless at the proxy once its task is completed.
#[tokio::test]
async fn a_token_of_a_completed_task_gets_nothing_decrypted_and_makes_no_subtasks() {
    // A task is `failed` as soon as one of its runs is; other runs may continue.
    let statuses = [("completed", false), ("active", true), ("pending", true), ("failed", true), ("crashed", true)];
    for (status, is_served) in statuses {
        let mut own = own(BEFORE, "i");
        own["status"] = status.into();
        for cryptor in [Cryptor::Encrypted(key(0)), Cryptor::Plain] {
            let is_encrypted = cryptor.is_encrypted();
            let (proxy, seen) = with_own(200, own.to_string(), cryptor).await;
            for _ in 0..2 {
                let got = proxy.get("/result?task_id=9").await;
                let is_decrypted = got.text().contains(&STANDARD.encode(SECRET));
                assert_eq!((got.status.as_u16(), is_decrypted), (200, is_served && is_encrypted), "{status}");
            }
            let task = json!({ "image": "i", "organizations": [{ "id": 2 }] }).to_string();
            let got = proxy.ask("POST", "/task", task).await;
            let expected = if is_served { (201, 1) } else { (403, 0) };
            assert_eq!((got.status.as_u16(), posts(&seen)), expected, "{status}, encrypted: {is_encrypted}");
            assert!(is_served || got.text().contains("task is completed"), "{}", got.text());
            let got = proxy.ask("POST", "/blobstream", "a blob").await;
            let expected = (expected.0, 2 * expected.1);
            assert_eq!((got.status.as_u16(), posts(&seen)), expected, "a blob, {status}, encrypted: {is_encrypted}");
        }
    }
}

/// Returns the current time of a database whose clock is this many minutes ahead of UTC.
fn minutes_from_now(minutes: i64) -> String {
    vantage6::to_server(jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes))
}

/// A token that was issued just now.
fn fresh(task: u64) -> HeaderValue {
    made(task, 0)
}

/// A token that was issued this many minutes ago.
fn made(task: u64, minutes: i64) -> HeaderValue {
    let now = jiff::Timestamp::now().as_second() - 60 * minutes;
    let claims = ALGORITHM.replace("\"iat\":1700000000", &format!("\"iat\":{now}"));
    bearer(&claims.replace("\"task_id\":7", &format!("\"task_id\":{task}")))
}

/// A proxy, and a server with tasks of these creation times; `/task` lists the newest.
async fn created(tasks: &[(u64, i64)], cryptor: Cryptor) -> (Served, Seen) {
    let tasks: Vec<(u64, String)> = tasks.iter().map(|(id, minutes)| (*id, minutes_from_now(*minutes))).collect();
    let (to, seen) = server(move |request, _| {
        let of = |(id, created_at): &(u64, String)| {
            json!({ "id": id, "parent": null, "job_id": 3, "image": "i", "created_at": created_at })
        };
        let path = request.uri().path();
        let said = match (request.method().as_str(), path) {
            ("POST", _) => json!({ "id": 9 }),
            (_, "/api/collaboration/1") => json!({ "id": 1, "name": "x", "encrypted": false }),
            (_, "/api/task") => json!({ "data": tasks.iter().rev().take(4).map(of).collect::<Vec<_>>() }),
            _ if path.starts_with("/api/task/") => {
                tasks.iter().find(|(id, _)| path.ends_with(&format!("/{id}"))).map_or(Value::Null, of)
            }
            _ => json!({ "id": 2, "name": "x", "public_key": key(0).public().to_server() }),
        };
        let status = if request.method() == "POST" { 201 } else { 200 };
        async move { answer(status, said.to_string()) }
    })
    .await;
    (proxy_of(to, cryptor, |settings| settings.owners = OwnerCache::default()).await, seen)
}

async fn subtask_of(proxy: &Served, task: u64) -> u16 {
    let task_text = json!({ "image": "i", "organizations": [{ "id": 2 }] }).to_string();
    let request = Request::post("/task").header(header::AUTHORIZATION, fresh(task)).body(task_text.into()).unwrap();
    proxy.send(request).await.status.as_u16()
}

/// A server 4.15.2 on PostgreSQL writes a task's time in the database's time zone.
#[tokio::test]
async fn a_database_ahead_of_utc_does_not_keep_honest_algorithms_from_their_subtasks() {
    let cryptors: [fn() -> Cryptor; 2] = [|| Cryptor::Encrypted(key(0)), || Cryptor::Plain];
    for cryptor in cryptors {
        for zone in [-600, -60, 0, 30, 60, 330, 840] {
            // The task was created a minute ago.
            let (proxy, _) = created(&[(7, zone - 1)], cryptor()).await;
            assert_eq!(subtask_of(&proxy, 7).await, 201, "{zone}");
        }
        // The algorithm has run for two hours, and the proxy is new. A more recent task reveals the clock.
        let (proxy, seen) = created(&[(7, 60 - 121), (8, 60 - 2)], cryptor()).await;
        let task = json!({ "image": "i", "organizations": [{ "id": 2 }] }).to_string();
        let request = Request::post("/task").header(header::AUTHORIZATION, made(7, 120)).body(task.into()).unwrap();
        assert_eq!(proxy.send(request).await.status, 201);
        assert!(seen.requests.lock().iter().any(|seen| seen.uri().query() == Some("sort=-id&per_page=4")));
    }
}

/// A finding about the clock is permanent.
#[tokio::test]
async fn a_long_central_function_goes_on_where_the_clock_is_known() {
    let (proxy, _) = created(&[(7, 60 - 1), (8, 30)], Cryptor::Plain).await;
    assert_eq!(subtask_of(&proxy, 7).await, 201);
    assert_eq!(subtask_of(&proxy, 8).await, 201);
}

/// With UTC times, no task is created in the future, whatever users and algorithms create and delete.
#[tokio::test]
async fn nobody_teaches_the_proxy_another_clock_where_times_are_utc() {
    let old = bearer(&ALGORITHM.replace("1700000000", &(jiff::Timestamp::now().as_second() - 3600).to_string()));
    for minutes in [-59, -30, -1, 0, 1, 5] {
        let (proxy, seen) = created(&[(7, minutes), (8, minutes), (9, 0)], Cryptor::Plain).await;
        assert_eq!(subtask_of(&proxy, 9).await, 201);
        let request = Request::post("/task").header(header::AUTHORIZATION, &old).body(TASK.into()).unwrap();
        assert_eq!((proxy.send(request).await.status.as_u16(), posts(&seen)), (403, 1), "{minutes}");
        assert!(!proxy.shared.database_clock.is_ahead());
    }
}

/// While a server is slow, an id may be reused for another task between the ownership check and the results.
#[tokio::test]
async fn what_a_slow_answer_is_about_is_looked_at_again() {
    for (later, is_decrypted) in [("i", true), ("j", false)] {
        let text = message(SECRET.to_vec(), 0).await;
        let is_answered = Arc::new(AtomicBool::new(false));
        let (to, _) = server(move |request, _| {
            let (path, text, is_answered) = (request.uri().path().to_owned(), text.clone(), is_answered.clone());
            async move {
                if path == "/api/result" {
                    tokio::time::sleep(ownership::TTL + Duration::from_millis(200)).await;
                    is_answered.store(true, SeqCst);
                }
                let image = if is_answered.load(SeqCst) { later } else { "i" };
                let said = match path.as_str() {
                    "/api/task/7" => own(BEFORE, "i"),
                    "/api/task/9" => json!({ "id": 9, "parent": { "id": 7 }, "init_org": { "id": 2 }, "image": image }),
                    "/api/result" => json!({ "data": [{ "result": text, "task": { "id": 9 } }] }),
                    _ => json!({ "id": 2, "name": "x", "public_key": key(0).public().to_server() }),
                };
                answer(200, said.to_string())
            }
        })
        .await;
        let proxy = proxy_of(to, Cryptor::Encrypted(key(0)), |settings| {
            settings.owners = OwnerCache::default();
            settings.timeouts.idle = Duration::from_secs(20);
        })
        .await;
        let got = proxy.get("/result?task_id=9").await;
        assert_eq!(got.status, 200);
        assert_eq!(got.text().contains(&STANDARD.encode(SECRET)), is_decrypted, "{}", got.text());
    }
}
