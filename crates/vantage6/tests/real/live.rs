//! Tests of the Socket.IO side.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use std::{path::Path, time::Duration};

use serde_json::json;
use vantage6::{
    Client, CollaborationId, DatabaseInfo, Incoming, NodeId, NodeInfo, OpenRuns, OrganizationId, Outgoing, RunStatus,
    StatusChange,
    live::{self, Live, LiveEvent, LiveEvents, LiveOptions},
};

use crate::server::{Server, open_runs, organization, shared};

/// Reads events until one is wanted.
async fn until<T>(events: &mut LiveEvents, mut wanted: impl FnMut(&LiveEvent) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = async {
        loop {
            let event = events.recv().await.expect("the connection goes on");
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), found).await {
        Ok(found) => found,
        Err(_) => panic!("it did not come; what came is {seen:#?}"),
    }
}

async fn until_synced(events: &mut LiveEvents) {
    until(events, |event| (*event == LiveEvent::Incoming(Incoming::Sync)).then_some(())).await;
}

fn fast() -> LiveOptions {
    LiveOptions {
        reconnect: (Duration::from_millis(100), Duration::from_secs(1)),
        identified_within: Duration::from_secs(10),
        ..LiveOptions::default()
    }
}

fn connect(node: &Client, options: LiveOptions) -> (Live, LiveEvents) {
    live::connect(node, options).unwrap()
}

/// What a node lives through, by either transport.
async fn a_conversation(server: &Server, us: usize, neighbour: Option<usize>, options: LiveOptions, websocket: bool) {
    let (node, researcher) = (server.node(us), server.researcher(us).await);
    let (our_node, our_organization) = (NodeId(server.provision.nodes[us].id), server.provision.organizations[us].id);
    let collaboration = CollaborationId(server.provision.collaboration_id);
    let status = async || researcher.get(&format!("node/{our_node}")).await["status"].clone();

    // Connected means online.
    let (live, mut events) = connect(&node, options);
    let transport = until(&mut events, |event| match event {
        LiveEvent::Connected { websocket } => Some(*websocket),
        _ => None,
    });
    assert_eq!(transport.await, websocket);
    until_synced(&mut events).await;
    assert_eq!(status().await, "online");
    assert!(live.is_connected());

    // What we tell is kept as long as we are here.
    let info = NodeInfo {
        allowed_organizations: Some(vec![our_organization.to_string()]),
        databases: vec![DatabaseInfo {
            label: "default".into(),
            kind: "csv".into(),
            columns: Some(vec!["age".into(), "sex".into()]),
        }],
        ..NodeInfo::default()
    };
    live.send(&Outgoing::NodeInfoUpdate(info)).await.unwrap();
    live.send(&Outgoing::Ping).await.unwrap();

    // A task comes.
    let mut organizations = vec![our_organization];
    organizations.extend(neighbour.map(|neighbour| server.provision.organizations[neighbour].id));
    let task = researcher.task(&organizations, "image", b"{}", json!([])).await;
    let parent = until(&mut events, |event| match event {
        LiveEvent::Incoming(Incoming::NewTask { id, parent_id }) if *id == task => Some(*parent_id),
        _ => None,
    });
    assert_eq!(parent.await, None);
    let run = open_runs(&node, OpenRuns { task: Some(task), ..OpenRuns::default() }).await.remove(0);

    // What we tell of a run goes to all of the collaboration, with the job.
    let change = StatusChange {
        status: RunStatus::Active,
        run_id: run.id,
        task_id: Some(task),
        job_id: None,
        collaboration_id: Some(collaboration),
        node_id: Some(our_node),
        organization_id: Some(OrganizationId(our_organization)),
        parent_id: None,
    };
    node.set_status(run.id, &RunStatus::Active, None).await.unwrap();
    live.send(&Outgoing::AlgorithmStatusChange(change.clone())).await.unwrap();
    let heard = until(&mut events, |event| match event {
        LiveEvent::Incoming(Incoming::AlgorithmStatusChange(change)) if change.run_id == run.id => Some(change.clone()),
        _ => None,
    });
    assert_eq!(heard.await, StatusChange { job_id: Some(run.task.job_id), ..change });

    // By now the server has kept the information.
    let config = researcher.get(&format!("node/{our_node}")).await["config"].clone();
    for (key, value) in [
        ("allowed_algorithms", "all"),
        ("allowed_orgs", &our_organization.to_string()),
        ("db_type_default", "csv"),
        ("columns_default", "age"),
        ("database_labels", "default"),
    ] {
        let entry = config.as_array().unwrap().iter().find(|entry| entry["key"] == key);
        assert_eq!(entry.map(|entry| &entry["value"]), Some(&json!(value)), "{key}: {config}");
    }

    // Somebody kills the task.
    researcher.post("kill/task", json!({"id": task})).await;
    // (The other way, to kill all on one node, always fails in 4.5.5: `KillNodeTasks` asks for a permission that
    // doesn't exist.)
    let kill = until(&mut events, |event| match event {
        LiveEvent::Incoming(Incoming::KillContainers(kill)) if kill.kill_list.is_some() => Some(kill.clone()),
        _ => None,
    })
    .await;
    assert_eq!((kill.collaboration_id, kill.node_id), (collaboration, None));
    // Of two runs, 4.5.5 lists one (see `KillContainers`) and 4.15 both.
    assert!(kill.kill_list.as_ref().is_some_and(|list| (1..=2).contains(&list.len())), "{kill:?}");
    assert!(neighbour.is_some() || kill.kill_list.unwrap()[0].run_id == run.id);
    assert_eq!(node.run(run.id).await.unwrap().status, RunStatus::Killed);

    // Goodbye.
    live.close().await;
    for _ in 0..100 {
        if status().await == "offline" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status().await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_websocket() {
    let Some(server) = shared() else { return };
    a_conversation(server, organization::LIVE, Some(organization::IDLE), fast(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_long_polling_because_the_server_offers_no_more() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("polling-server");
    let _ = std::fs::remove_dir_all(&directory);
    let Some(server) = Server::start(&directory, &["--organizations", "1", "--polling-only"]) else { return };
    a_conversation(&server, 0, None, fast(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_its_key_costs_a_moment() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forgetful-server");
    let _ = std::fs::remove_dir_all(&directory);
    let Some(server) = Server::start(&directory, &["--organizations", "1"]) else { return };
    let node = server.node(0);
    let (_live, mut events) = connect(&node, fast());
    until_synced(&mut events).await;
    let us = node.whoami().await.unwrap();

    // Without jwt_secret_key in its configuration a server makes one up at each start, so this happens at every
    // restart.
    server.stop();
    until(&mut events, |event| matches!(event, LiveEvent::Disconnected { .. }).then_some(())).await;
    let config = directory.join("config.yaml");
    let mut settings: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    settings["jwt_secret_key"] = json!("another one, of sufficient length");
    std::fs::write(&config, settings.to_string()).unwrap();
    let server = Server::start(&directory, &["--bare"]).unwrap();

    // The old token looks good here, the server tells by an event that it isn't, and the next one comes from a login.
    until(&mut events, |event| (*event == LiveEvent::Incoming(Incoming::InvalidToken)).then_some(())).await;
    until_synced(&mut events).await;
    assert_eq!(node.whoami().await.unwrap(), us);
    server.stop();
}
