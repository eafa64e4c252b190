//! What server and node tell each other live, as types: only the meaning, no connection (that is `live`).
//!
//! The names and shapes are those of `server/websockets.py`, `server/resource/task.py`, `server/resource/event.py` and
//! `server/resource/run.py` on the one side and `node/socket.py` and `node/__init__.py` on the other. All is in the
//! namespace `/tasks`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{CollaborationId, JobId, NodeId, OrganizationId, RunId, RunStatus, TaskId};

/// What the server tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// This node is connected and known: it should look for what there is to do. The server sends it for every
    /// connection whose token it took, and only then.
    Sync,
    /// There is a new task in the collaboration, perhaps for this node.
    NewTask {
        /// Which.
        id: TaskId,
        /// The task whose algorithm created it.
        parent_id: Option<TaskId>,
    },
    /// Algorithms are to be ended.
    KillContainers(KillContainers),
    /// A run of the collaboration has another status, as its node says.
    AlgorithmStatusChange(StatusChange),
    /// The connection's token is too old. The server leaves the connection open, but nothing will ever come through it.
    ExpiredToken,
    /// The connection's token is not this server's; as above.
    InvalidToken,
    /// Text for a log.
    Message(String),
    /// A node of the collaboration has come.
    NodeOnline(NodeStatus),
    /// A node of the collaboration has gone.
    NodeOffline(NodeStatus),
    /// Something else, or something known in a shape that isn't.
    Unknown {
        /// The event's name.
        name: String,
        /// What came with it.
        args: Vec<Value>,
    },
}

/// Which algorithms are to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KillContainers {
    /// Nodes of other collaborations don't mind it.
    pub collaboration_id: CollaborationId,
    /// Only this node's.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Only these; all if there is no list.
    ///
    /// **Not complete in 4.5.5**: `kill_task` in `server/resource/event.py` pairs runs with tasks in a way that leaves
    /// all runs of a task but the first out, and pairs subtasks' runs with wrong tasks. `run_id` is right for what is
    /// there. The server marks all of them as killed, so a look at the open runs tells the rest.
    #[serde(default)]
    pub kill_list: Option<Vec<Kill>>,
}

/// One run to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Kill {
    /// Its task (not reliable, see above).
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// The run.
    pub run_id: RunId,
    /// Whose node runs it.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
}

/// A change of a run's status. Nodes send it, and the server sends it on to all of the collaboration, with the job
/// added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The new status.
    pub status: RunStatus,
    /// Of this run.
    pub run_id: RunId,
    /// Its task.
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// Its job; the server knows it by itself.
    #[serde(default, skip_serializing)]
    pub job_id: Option<JobId>,
    /// Where.
    #[serde(default)]
    pub collaboration_id: Option<CollaborationId>,
    /// On which node.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Whose node that is.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
    /// The parent of its task.
    #[serde(default)]
    pub parent_id: Option<TaskId>,
}

/// A node that came or went.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub org_id: Option<OrganizationId>,
}

impl Incoming {
    /// Reads an event; never fails, since one that isn't understood must not end the connection.
    pub fn from_event(name: &str, args: &[Value]) -> Self {
        fn first<T: DeserializeOwned>(args: &[Value]) -> Option<T> {
            serde_json::from_value(args.first()?.clone()).ok()
        }
        #[derive(Deserialize)]
        struct New {
            id: TaskId,
            #[serde(default)]
            parent_id: Option<TaskId>,
        }
        let known = match name {
            "sync" => Some(Self::Sync),
            "new_task" => first(args).map(|New { id, parent_id }| Self::NewTask { id, parent_id }),
            "kill_containers" => first(args).map(Self::KillContainers),
            "algorithm_status_change" => first(args).map(Self::AlgorithmStatusChange),
            "expired_token" => Some(Self::ExpiredToken),
            "invalid_token" => Some(Self::InvalidToken),
            "message" => first(args).map(Self::Message),
            "node-online" => first(args).map(Self::NodeOnline),
            "node-offline" => first(args).map(Self::NodeOffline),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Unknown { name: name.to_owned(), args: args.to_vec() })
    }
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// I am here. Due every 60 seconds (`PING_INTERVAL_SECONDS` in `common/globals.py`): 5 seconds later the server
    /// takes the node for offline.
    Ping,
    /// A run has another status.
    AlgorithmStatusChange(StatusChange),
    /// How this node is set up.
    NodeInfoUpdate(NodeInfo),
    /// Something that an algorithm wrote (since 4.6; 4.5.5 ignores it).
    AlgorithmLog(AlgorithmLog),
}

