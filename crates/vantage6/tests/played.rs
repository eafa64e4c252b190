//! What the real server can't be made to do, played by a fake one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use vantage6::{
    Backoff, Client, Error, Finish, NodeId, OpenRuns, Run, RunId, RunStatus, ServerUrl, Taken, TaskId,
    encoding::{self, Payload},
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, header, method, path, query_param},
};

/// A token of node 7 that lives for so many seconds.
fn jwt(name: &str, lifetime: u64) -> String {
    let claims = json!({"sub": 7, "iat": 1_000_000, "exp": 1_000_000 + lifetime, "name": name});
    format!("eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn tokens(name: &str, lifetime: u64) -> ResponseTemplate {
    let body =
        json!({"access_token": jwt(name, lifetime), "refresh_token": jwt(&format!("refresh {name}"), 10 * lifetime)});
    ResponseTemplate::new(200).set_body_json(body)
}

fn bearer(name: &str, lifetime: u64) -> String {
    format!("Bearer {}", jwt(name, lifetime))
}

/// A server where logging in gives the token `first`.
async fn server(lifetime: u64) -> MockServer {
    let server = MockServer::start().await;
    let login = body_partial_json(json!({"api_key": "the key"}));
    Mock::given(method("POST"))
        .and(path("/api/token/node"))
        .and(login)
        .respond_with(tokens("first", lifetime))
        .mount(&server)
        .await;
    server
}

fn client_at(address: &str) -> vantage6::ClientBuilder {
    let backoff = Backoff {
        first: Duration::from_millis(10),
        longest: Duration::from_millis(50),
        patience: Some(Duration::from_secs(5)),
    };
    Client::builder(ServerUrl::new(address, None, "/api").unwrap(), "the key".to_owned().into()).backoff(backoff)
}

fn client(server: &MockServer) -> Client {
    client_at(&server.uri()).build().unwrap()
}

fn me() -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"id": 7, "name": "n", "collaboration": {"id": 1}, "organization": {"id": 2}}))
}

fn refusal(status: u16, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"msg": message}))
}

async fn count(server: &MockServer, path: &str) -> usize {
    server.received_requests().await.unwrap().iter().filter(|request| request.url.path() == path).count()
}

/// Lets time pass: for the clock by which tokens grow old.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_server_that_stumbles_is_asked_again() {
    let server = server(600).await;
    Mock::given(path("/api/node/7"))
        .respond_with(refusal(500, "An unexpected error"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(path("/api/node/7")).respond_with(ResponseTemplate::new(502)).up_to_n_times(1).mount(&server).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    assert_eq!(client(&server).whoami().await.unwrap().id, NodeId(7));
    assert_eq!((count(&server, "/api/node/7").await, count(&server, "/api/token/node").await), (4, 1));
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let server = server(600).await;
    let busy = refusal(429, "slow down").insert_header("retry-after", "1");
    Mock::given(path("/api/node/7")).respond_with(busy).up_to_n_times(1).mount(&server).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    let began = std::time::Instant::now();
    client(&server).whoami().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));

    // But not without end.
    let hours = ResponseTemplate::new(503).insert_header("retry-after", "7200");
    Mock::given(path("/api/organization/1")).respond_with(hours).mount(&server).await;
    let error = client(&server).organization(1.into()).await.unwrap_err();
    assert_eq!((error.status(), error.is_transient()), (Some(503), true));
    assert_eq!(count(&server, "/api/organization/1").await, 1);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_told() {
    let server = server(600).await;
    let page = "<html>\n<title>Down for maintenance</title></html>";
    for (at, answer, problem, status) in [
        (
            "/api/organization/1",
            ResponseTemplate::new(200).set_body_raw(page, "text/html"),
            "Down for maintenance",
            None,
        ),
        ("/api/organization/2", ResponseTemplate::new(200), "(nothing)", None),
        ("/api/organization/3", ResponseTemplate::new(200).set_body_json(json!("yes")), "yes", None),
        ("/api/organization/4", ResponseTemplate::new(404).set_body_raw(page, "text/html"), "server_url", Some(404)),
        (
            "/api/organization/5",
            ResponseTemplate::new(413).set_body_raw(page, "text/html"),
            "client_max_body_size",
            Some(413),
        ),
        (
            "/api/organization/6",
            ResponseTemplate::new(308).insert_header("location", "https://new.example/api"),
            "points to https://new.example/api",
            Some(308),
        ),
        (
            "/api/organization/7",
            ResponseTemplate::new(400)
                .set_body_json(json!({"msg": "Request body is incorrect", "errors": {"name": ["too long"]}})),
            r#"incorrect {"name":["too long"]}"#,
            Some(400),
        ),
    ] {
        Mock::given(path(at)).respond_with(answer).mount(&server).await;
        let error = client(&server).organization(at[18..].parse().unwrap()).await.unwrap_err();
        assert_eq!((error.status(), error.is_transient()), (status, false), "{error}");
        assert!(
            error.to_string().starts_with(&format!("GET {}: ", &at[5..])) && error.to_string().contains(problem),
            "{error}"
        );
        assert_eq!(count(&server, at).await, 1);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_held() {
    let server = server(600).await;
    Mock::given(path("/api/organization/1"))
        .respond_with(ResponseTemplate::new(200).set_body_string(format!("{{\"name\": \"{}\"}}", "x".repeat(300_000))))
        .mount(&server)
        .await;
    let error =
        client_at(&server.uri()).answer_limit(100_000).build().unwrap().organization(1.into()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 100_000, .. }), "{error}");
}

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
async fn secrets_are_never_told() {
    let server = MockServer::start().await;
    // Half of an answer with a token in it.
    let half = &format!("{{\"access_token\": \"{}", jwt("first", 600));
    Mock::given(path("/api/token/node"))
        .respond_with(ResponseTemplate::new(200).set_body_string(half))
        .mount(&server)
        .await;
    let client = client(&server);
    let error = client.whoami().await.unwrap_err();
    for told in [format!("{error}"), format!("{error:?}"), format!("{client:?}")] {
        assert!(!told.contains("eyJ") && !told.contains("the key"), "{told}");
    }
}

