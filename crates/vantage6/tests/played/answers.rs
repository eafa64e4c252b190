//! Invalid responses.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;
use vantage6::{
    Backoff, Delivery, Error, NodeId, RunId, RunReport, RunStatus,
    encoding::{self, Payload},
};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{method, path},
};

use crate::*;

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
        (error.delivery(), error.to_string().contains("the whole result was sent")),
        (Delivery::Unknown, true),
        "{error}"
    );
    let stuck = Payload::new(10, stream::once(async { Ok(Bytes::from_static(b"123")) }).chain(stream::pending()));
    let error = client
        .finish_run(RunId(3), RunReport::now(RunStatus::Completed, "").result(encoding::encode(stuck)))
        .await
        .unwrap_err();
    assert_eq!(
        (error.delivery(), error.to_string().contains("made no progress")),
        (Delivery::NotSent, true),
        "{error}"
    );
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
    assert!(error.to_string().contains("refused") && error.delivery() == Delivery::NotSent, "{error}");
}

/// The server gives the same input each time, so that these are not worth another try.
#[tokio::test]
async fn inputs_with_characters_that_no_encoded_input_has_are_errors_of_their_own() {
    let server = server(600).await;
    for (run, character) in [(1, r"\u20ac"), (2, r"\b"), (3, r"\f"), (4, r"\u0080"), (5, r"\ud83d\ude00")] {
        let body = format!(r#"{{"id": {run}, "input": "{}{character}YWJj"}}"#, "YWJj".repeat(2000));
        let answer = ResponseTemplate::new(200).set_body_string(body);
        Mock::given(method("GET")).and(path(format!("/api/run/{run}"))).respond_with(answer).mount(&server).await;
        let input = client(&server).input(RunId(run)).await.unwrap().try_collect::<Vec<Bytes>>().await;
        let error = input.unwrap_err();
        assert!(matches!(error, Error::BadInput { .. }) && !error.is_transient(), "{character}: {error:?}");
    }
}

#[tokio::test]
async fn inputs_that_do_not_arrive_whole_are_errors() {
    let server = server(600).await;
    for (run, body, text) in [
        (1, r#"{"id": 1, "input": "YW\/Jj\n", "task": {"input": "no"}}"#, Some("YW/Jj\n")),
        (2, r#"{"id": 2, "input": null}"#, Some("")),
        (3, r#"{"id": 3, "input": "YWJ"#, None),
        (4, "<html>", None),
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