/// How a node is set up, as it tells the server (`share_node_details` in `node/__init__.py`). The server keeps it until
/// the node disconnects, as pairs of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// `encryption.enabled`, if it is set.
    pub encryption: Option<bool>,
    /// `policies.allowed_algorithms`; none means all.
    pub allowed_algorithms: Option<Vec<String>>,
    /// `policies.allowed_users`.
    pub allowed_users: Option<Vec<String>>,
    /// `policies.allowed_organizations`.
    pub allowed_organizations: Option<Vec<String>>,
    /// The databases: label, type, and columns where these are fixed (csv, parquet).
    pub databases: Vec<DatabaseInfo>,
}

/// A database, as far as others may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its label.
    pub label: String,
    /// Its type.
    pub kind: String,
    /// Its columns, if they are to be known.
    pub columns: Option<Vec<String>>,
}

/// Output of an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlgorithmLog {
    /// Where.
    pub collaboration_id: CollaborationId,
    /// Whose.
    pub run_id: RunId,
    /// Its task.
    pub task_id: TaskId,
    /// The text; the server appends it to the run's log.
    pub log: String,
}

impl Outgoing {
    /// The event's name and what goes with it.
    pub fn to_event(&self) -> (&'static str, Option<Value>) {
        match self {
            Self::Ping => ("ping", None),
            Self::AlgorithmStatusChange(change) => ("algorithm_status_change", Some(json!(change))),
            Self::NodeInfoUpdate(info) => ("node_info_update", Some(info.to_value())),
            Self::AlgorithmLog(log) => ("algorithm_log", Some(json!(log))),
        }
    }
}

impl NodeInfo {
    fn to_value(&self) -> Value {
        let mut info = Map::new();
        if let Some(encryption) = self.encryption {
            info.insert("encryption".into(), encryption.into());
        }
        info.insert(
            "allowed_algorithms".into(),
            self.allowed_algorithms.as_ref().map_or("all".into(), |images| json!(images)),
        );
        for (name, list) in [("allowed_users", &self.allowed_users), ("allowed_orgs", &self.allowed_organizations)] {
            if let Some(list) = list {
                info.insert(name.into(), json!(list));
            }
        }
        let labels: Vec<&str> = self.databases.iter().map(|database| &*database.label).collect();
        let kinds: Map<String, Value> = self
            .databases
            .iter()
            .map(|database| (format!("db_type_{}", database.label), database.kind.clone().into()))
            .collect();
        let columns: Map<String, Value> = self
            .databases
            .iter()
            .filter_map(|database| Some((format!("columns_{}", database.label), json!(database.columns.as_ref()?))))
            .collect();
        info.insert("database_labels".into(), json!(labels));
        info.insert("database_types".into(), kinds.into());
        if !columns.is_empty() {
            info.insert("database_columns".into(), columns.into());
        }
        info.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(name: &str, args: Value) -> Incoming {
        Incoming::from_event(name, args.as_array().unwrap())
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
    fn what_is_not_understood_is_kept() {
        for (name, args) in [
            // Sent by 4.5.5 to nodes too, but nothing that a node could use.
            ("status_update", json!([{"run_id": 1}])),
            ("task_created", json!([{"task_id": 1, "job_id": 1, "collaboration_id": 1, "init_org_id": 1}])),
            ("something_new", json!([1, "two"])),
            ("new_task", json!([])),
            ("new_task", json!(["2"])),
            ("kill_containers", json!([{"collaboration_id": 4, "kill_list": [{"task_id": 1}]}])),
            ("kill_containers", json!([{"kill_list": []}])),
            ("message", json!([{"not": "text"}])),
        ] {
            let unknown = Incoming::Unknown { name: name.into(), args: args.as_array().unwrap().clone() };
            assert_eq!(incoming(name, args), unknown);
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
        let log = AlgorithmLog {
            collaboration_id: CollaborationId(4),
            run_id: RunId(1),
            task_id: TaskId(2),
            log: "line".into(),
        };
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
}