/// A run as 4.5.5 describes it.
fn run(id: u64) -> Value {
    let link = |id: u64| json!({"id": id, "link": format!("/api/x/{id}"), "methods": ["GET"]});
    json!({
        "id": id, "status": "pending", "input": "YWJj", "log": null, "assigned_at": "2024-01-02T03:04:05.678901", "started_at": null,
        "finished_at": null, "organization": link(3), "node": {"id": 7, "name": "n", "status": "online"}, "ports": [],
        "results": link(id),
        "task": {
            "id": 100 + id, "name": "t", "description": "", "image": "i", "job_id": 5, "parent": null, "init_org": link(3), "init_user": link(4),
            "collaboration": link(1), "study": null, "status": "pending", "databases": [{"label": "default", "parameters": "{}"}],
            "created_at": "2024-01-02T03:04:05", "results": "/api/result?task_id=1", "children": "/api/task?parent_id=1",
        },
    })
}

fn changed(mut run: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut run);
    run
}

#[tokio::test]
async fn one_broken_run_does_not_hide_the_others() {
    let server = server(600).await;
    let data = json!([
        run(9),
        changed(run(8), |run| run["task"]["image"] = json!(null)),
        "not a run at all",
        changed(run(6), |run| run["assigned_at"] = json!("yesterday")),
        // As 4.15 and later servers may send it: more fields, numbers for links, parameters as they are, an unknown
        // status.
        changed(run(5), |run| {
            run["blob_storage_used"] = json!(false);
            run["status"] = json!("paused");
            run["organization"] = json!(3);
            run["finished_at"] = json!("2024-01-02T03:04:05+00:00");
            run["task"]["databases"] =
                json!([{"label": "a", "parameters": {"query": "x"}, "type": "new"}, {"label": "b"}]);
            run["task"]["algorithm_store"] = json!({"id": 2, "link": ""});
            run["task"]["parent"] = json!({"id": 77});
            run["task"]["init_user"] = json!(null);
        }),
    ]);
    Mock::given(path("/api/run"))
        .and(query_param("state", "open"))
        .and(query_param("node_id", "7"))
        .and(query_param("include", "task"))
        .and(query_param("task_id", "42"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"data": data, "links": {"first": "x"}})))
        .mount(&server)
        .await;
    let which = OpenRuns { task: Some(TaskId(42)), inputs_up_to: 3 };
    let runs: Vec<Result<Run, Error>> = client(&server).open_runs(which).collect().await;
    let broken: Vec<Option<Option<RunId>>> = runs
        .iter()
        .map(|run| match run {
            Ok(_) => None,
            Err(Error::BrokenRun { id, .. }) => Some(*id),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(broken, [None, Some(Some(RunId(8))), Some(None), Some(Some(RunId(6))), None]);
    let newer = runs[4].as_ref().unwrap();
    assert_eq!((&newer.status, newer.organization.0), (&RunStatus::Other("paused".into()), 3));
    assert_eq!(
        (newer.task.parent, newer.task.init_user, newer.task.algorithm_store),
        (Some(TaskId(77)), None, Some(2))
    );
    assert_eq!(newer.task.databases[0].parameters.as_deref(), Some(r#"{"query":"x"}"#));
    assert_eq!(newer.task.databases[1].parameters, None);
    assert!(newer.finished_at.is_some() && newer.input.is_none());
    assert!(runs[1].as_ref().unwrap_err().to_string().starts_with("run 8: "), "{}", runs[1].as_ref().unwrap_err());
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_gives_each_run_once() {
    let server = server(600).await;
    let page = |ids: std::ops::Range<u64>, more: bool| {
        let data: Vec<Value> = ids.rev().map(run).collect();
        ResponseTemplate::new(200)
            .set_body_json(json!({"data": data, "links": if more { json!({"next": "/somewhere"}) } else { json!({}) }}))
    };
    // After the first page two runs began: the second page begins with the last two of the first.
    Mock::given(path("/api/run")).and(query_param("page", "1")).respond_with(page(11..21, true)).mount(&server).await;
    Mock::given(path("/api/run")).and(query_param("page", "2")).respond_with(page(5..13, false)).mount(&server).await;
    let runs: Vec<Run> = client(&server).open_runs(OpenRuns::default()).try_collect().await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id.0).collect::<Vec<_>>(), (5..21).rev().collect::<Vec<_>>());
}

/// Plays a server on bare TCP, for what HTTP libraries don't do: logs in, then reads the next request up to `read`
/// bytes of its body, answers, and closes the connection.
async fn rude_server(read: usize, answer: &'static str) -> (String, tokio::task::JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let played = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let (mut head, mut body) = (Vec::new(), Vec::new());
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let login = head.starts_with("POST /api/token/node");
            let announced = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let until = if login { announced } else { announced.min(read) };
            while body.len() < until {
                let mut piece = vec![0; (until - body.len()).min(65_536)];
                let length = connection.read(&mut piece).await.unwrap();
                assert!(length > 0, "the body ends after {} of {until} bytes", body.len());
                body.extend_from_slice(&piece[..length]);
            }
            if login {
                let tokens = json!({"access_token": jwt("first", 600)}).to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{tokens}", tokens.len());
                connection.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.ok();
            return (head, body);
        }
    });
    (address, played)
}

