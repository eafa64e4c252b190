//! Checks that a response takes no more memory than a small multiple of its text, whatever it contains. Runs in its own process,
//! because it reads the process's peak memory.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

use futures_util::StreamExt as _;
use serde_json::json;
use vantage6::{Backoff, Client, OpenRuns, RunId, ServerUrl, TaskId};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

/// Of one field.
const SIZE: usize = 2 * 1024 * 1024;

fn run() -> String {
    json!({
        "id": 1, "status": "pending", "input": "YQ==", "log": "x", "assigned_at": null, "started_at": null, "finished_at": null,
        "organization": {"id": 1}, "blob_storage_used": false,
        "task": {
            "id": 1, "name": "n", "image": "i", "created_at": null, "job_id": 1, "parent": null, "init_org": {"id": 1},
            "init_user": {"id": 1}, "collaboration": {"id": 1}, "study": null, "algorithm_store": null, "databases": [],
        },
    })
    .to_string()
}

/// What grows most where it is read into a tree, and what grows most where it is read into a list.
fn fillers() -> [(&'static str, String); 4] {
    let many = |piece: &str| vec![piece; SIZE / (piece.len() + 1)].join(",");
    let entries: Vec<String> = (0..SIZE / 12).map(|at| format!("\"{at:06}\":[]")).collect();
    [
        ("objects", format!("[{}]", many(r#"{"":0}"#))),
        ("an object", format!("{{{}}}", entries.join(","))),
        ("a text", format!("\"{}\"", "x".repeat(SIZE))),
        ("databases", format!("[{}]", many(r#"{"label":"a"}"#))),
    ]
}

#[tokio::test]
async fn no_field_of_an_answer_takes_many_times_its_text() {
    const FIELDS: [&str; 22] = [
        "status",
        "input",
        "log",
        "assigned_at",
        "started_at",
        "finished_at",
        "organization",
        "blob_storage_used",
        "task",
        "name",
        "image",
        "created_at",
        "job_id",
        "parent",
        "init_org",
        "init_user",
        "collaboration",
        "study",
        "algorithm_store",
        "databases",
        "id",
        "unknown",
    ];
    for (what, filler) in fillers() {
        for field in FIELDS {
            // Of two fields of one name, the run's and the task's, both.
            let mut text = serde_json::from_str::<serde_json::Value>(&run()).unwrap();
            let mark = json!("the filler");
            match field {
                "unknown" => text["task"]["unknown"] = mark,
                "id" => text["task"]["id"] = mark,
                field if text.get(field).is_some() => text[field] = mark,
                field => text["task"][field] = mark,
            }
            let one = text.to_string().replace("\"the filler\"", &filler);
            let page = format!(r#"{{"data":[{one}],"links":{{"next":null}}}}"#);
            let task =
                one.split_once(r#""task":"#).map_or("{}".to_owned(), |(_, task)| task[..task.len() - 1].to_owned());
            let server = MockServer::start().await;
            let answer = |text: String| ResponseTemplate::new(200).set_body_raw(text, "application/json");
            let token = answer(r#"{"access_token": "token", "node_url": "/api/node/1"}"#.into());
            Mock::given(method("POST")).and(path("/api/token/node")).respond_with(token).mount(&server).await;
            Mock::given(path("/api/run")).respond_with(answer(page)).mount(&server).await;
            Mock::given(path("/api/run/1")).respond_with(answer(one)).mount(&server).await;
            Mock::given(path("/api/task/1")).respond_with(answer(task)).mount(&server).await;
            let url = ServerUrl::new(&server.uri(), None, "/api").unwrap();
            let client = Client::builder(url, "key".to_owned().into()).backoff(Backoff::never()).build().unwrap();
            client.access_token().await.unwrap();
            // Forgets the most that was.
            memory_testing::reset_peak();
            let before = memory_testing::now();
            let mut runs = Box::pin(client.open_runs(OpenRuns::default()));
            while runs.next().await.is_some() {}
            let _ = client.run(RunId(1)).await;
            let _ = client.task_origin(TaskId(1)).await;
            let grown = memory_testing::peak() - before;
            assert!(grown < 24, "{what} in {field}: it took {grown} MiB");
        }
    }
}
