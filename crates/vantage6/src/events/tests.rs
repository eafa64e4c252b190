//! Tests the events, in tables.

#![allow(clippy::disallowed_types, reason = "of the test's own making")]

use super::*;

fn incoming(name: &str, args: Value) -> Incoming {
    Incoming::from_event(name, &args.as_array().unwrap().clone().into())
}

/// The arguments are what `server/` of 4.5.5 emits (and 4.15.2, where that differs).
#[test]
fn what_the_server_sends() {
    let change = StatusChange {
        status: RunStatus::Crashed,
        run_id: RunId(1),
        task_id: Some(TaskId(2)),
        job_id: Some(JobId(3)),
        collaboration_id: Some(CollaborationId(4)),
        node_id: Some(NodeId(5)),
        organization_id: Some(OrganizationId(6)),
        parent_id: None,
    };
    let nothing = StatusChange {
        status: RunStatus::Active,
        task_id: None,
        job_id: None,
        collaboration_id: None,
        node_id: None,
        organization_id: None,
        ..change.clone()
    };
    let node = NodeStatus { id: NodeId(5), name: "n".into(), org_id: Some(OrganizationId(6)) };
    let kill = |task: u64, run: u64| Kill {
        task_id: Some(TaskId(task)),
        run_id: RunId(run),
        organization_id: Some(OrganizationId(6)),
    };
    let kill_containers = |node_id, kill_list| {
        Incoming::KillContainers(KillContainers { collaboration_id: CollaborationId(4), node_id, kill_list })
    };
    for (name, args, event) in [
        ("sync", json!([]), Incoming::Sync),
        ("expired_token", json!([]), Incoming::ExpiredToken),
        ("invalid_token", json!([]), Incoming::InvalidToken),
        ("message", json!(["Node <n> joined room <r>"]), Incoming::Message("Node <n> joined room <r>".into())),
        ("new_task", json!([{"id": 2, "parent_id": null}]), Incoming::NewTask { id: TaskId(2), parent_id: None }),
        (
            "new_task",
            json!([{"id": 2, "parent_id": 1}]),
            Incoming::NewTask { id: TaskId(2), parent_id: Some(TaskId(1)) },
        ),
        (
            "kill_containers",
            json!([{"kill_list": [{"task_id": 2, "run_id": 1, "organization_id": 6}, {"task_id": 3, "run_id": 2, "organization_id": 6}],
                    "collaboration_id": 4}]),
            kill_containers(None, Some(vec![kill(2, 1), kill(3, 2)])),
        ),
        ("kill_containers", json!([{"node_id": 5, "collaboration_id": 4}]), kill_containers(Some(NodeId(5)), None)),
        ("kill_containers", json!([{"kill_list": [], "collaboration_id": 4}]), kill_containers(None, Some(vec![]))),
        (
            "algorithm_status_change",
            json!([{"status": "crashed", "run_id": 1, "task_id": 2, "job_id": 3, "collaboration_id": 4, "node_id": 5,
                    "organization_id": 6, "parent_id": null}]),
            Incoming::AlgorithmStatusChange(change),
        ),
        (
            "algorithm_status_change",
            json!([{"status": "active", "run_id": 1}]),
            Incoming::AlgorithmStatusChange(nothing),
        ),
        ("node-online", json!([{"id": 5, "name": "n", "org_id": 6}]), Incoming::NodeOnline(node.clone())),
        ("node-offline", json!([{"id": 5, "name": "n", "org_id": 6}]), Incoming::NodeOffline(node)),
    ] {
        assert_eq!(incoming(name, args.clone()), event, "{name} {args}");
    }
}

#[test]
fn of_what_is_not_understood_the_name_is_kept() {
    for (name, args) in [
        // Sent by 4.5.5 to nodes too, but nothing that a node could use.
        ("status_update", json!([{"run_id": 1}])),
        ("task_created", json!([{"task_id": 1, "job_id": 1, "collaboration_id": 1, "init_org_id": 1}])),
        ("something_new", json!([1, "two"])),
        ("message", json!([{"not": "text"}])),
        ("algorithm_status_change", json!([{"status": "active", "run_id": [{"": 0}]}])),
    ] {
        assert_eq!(incoming(name, args), Incoming::Unknown { name: name.into() });
    }
    let long = incoming(&"é".repeat(1000), json!([]));
    assert_eq!(long, Incoming::Unknown { name: "é".repeat(NAME) });
}

