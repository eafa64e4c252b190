//! The live events between server and node as types, without the connection, which is in `live`.
//!
//! Names and shapes are those of `server/websockets.py`, `server/resource/task.py`, `server/resource/event.py` and
//! `server/resource/run.py` on the one side, and `node/socket.py` and `node/__init__.py` on the other. All events are in the namespace
//! `/tasks`.

#![expect(clippy::disallowed_types, reason = "made here, to be sent; what comes is read into types")]

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use socketio::Args;

use crate::{CollaborationId, JobId, NodeId, OrganizationId, RunId, RunStatus, TaskId, read};

/// The largest length of a text in characters. Longer texts are cut, since other users of the server write them.
const LONG: usize = 300;
/// How many characters of an unknown event's name are kept.
const NAME: usize = 100;

/// An event from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The server knows this node, which should look for work. The server sends this for every connection whose token it has accepted,
    /// and only then.
    Sync,
    /// There is a new task in the collaboration, perhaps for this node.
    NewTask {
        /// The task.
        id: TaskId,
        /// The task whose algorithm created it.
        parent_id: Option<TaskId>,
    },
    /// A request to kill algorithms.
    KillContainers(KillContainers),
    /// A run of the collaboration has another status, according to its node.
    AlgorithmStatusChange(StatusChange),
    /// The connection's token has expired. The server leaves the connection open, but sends nothing more over it.
    ExpiredToken,
    /// The connection's token is not one of this server's. The connection stays open without events, as with an expired token.
    InvalidToken,
    /// Text for a log.
    Message(String),
    /// A node of the collaboration has come online.
    NodeOnline(NodeStatus),
    /// A node of the collaboration has gone offline.
    NodeOffline(NodeStatus),
    /// An event that may mean work could not be read: it is too large, or has an unknown shape. Only a poll of all runs makes up for it.
    Missed,
    /// An unknown event, or an unreadable one that means no work.
    Unknown {
        /// The event's name, possibly cut.
        name: String,
    },
}

/// Which algorithms to kill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KillContainers {
    /// The collaboration. Nodes of other collaborations ignore the request.
    pub collaboration_id: CollaborationId,
    /// The node, if the request is for only one.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// The runs. Without a list, or with null in its place, the server means all runs of the node that `node_id` names (`kill_node_tasks`
    /// in `server/resource/event.py`), and the regular node does the same. So a sender that omits the list by mistake can't be told from
    /// one that means all runs. Here, an empty list means no runs; to the regular node it means all.
    ///
    /// **Not complete in 4.5.5**: `kill_task` in `server/resource/event.py` pairs runs with tasks in a way that drops all runs of a task
    /// except the first, and pairs subtasks' runs with wrong tasks. The `run_id` of each entry is right. The server marks all of the runs
    /// as killed, so a read of the open runs finds the rest.
    #[serde(default)]
    pub kill_list: Option<Vec<Kill>>,
}

/// A run to kill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Kill {
    /// The run's task (unreliable, see above).
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// The run.
    pub run_id: RunId,
    /// The organization whose node runs it.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
}

/// A change of a run's status. Nodes send it, and the server forwards it to the whole collaboration with the job added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The new status.
    #[serde(deserialize_with = "read::status")]
    pub status: RunStatus,
    /// The run.
    pub run_id: RunId,
    /// The run's task.
    #[serde(default)]
    pub task_id: Option<TaskId>,
    /// The run's job. Only the server adds it.
    #[serde(default, skip_serializing)]
    pub job_id: Option<JobId>,
    /// The collaboration.
    #[serde(default)]
    pub collaboration_id: Option<CollaborationId>,
    /// The node.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// The node's organization.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
    /// The parent of the run's task.
    #[serde(default)]
    pub parent_id: Option<TaskId>,
}

/// A node that came online or went offline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// The node's id.
    pub id: NodeId,
    /// The node's name, possibly cut.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// The node's organization.
    #[serde(default)]
    pub org_id: Option<OrganizationId>,
}

