//! Lists of runs.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use vantage6::{Error, OpenRuns, Run, RunId, RunStatus, StoreId, TaskId};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{path, query_param},
};

use crate::*;

/// A run as 4.5.5 describes it.
fn run(id: u64) -> Value {
    let link = |id: u64| json!({"id": id, "link": format!("/api/x/{id}"), "methods": ["GET"]});
    json!({
        "id": id, "status": "pending", "input": "YWJj", "log": "what it printed", "assigned_at": "2024-01-02T03:04:05.678901", "started_at": null,
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
    assert_eq!(newer.log, None, "nobody reads it, and thousands may be kept");
    assert_eq!((&newer.status, newer.organization.0), (&RunStatus::Other("paused".into()), 3));
    assert_eq!(
        (newer.task.parent, newer.task.init_user, newer.task.algorithm_store),
        (Some(TaskId(77)), None, Some(StoreId(2)))
    );
    assert_eq!(newer.task.databases.kept[0].parameters.as_deref(), Some(r#"{"query":"x"}"#));
    assert_eq!(newer.task.databases.kept[1].parameters, None);
    assert!(newer.finished_at.is_some() && newer.input.is_none());
    assert!(runs[1].as_ref().unwrap_err().to_string().starts_with("run 8: "), "{}", runs[1].as_ref().unwrap_err());
}

/// Servers since 4.10.1 have the logs of runs that are under way: all of them may be larger than a page is read.
#[tokio::test]
async fn logs_in_a_list_are_not_read() {
    let server = server(600).await;
    let long = |id| {
        changed(run(id), |run| {
            run["log"] = json!("a \"line\" \u{1b}[31m\n".repeat(100_000));
            run["task"]["databases"] = json!([{"label": "a", "parameters": {"log": "of trees"}}]);
        })
    };
    let data: Vec<Value> = (1..=20).map(long).collect();
    Mock::given(path("/api/run"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"data": data, "links": {}})))
        .expect(1)
        .mount(&server)
        .await;
    let (runs, errors) = all_of(client_at(&server.uri()).build().unwrap()).await;
    assert_eq!((runs.len(), errors.len()), (20, 0), "{errors:?}");
    let parameters = runs[0].task.databases.kept[0].parameters.as_deref();
    assert!(parameters.is_some_and(|text| text.contains("of trees")), "{parameters:?}");
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

/// A list of these many runs, each with a name or parameters of some length, in the pages that are asked for; without an
/// end if there is none.
fn list(
    end: Option<u64>,
    run: impl Fn(u64) -> String + Send + Sync + 'static,
) -> impl Fn(&wiremock::Request) -> ResponseTemplate + Send + Sync + 'static {
    move |request: &wiremock::Request| {
        let number = |name: &str| {
            let mut pairs = request.url.query_pairs();
            pairs.find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<u64>().ok()).unwrap()
        };
        let (page, size) = (number("page"), number("per_page"));
        let (from, to) = ((page - 1) * size, (page * size).min(end.unwrap_or(u64::MAX)));
        let runs: Vec<String> = (from..to).map(&run).collect();
        let next = if end.is_none_or(|end| to < end) { r#"{"next": "/x"}"# } else { "{}" };
        let body = format!(r#"{{"data": [{}], "links": {next}}}"#, runs.join(","));
        ResponseTemplate::new(200).set_body_raw(body, "application/json")
    }
}

/// The text of a run.
fn text(id: u64, name: usize, parameters: usize) -> String {
    let (name, parameters) = ("n".repeat(name), "p".repeat(parameters));
    format!(
        r#"{{"id": {id}, "status": "pending", "organization": 3, "task": {{"id": 1, "name": "{name}", "image": "i", "job_id": 5,
            "init_org": 3, "collaboration": 1, "databases": [{{"label": "a", "parameters": "{parameters}"}}]}}}}"#
    )
}

/// All runs of a list, and what ended it.
async fn all_of(client: vantage6::Client) -> (Vec<Run>, Vec<Error>) {
    let (mut runs, mut errors) = (Vec::new(), Vec::new());
    let mut list = std::pin::pin!(client.open_runs(OpenRuns::default()));
    while let Some(run) = list.next().await {
        match run {
            Ok(run) => runs.push(run),
            Err(error) => errors.push(error),
        }
    }
    (runs, errors)
}

#[tokio::test]
async fn a_list_without_an_end_is_ended_and_what_came_of_it_is_kept() {
    // Of new runs, of the same ones, and of large ones.
    let small = list(None, |id| text(id, 0, 0));
    let circle = list(None, |id| text(id % 10, 0, 0));
    let large = list(None, |id| text(id, 0, 50_000));
    let broken = list(None, |_| "0".to_owned());
    let table: [(Box<dyn wiremock::Respond>, _); 4] = [
        (Box::new(small), 100_000..101_000),
        (Box::new(circle), 10..11),
        (Box::new(large), 1_300..1_700),
        (Box::new(broken), 0..1),
    ];
    for (answers, expected) in table {
        let server = server(600).await;
        Mock::given(path("/api/run"))
            .respond_with(move |request: &wiremock::Request| answers.respond(request))
            .mount(&server)
            .await;
        let (runs, errors) = all_of(client(&server)).await;
        assert!(expected.contains(&runs.len()), "{} runs", runs.len());
        assert!(matches!(errors.last(), Some(Error::EndlessList { .. })), "{:?}", errors.last());
    }
}

