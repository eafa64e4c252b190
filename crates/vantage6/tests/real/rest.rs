//! Tests of the REST side.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use vantage6::{
    Client, CollaborationId, Delivery, Error, NodeId, OpenRuns, OrganizationId, RunId, RunReport, RunStatus, ServerUrl,
    TaskId,
    encoding::{self, Payload},
};

use crate::server::{open_runs, organization, shared};

#[tokio::test]
async fn a_node_logs_in_and_learns_who_it_is() {
    let Some(server) = shared() else { return };
    let (node, known) = (server.node(organization::IDLE), &server.provision);
    let me = node.whoami().await.unwrap();
    assert_eq!((me.id, &me.name), (NodeId(known.nodes[0].id), &known.nodes[0].name));
    assert_eq!(me.organization, OrganizationId(known.organizations[0].id));

    let collaboration = node.collaboration(me.collaboration).await.unwrap();
    assert_eq!((collaboration.id, collaboration.encrypted), (CollaborationId(known.collaboration_id), false));
    assert_eq!(collaboration.name, known.collaboration_name);

    let organization = node.organization(me.organization).await.unwrap();
    assert_eq!((&organization.name, organization.public_key), (&known.organizations[0].name, None));
    node.set_public_key(me.organization, "UEVN").await.unwrap();
    assert_eq!(node.organization(me.organization).await.unwrap().public_key.as_deref(), Some("UEVN"));
}

#[tokio::test]
async fn many_requests_at_once_share_one_login() {
    let Some(server) = shared() else { return };
    let node = server.node(organization::LISTS);
    let all = stream::iter(0..20).map(|_| node.whoami()).buffer_unordered(20).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(all.len(), 20);
    let log = std::fs::read_to_string(server.directory.join("server.log")).unwrap();
    let logins = log.matches(&format!("login as node '{}'", all[0].id)).count();
    // The other test with this node logs in as well.
    assert!((1..=2).contains(&logins), "{logins} logins");
}

#[tokio::test]
async fn a_wrong_api_key_is_told_apart_and_not_tried_again() {
    let Some(server) = shared() else { return };
    let began = Instant::now();
    for key in ["12345678-1234-1234-1234-123456789012", "not even a uuid", ""] {
        let error = server.client(key).whoami().await.unwrap_err();
        assert!(error.is_wrong_api_key() && !error.is_transient(), "{error}");
        assert!(error.to_string().contains("api_key") && !error.to_string().contains("12345678-"), "{error}");
    }
    // The server itself takes a quarter of a second for each node that it knows.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wrong_address_says_which_settings_to_look_at() {
    let Some(server) = shared() else { return };
    let url = ServerUrl::new(&server.provision.url, Some(server.provision.port), "/wrong").unwrap();
    let error = Client::builder(url, "key".to_owned().into()).build().unwrap().whoami().await.unwrap_err();
    assert!(error.status() == Some(404) && error.to_string().contains("POST token/node"), "{error}");
    assert!(error.to_string().contains("api_path"), "{error}");
}