impl Incoming {
    /// Reads an event. Never fails, since an unreadable event must not end the connection.
    pub fn from_event(name: &str, args: &Args) -> Self {
        #[derive(Deserialize)]
        struct New {
            id: TaskId,
            #[serde(default)]
            parent_id: Option<TaskId>,
        }
        #[derive(Deserialize)]
        struct Text(#[serde(deserialize_with = "read::cut::<_, LONG>")] String);
        let known = match name {
            "sync" => Some(Self::Sync),
            "new_task" => args.first().map(|New { id, parent_id }| Self::NewTask { id, parent_id }),
            "kill_containers" => args.first().map(Self::KillContainers),
            "algorithm_status_change" => args.first().map(Self::AlgorithmStatusChange),
            "expired_token" => Some(Self::ExpiredToken),
            "invalid_token" => Some(Self::InvalidToken),
            "message" => args.first().map(|Text(text)| Self::Message(text)),
            "node-online" => args.first().map(Self::NodeOnline),
            "node-offline" => args.first().map(Self::NodeOffline),
            _ => None,
        };
        known.unwrap_or_else(|| Self::unread(name))
    }

    /// The replacement for an unreadable event with this name.
    pub(crate) fn unread(name: &str) -> Self {
        match name {
            "sync" | "new_task" | "kill_containers" => Self::Missed,
            _ => Self::Unknown { name: name.chars().take(NAME).collect() },
        }
    }

    /// Whether a node that misses this event must poll for work.
    pub(crate) fn means_work(&self) -> bool {
        matches!(self, Self::Sync | Self::NewTask { .. } | Self::KillContainers(_) | Self::Missed)
    }

    /// The approximate memory that the event takes.
    pub(crate) fn weight(&self) -> usize {
        let more = match self {
            Self::KillContainers(kill) => kill.kill_list.as_ref().map_or(0, |list| list.capacity() * size_of::<Kill>()),
            Self::AlgorithmStatusChange(change) => change.status.as_str().len(),
            Self::NodeOnline(node) | Self::NodeOffline(node) => node.name.len(),
            Self::Message(text) | Self::Unknown { name: text } => text.len(),
            Self::Sync | Self::NewTask { .. } | Self::ExpiredToken | Self::InvalidToken | Self::Missed => 0,
        };
        size_of::<Self>() + more
    }
}

/// An event that a node sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    /// A sign of life. Due every 60 seconds (`PING_INTERVAL_SECONDS` in `common/globals.py`): 5 seconds later the server regards the node
    /// as offline.
    Ping,
    /// The status of a run has changed.
    AlgorithmStatusChange(StatusChange),
    /// The node's shared configuration.
    NodeInfoUpdate(NodeInfo),
    /// Output of an algorithm (since 4.10.1; earlier servers ignore it).
    AlgorithmLog(AlgorithmLog),
    /// The node's load (since 4.11; earlier servers ignore it).
    NodeMetricsUpdate(NodeMetrics),
}

/// The load of a node (since 4.11; `__gather_system_metadata` in `node/__init__.py`). Has no `gpu_*` fields: a server accepts only lists
/// under these names, but a regular node sends it a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeMetrics {
    /// The CPU usage, in percent.
    pub cpu_percent: f64,
    /// The memory usage, in percent.
    pub memory_percent: f64,
    /// The number of running algorithms.
    pub num_algorithm_containers: usize,
    /// Always `posix`.
    pub os: &'static str,
    /// Always `linux`.
    pub platform: &'static str,
    /// The number of CPUs.
    pub cpu_count: usize,
    /// The memory, in bytes.
    pub memory_total: u64,
    /// The available memory, in bytes.
    pub memory_available: u64,
}

/// The configuration that a node shares with the server (`share_node_details` in `node/__init__.py`). The server stores it as pairs of
/// texts until the node disconnects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// `encryption.enabled`, if it is set.
    pub encryption: Option<bool>,
    /// `policies.allowed_algorithms`; `None` means all.
    pub allowed_algorithms: Option<Vec<String>>,
    /// `policies.allowed_users`.
    pub allowed_users: Option<Vec<String>>,
    /// `policies.allowed_organizations`.
    pub allowed_organizations: Option<Vec<String>>,
    /// The databases: label, type, and columns if these are fixed (csv, parquet).
    pub databases: Vec<DatabaseInfo>,
}

/// The part of a database's configuration that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// The label.
    pub label: String,
    /// The type.
    pub kind: String,
    /// The columns, if they are shared.
    pub columns: Option<Vec<String>>,
}

/// Output of an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlgorithmLog {
    /// The collaboration.
    pub collaboration_id: CollaborationId,
    /// The run.
    pub run_id: RunId,
    /// The run's task.
    pub task_id: TaskId,
    /// The text, which the server appends to the run's log.
    pub log: String,
}

impl Outgoing {
    /// The event's name and its data.
    pub fn to_event(&self) -> (&'static str, Option<Value>) {
        match self {
            Self::Ping => ("ping", None),
            Self::AlgorithmStatusChange(change) => ("algorithm_status_change", Some(json!(change))),
            Self::NodeInfoUpdate(info) => ("node_info_update", Some(info.to_value())),
            Self::NodeMetricsUpdate(metrics) => ("node_metrics_update", Some(json!(metrics))),
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
mod tests;