fn result(length: usize) -> Finish {
    let pieces = stream::iter(
        (0..length.div_ceil(10_000))
            .map(move |number| Ok(Bytes::from(vec![7; (length - number * 10_000).min(10_000)]))),
    );
    Finish::now(RunStatus::Completed, "log").result(encoding::encode(Payload::new(length as u64, pieces)))
}

#[tokio::test]
async fn a_result_goes_out_in_one_piece_of_announced_length() {
    let yes = "HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n{\"id\": 3, \"finished_at\": \"2024-01-02T03:04:05.678\" }";
    let (address, played) = rude_server(usize::MAX, yes).await;
    client_at(&address).build().unwrap().finish_run(RunId(3), result(1_000_001)).await.unwrap();
    let (head, body) = played.await.unwrap();
    assert!(head.starts_with("PATCH /api/run/3 HTTP/1.1\r\n") && !head.contains("transfer-encoding"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(encoding::decode_text(json["result"].as_str().unwrap()).unwrap(), vec![7; 1_000_001]);
}

#[tokio::test]
async fn whether_the_server_has_a_result_after_a_failure() {
    const ALL: usize = usize::MAX;
    for (name, read, answer, taken, transient) in [
        ("the connection breaks in the middle", 100_000, "", Taken::No, true),
        ("no answer", ALL, "", Taken::Perhaps, true),
        ("half of an answer", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\": 3", Taken::Perhaps, true),
        ("a proxy's page", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Taken::Perhaps, false),
        ("another run", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 4}", Taken::Perhaps, false),
        ("it did not end", ALL, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 3}", Taken::Perhaps, false),
        ("gateway timeout", ALL, "HTTP/1.1 504 Oh\r\ncontent-length: 0\r\n\r\n", Taken::Perhaps, true),
        ("too large", ALL, "HTTP/1.1 413 Oh\r\ncontent-length: 0\r\n\r\n", Taken::No, false),
        ("busy", ALL, "HTTP/1.1 429 Oh\r\ncontent-length: 0\r\n\r\n", Taken::No, true),
    ] {
        let (address, _played) = rude_server(read, answer).await;
        let error = client_at(&address).build().unwrap().finish_run(RunId(3), result(5_000_000)).await.unwrap_err();
        assert_eq!((error.taken(), error.is_transient()), (taken, transient), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_old_token_that_is_refused_at_the_end_of_a_run_is_replaced_for_the_next_attempt() {
    let server = server(6000).await;
    Mock::given(path("/api/node/7")).respond_with(me()).mount(&server).await;
    Mock::given(path("/api/token/refresh")).respond_with(tokens("second", 6000)).expect(1).mount(&server).await;
    let done = json!({"id": 3, "finished_at": "2024-01-02T03:04:05.678901"});
    Mock::given(path("/api/run/3"))
        .and(header("authorization", bearer("second", 6000)))
        .respond_with(ResponseTemplate::new(200).set_body_json(done))
        .mount(&server)
        .await;
    Mock::given(path("/api/run/3")).respond_with(refusal(401, "Token has expired")).mount(&server).await;
    let client = client(&server);

    // Refused when it is young: that is about the run, not about the token.
    client.whoami().await.unwrap();
    let error = client.finish_run(RunId(3), result(10)).await.unwrap_err();
    assert!(error.status() == Some(401) && !error.is_transient(), "{error}");

    later(100).await;
    let error = client.finish_run(RunId(3), result(10)).await.unwrap_err();
    assert!(matches!(error, Error::StaleToken { .. }) && error.is_transient() && error.taken() == Taken::No, "{error}");
    client.finish_run(RunId(3), result(10)).await.unwrap();
}

#[tokio::test]
async fn silence_ends_every_request() {
    let server = server(600).await;
    let late = me().set_delay(Duration::from_secs(60));
    Mock::given(path("/api/node/7")).respond_with(late.clone()).mount(&server).await;
    Mock::given(path("/api/run/3")).respond_with(late).mount(&server).await;
    let client =
        client_at(&server.uri()).silence(Duration::from_millis(200)).backoff(Backoff::never()).build().unwrap();
    let error = client.whoami().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.is_transient(), "{error}");
    let error = client.finish_run(RunId(3), result(10)).await.unwrap_err();
    assert_eq!(
        (error.taken(), error.to_string().contains("the whole result was sent")),
        (Taken::Perhaps, true),
        "{error}"
    );
    let stuck = Payload::new(10, stream::once(async { Ok(Bytes::from_static(b"123")) }).chain(stream::pending()));
    let error = client
        .finish_run(RunId(3), Finish::now(RunStatus::Completed, "").result(encoding::encode(stuck)))
        .await
        .unwrap_err();
    assert_eq!((error.taken(), error.to_string().contains("did not get any further")), (Taken::No, true), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_as_such() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client_at(&format!("http://{nobody}")).backoff(Backoff::never()).build().unwrap();
    let error = client.whoami().await.unwrap_err();
    assert!(
        error.to_string().starts_with("POST token/node: the connection to the server failed") && error.is_transient(),
        "{error}"
    );
    assert!(error.to_string().contains("refused") && error.taken() == Taken::No, "{error}");
}

#[tokio::test]
async fn inputs_that_do_not_arrive_whole_are_errors() {
    let server = server(600).await;
    for (run, body, text) in [
        (1, r#"{"id": 1, "input": "YW\/Jj\n", "task": {"input": "no"}}"#, Some("YW/Jj\n")),
        (2, r#"{"id": 2, "input": null}"#, Some("")),
        (3, r#"{"id": 3, "input": "YWJ"#, None),
        (4, "<html>", None),
        (5, r#"{"id": 5, "input": "\u20ac"}"#, None),
        (6, r#"{"id": 6, "input": "YWJj"} trailing"#, None),
    ] {
        let answer = ResponseTemplate::new(200).set_body_string(body);
        Mock::given(method("GET")).and(path(format!("/api/run/{run}"))).respond_with(answer).mount(&server).await;
        let input = client(&server).input(RunId(run)).await.unwrap().try_collect::<Vec<Bytes>>().await;
        match (input, text) {
            (Ok(pieces), Some(text)) => assert_eq!(pieces.concat(), text.as_bytes()),
            (Err(error), None) => assert!(matches!(error, Error::Unreadable { .. }), "{error}"),
            (input, text) => panic!("{run}: {input:?} instead of {text:?}"),
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