#[tokio::test]
async fn the_life_of_a_run() {
    let Some(server) = shared() else { return };
    let node = server.node(organization::BUSY);
    let researcher = server.researcher(organization::BUSY).await;
    let us = server.provision.organizations[organization::BUSY].id;
    let databases = json!([{"label": "default", "query": "SELECT 1", "preprocessing": [{"function": "f", "parameters": {"a": 1}}]}]);
    let task = researcher.task(&[us], "harbor.example/average:1", br#"{"method": "average"}"#, databases).await;

    // It is there, with everything that is needed to run it.
    let which = OpenRuns { task: Some(task), inputs_up_to: 1000 };
    let [run] = &open_runs(&node, which).await[..] else { panic!("there is one run") };
    assert_eq!((run.task.id, run.status.clone(), run.organization), (task, RunStatus::Pending, OrganizationId(us)));
    assert_eq!((run.task.image.as_str(), run.task.parent), ("harbor.example/average:1", None));
    assert_eq!(run.task.init_org, OrganizationId(us));
    assert!(run.assigned_at.is_some() && run.started_at.is_none() && run.finished_at.is_none());
    assert_eq!(encoding::decode_text(&run.input.as_ref().unwrap().0).unwrap(), br#"{"method": "average"}"#[..]);
    assert_eq!(run.task.databases.kept[0].label, "default");
    let parameters: Value = serde_json::from_str(run.task.databases.kept[0].parameters.as_ref().unwrap()).unwrap();
    assert_eq!(parameters["query"], "SELECT 1");

    // Without the input, which then comes as a stream.
    let light = &open_runs(&node, OpenRuns { inputs_up_to: 5, ..which }).await[0];
    assert_eq!((light.id, &light.input), (run.id, &None));
    let input = encoding::decode(node.input(run.id).await.unwrap()).try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(input, br#"{"method": "average"}"#);

    // It begins.
    let token = node.container_token(task, &run.task.image).await.unwrap();
    assert_eq!(token.expose_secret().split('.').count(), 3);
    let started_at = vantage6::now();
    node.set_status(run.id, &RunStatus::Initializing, Some(started_at)).await.unwrap();
    node.set_status(run.id, &RunStatus::Active, None).await.unwrap();
    let seen = node.run(run.id).await.unwrap();
    assert_eq!((seen.status, seen.started_at, seen.finished_at), (RunStatus::Active, Some(started_at), None));
    assert_eq!(open_runs(&node, which).await.len(), 1, "what has begun is still open");

    // It ends.
    let report = RunReport::now(RunStatus::Completed, "first line\nsecond \u{e9} line")
        .result(encoding::encode(b"{\"average\": 3.5}".to_vec().into()));
    let finished_at = report.finished_at;
    node.finish_run(run.id, report).await.unwrap();
    let seen = node.run(run.id).await.unwrap();
    assert_eq!(
        (seen.status, seen.started_at, seen.finished_at),
        (RunStatus::Completed, Some(started_at), Some(finished_at))
    );
    assert_eq!(seen.log.as_deref(), Some("first line\nsecond \u{e9} line"));
    assert_eq!(researcher.result(run.id).await, b"{\"average\": 3.5}");
    assert_eq!(open_runs(&node, which).await, []);

    // And takes no more.
    let again = node.finish_run(run.id, RunReport::now(RunStatus::Failed, "again")).await.unwrap_err();
    let status = node.set_status(run.id, &RunStatus::Active, None).await.unwrap_err();
    for error in [again, status] {
        assert!(error.is_finished_run() && !error.is_transient() && error.delivery() == Delivery::NotSent, "{error}");
    }
    let error = node.container_token(task, "harbor.example/average:1").await.unwrap_err();
    assert!(error.status() == Some(400) && error.to_string().contains("already finished"), "{error}");
}

#[tokio::test]
async fn a_large_result_streams_through() {
    let Some(server) = shared() else { return };
    let node = server.node(organization::BUSY);
    let researcher = server.researcher(organization::BUSY).await;
    let us = server.provision.organizations[organization::BUSY].id;

    // A large input, in between, must not get in the way: it comes with every answer about the run.
    let input = json!({"method": "x".repeat(3_000_000)}).to_string().into_bytes();
    let task = researcher.task(&[us], "image", &input, json!([])).await;
    let run = open_runs(&node, OpenRuns { task: Some(task), inputs_up_to: 1000 }).await.remove(0);
    assert_eq!(run.input, None);
    let arrived = encoding::decode(node.input(run.id).await.unwrap()).try_collect::<Vec<_>>().await.unwrap();
    assert!(arrived.len() > 3, "it came in {} pieces", arrived.len());
    assert!(arrived.concat() == input, "the input is another one");

    // Twenty megabytes in pieces of a size that fits nothing.
    const LENGTH: usize = 20_000_001;
    let pieces = (0..LENGTH.div_ceil(77_777)).map(|number| {
        let (from, to) = (number * 77_777, LENGTH.min((number + 1) * 77_777));
        Ok(Bytes::from((from..to).map(|i| (i % 251) as u8).collect::<Vec<_>>()))
    });
    let result = encoding::encode(Payload::new(LENGTH as u64, stream::iter(pieces)));
    node.finish_run(run.id, RunReport::now(RunStatus::Completed, "").result(result)).await.unwrap();
    let stored = researcher.result(run.id).await;
    assert!(
        stored.len() == LENGTH && stored.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8),
        "{} bytes",
        stored.len()
    );
}

#[tokio::test]
async fn a_result_that_breaks_off_leaves_the_run_as_it_was() {
    let Some(server) = shared() else { return };
    let node = server.node(organization::BUSY);
    let us = server.provision.organizations[organization::BUSY].id;
    let task = server.researcher(organization::BUSY).await.task(&[us], "image", b"{}", json!([])).await;
    let run = open_runs(&node, OpenRuns { task: Some(task), ..OpenRuns::default() }).await.remove(0);

    let broken = stream::iter([Ok(Bytes::from(vec![1; 500_000])), Err(std::io::Error::other("the pod is gone"))]);
    let report = RunReport::now(RunStatus::Completed, "").result(encoding::encode(Payload::new(1_000_000, broken)));
    let error = node.finish_run(run.id, report).await.unwrap_err();
    assert!(matches!(&error, Error::Source { cause, .. } if cause.contains("the pod is gone")), "{error}");
    assert_eq!(error.delivery(), Delivery::NotSent);

    let seen = node.run(run.id).await.unwrap();
    assert_eq!((seen.status, seen.finished_at), (RunStatus::Pending, None));
    node.finish_run(run.id, RunReport::now(RunStatus::NotAllowed, "no")).await.unwrap();
    assert_eq!(open_runs(&node, OpenRuns { task: Some(task), ..OpenRuns::default() }).await, []);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_for_good() {
    let Some(server) = shared() else { return };
    let stranger = server.node(organization::IDLE);
    let owner = server.node(organization::BUSY);
    let us = server.provision.organizations[organization::BUSY].id;
    let task = server.researcher(organization::BUSY).await.task(&[us], "image", b"{}", json!([])).await;
    let run = open_runs(&owner, OpenRuns { task: Some(task), ..OpenRuns::default() }).await.remove(0);

    let began = Instant::now();
    let error = stranger.set_status(run.id, &RunStatus::Active, None).await.unwrap_err();
    assert!(error.status() == Some(401) && error.to_string().contains("not your algorithm run"), "{error}");
    let error = stranger.finish_run(run.id, RunReport::now(RunStatus::Active, "")).await.unwrap_err();
    assert!(error.status() == Some(401) && !error.is_transient() && error.delivery() == Delivery::NotSent, "{error}");
    let error = owner.container_token(task, "another image").await.unwrap_err();
    assert!(error.status() == Some(401) && error.to_string().contains("Image and task"), "{error}");
    let error = owner.set_status(RunId(999_999), &RunStatus::Active, None).await.unwrap_err();
    assert!(error.is_deleted_run(), "{error}");
    let error = owner.set_status(run.id, &RunStatus::Other("dreaming".into()), None).await.unwrap_err();
    assert!(error.status() == Some(400) && error.to_string().contains("Must be one of"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    owner.finish_run(run.id, RunReport::now(RunStatus::Killed, "")).await.unwrap();
}

#[tokio::test]
async fn a_long_list_comes_whole() {
    let Some(server) = shared() else { return };
    let node = server.node(organization::LISTS);
    let researcher = server.researcher(organization::LISTS).await;
    let us = server.provision.organizations[organization::LISTS].id;
    let mut tasks: Vec<TaskId> = Vec::new();
    for number in 0..47 {
        tasks.push(researcher.task(&[us], "image", format!("{{\"number\": {number}}}").as_bytes(), json!(null)).await);
    }
    let listed = open_runs(&node, OpenRuns { task: None, inputs_up_to: 1000 }).await;
    tasks.reverse();
    assert_eq!(listed.iter().map(|run| run.task.id).collect::<Vec<_>>(), tasks, "the newest first, each once");
    assert_eq!(encoding::decode_text(&listed[0].input.as_ref().unwrap().0).unwrap(), "{\"number\": 46}");
}