#[test]
fn what_may_mean_work_and_is_not_understood_means_a_look_at_everything() {
    for (name, args) in [
        ("new_task", json!([])),
        ("new_task", json!(["2"])),
        ("kill_containers", json!([{"collaboration_id": 4, "kill_list": [{"task_id": 1}]}])),
        ("kill_containers", json!([{"kill_list": []}])),
    ] {
        assert_eq!(incoming(name, args.clone()), Incoming::Missed, "{name} {args}");
    }
}

#[test]
fn texts_of_others_are_cut() {
    let long = "x".repeat(100_000);
    for (name, args) in [
        ("message", json!([long])),
        ("node-online", json!([{"id": 5, "name": long}])),
        ("algorithm_status_change", json!([{"status": long, "run_id": 1, "node_id": null, "unknown": [[{"": long}]]}])),
    ] {
        let event = incoming(name, args);
        assert!(!matches!(event, Incoming::Unknown { .. }) && event.weight() < 1000, "{event:?}");
    }
}

/// The values are what `node/` of 4.5.5 emits.
#[test]
fn what_the_node_sends() {
    let change = StatusChange {
        status: RunStatus::NoDockerImage,
        run_id: RunId(1),
        task_id: Some(TaskId(2)),
        job_id: None,
        collaboration_id: Some(CollaborationId(4)),
        node_id: Some(NodeId(5)),
        organization_id: Some(OrganizationId(6)),
        parent_id: None,
    };
    let database = |label: &str, kind: &str, columns: Option<Vec<String>>| DatabaseInfo {
        label: label.into(),
        kind: kind.into(),
        columns,
    };
    let info = NodeInfo {
        encryption: Some(false),
        allowed_algorithms: Some(vec!["^harbor/.*".into()]),
        allowed_users: Some(vec!["1".into()]),
        allowed_organizations: Some(vec!["2".into()]),
        databases: vec![database("a", "csv", Some(vec!["x".into(), "y".into()])), database("b", "sql", None)],
    };
    let log =
        AlgorithmLog { collaboration_id: CollaborationId(4), run_id: RunId(1), task_id: TaskId(2), log: "line".into() };
    for (event, name, data) in [
        (Outgoing::Ping, "ping", None),
        (
            Outgoing::AlgorithmStatusChange(change),
            "algorithm_status_change",
            Some(
                json!({"node_id": 5, "status": "non-existing Docker image", "run_id": 1, "task_id": 2, "collaboration_id": 4,
                        "organization_id": 6, "parent_id": null}),
            ),
        ),
        (
            Outgoing::NodeInfoUpdate(NodeInfo::default()),
            "node_info_update",
            Some(json!({"allowed_algorithms": "all", "database_labels": [], "database_types": {}})),
        ),
        (
            Outgoing::NodeInfoUpdate(info),
            "node_info_update",
            Some(
                json!({"encryption": false, "allowed_algorithms": ["^harbor/.*"], "allowed_users": ["1"], "allowed_orgs": ["2"],
                        "database_labels": ["a", "b"], "database_types": {"db_type_a": "csv", "db_type_b": "sql"},
                        "database_columns": {"columns_a": ["x", "y"]}}),
            ),
        ),
        (
            Outgoing::AlgorithmLog(log),
            "algorithm_log",
            Some(json!({"collaboration_id": 4, "run_id": 1, "task_id": 2, "log": "line"})),
        ),
    ] {
        assert_eq!(event.to_event(), (name, data));
    }
}

/// The names are what 4.15.2 makes metrics of. One with `gpu` in it that is no list is refused there.
#[test]
fn how_busy_the_node_is() {
    let metrics = NodeMetrics {
        cpu_percent: 12.5,
        memory_percent: 50.0,
        num_algorithm_containers: 3,
        os: "posix",
        platform: "linux",
        cpu_count: 8,
        memory_total: 2048,
        memory_available: 1024,
    };
    let (name, data) = Outgoing::NodeMetricsUpdate(metrics).to_event();
    let expected = json!({
        "cpu_percent": 12.5, "memory_percent": 50.0, "num_algorithm_containers": 3, "os": "posix", "platform": "linux", "cpu_count": 8,
        "memory_total": 2048, "memory_available": 1024,
    });
    assert_eq!((name, data), ("node_metrics_update", Some(expected)));
}