/// A run with so many databases, each with so many characters of parameters.
fn asks_for(id: u64, databases: usize, parameters: usize) -> String {
    let database = format!(r#"{{"label": "a", "parameters": "{}"}}"#, "p".repeat(parameters));
    let databases = vec![database; databases].join(",");
    text(id, 0, 0).replace(r#"[{"label": "a", "parameters": ""}]"#, &format!("[{databases}]"))
}

/// As a server does that is asked for runs alone: without `include=task` it says no more of a task than its number.
fn with_tasks_where_asked(run: impl Fn(u64) -> String + Send + Sync + 'static) -> impl wiremock::Respond {
    let alone = list(Some(100), |id| format!(r#"{{"id": {id}, "organization": {{"id": 3}}, "task": {{"id": 1}}}}"#));
    let whole = list(Some(100), run);
    move |request: &wiremock::Request| match request.url.query().unwrap_or_default().contains("include=task") {
        true => whole(request),
        false => alone(request),
    }
}

#[tokio::test]
async fn what_is_too_large_on_one_page_hides_nothing_else() {
    let server = server(600).await;
    let run = |id| match id {
        17 => asks_for(id, 10, 30_000),
        10..30 => text(id, 0, 30_000),
        _ => text(id, 0, 10),
    };
    Mock::given(path("/api/run")).respond_with(with_tasks_where_asked(run)).mount(&server).await;
    let (runs, errors) = all_of(client_at(&server.uri()).answer_limit(100_000).build().unwrap()).await;
    let missing: Vec<u64> = (0..100).filter(|id| !runs.iter().any(|run| run.id.0 == *id)).collect();
    assert_eq!(missing, [17]);
    let [Error::OversizedRun { id, organization, limit: 100_000 }] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((id.0, organization.0), (17, 3));
    // A server that answers with too much, whatever is asked for, comes to an end too.
    let server = crate::server(600).await;
    Mock::given(path("/api/run")).respond_with(list(None, |id| asks_for(id, 10, 30_000))).mount(&server).await;
    let (runs, errors) = all_of(client_at(&server.uri()).answer_limit(100_000).build().unwrap()).await;
    assert!(runs.is_empty() && matches!(errors.last(), Some(Error::EndlessList { .. })), "{:?}", errors.last());
    assert!(errors[..errors.len() - 1].iter().all(|error| matches!(error, Error::BrokenRun { id: None, .. })));
}

/// On 4.15.2 any node may append to any run's log, and no server bounds what a task says.
#[tokio::test]
async fn no_long_text_makes_its_run_unreadable() {
    let whole = text(7, 1, 1).replace("}}", r#"}}, "log": "l", "result": "r", "input": "i", "link": "x"}"#).replacen(
        "}}, \"log",
        "}, \"log",
        1,
    );
    let long = "x".repeat(20_000_000);
    for value in [r#""n""#, r#""l""#, r#""r""#, r#""x""#, r#""p""#, r#""i""#] {
        let server = server(600).await;
        let run = whole.replace(&format!(": {value}"), &format!(r#": "{long}""#));
        assert!(run.len() > long.len(), "{value} in {whole}");
        let page = format!(r#"{{"data": [{run}], "links": {{}}}}"#);
        for (at, body) in [("/api/run", page), ("/api/run/7", run)] {
            let answer = ResponseTemplate::new(200).set_body_raw(body, "application/json");
            Mock::given(path(at)).respond_with(answer).mount(&server).await;
        }
        let (runs, errors) = all_of(client(&server)).await;
        assert!(errors.is_empty() && runs.len() == 1, "{value}: {errors:?}");
        let run = client(&server).run(vantage6::RunId(7)).await.unwrap();
        let database = &run.task.databases.kept[0];
        assert_eq!(
            (database.parameters.is_none(), database.left_out.is_some()),
            (value == r#""p""#, value == r#""p""#)
        );
        if value != r#""i""# {
            let input: Vec<_> = client(&server).input(vantage6::RunId(7)).await.unwrap().collect().await;
            assert!(input.iter().all(Result::is_ok), "{value}: {input:?}");
        }
    }
}

#[tokio::test]
async fn long_texts_are_cut_when_they_are_read() {
    let server = server(600).await;
    Mock::given(path("/api/run")).respond_with(list(Some(1), |id| text(id, 20_000, 0))).mount(&server).await;
    let (runs, _) = all_of(client(&server)).await;
    let name = runs[0].task.name.as_deref().unwrap();
    assert!(name.chars().count() == 1001 && name.ends_with('…'));
}
