//! What a client's observer receives.
#![allow(clippy::disallowed_types, reason = "only tests use it, without another dependency")]

use std::sync::{Arc, Mutex};

use crate::*;

#[tokio::test]
async fn each_request_is_told_with_its_answer_or_without_one() {
    let server = server(600).await;
    let run = json!({"id": 9, "finished_at": "2024-01-02T03:04:05"});
    Mock::given(path("/api/run/9"))
        .and(method("PATCH"))
        .respond_with(ResponseTemplate::new(200).set_body_json(run))
        .mount(&server)
        .await;
    let told = Arc::<Mutex<Vec<String>>>::default();
    let observed = |address: &str| {
        let told = told.clone();
        let observer = move |end: &vantage6::RequestEnd<'_>| {
            // Whoever answers tells the time; nobody shows a certificate without TLS.
            assert_eq!((end.date.is_some(), end.certificate), (end.status.is_some(), None));
            told.lock().unwrap().push(format!("{} {} {:?}", end.method, end.path, end.status));
        };
        client_at(address).observer(observer)
    };
    let client = observed(&server.uri()).build().unwrap();
    client.task_origin(vantage6::TaskId(4)).await.unwrap_err();
    client.finish_run(vantage6::RunId(9), RunReport::now(RunStatus::Completed, "")).await.unwrap();
    let away = observed("http://127.0.0.1:1").backoff(Backoff::never()).build().unwrap();
    away.node_id().await.unwrap_err();
    assert_eq!(
        *told.lock().unwrap(),
        ["POST token/node Some(200)", "GET task/4 Some(404)", "PATCH run/9 Some(200)", "POST token/node None"]
    );
}
