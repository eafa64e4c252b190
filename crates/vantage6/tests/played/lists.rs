//! Lists of runs.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use vantage6::{Error, OpenRuns, Run, RunId, RunStatus, TaskId};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{path, query_param},
};

use crate::*;

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
