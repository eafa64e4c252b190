//! The live events between server and node, as types: only the meaning, no connection (that is `live`).
//!
//! The names and shapes are those of `server/websockets.py`, `server/resource/task.py`, `server/resource/event.py` and
//! `server/resource/run.py` on the one side and `node/socket.py` and `node/__init__.py` on the other. All is in the
//! namespace `/tasks`.

#![expect(clippy::disallowed_types, reason = "made here, to be sent; what comes is read into types")]

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use socketio::Args;

use crate::{CollaborationId, JobId, NodeId, OrganizationId, RunId, RunStatus, TaskId, read};

/// Longer texts are cut, in characters: what comes with an event is what others of the server like to write.
const LONG: usize = 300;
/// So many characters of the name of an event that is not known are kept.
const NAME: usize = 100;

/// An event from the server.
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
    /// A request to kill algorithms.
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
    /// There was an event that may mean work, but it was not read: it is too large, or has a shape that isn't known. Only
    /// a poll of all runs makes up for it.
    Missed,
    /// Something else, or something known that means no work in a shape that isn't.
    Unknown {
        /// The event's name, or the beginning of it.
        name: String,
    },
}

/// Which algorithms to kill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KillContainers {
    /// Nodes of other collaborations don't mind it.
    pub collaboration_id: CollaborationId,
    /// Only this node's.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// Only these; all if there is no list, or null in its place: then the server means all runs of the node that
    /// `node_id` names (`kill_node_tasks` in `server/resource/event.py`), and the regular node does the same. So a sender
    /// that leaves the list out by mistake can't be told from one that means all. An empty list names none, here (the
    /// regular node takes it for all).
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
    #[serde(deserialize_with = "read::status")]
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
    /// Its id.
    pub id: NodeId,
    /// Its name, or the beginning of it.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub org_id: Option<OrganizationId>,
}

impl Incoming {
    /// Reads an event; never fails, since one that isn't understood must not end the connection.
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

    /// An event that can't be read, of this name.
    pub(crate) fn unread(name: &str) -> Self {
        match name {
            "sync" | "new_task" | "kill_containers" => Self::Missed,
            _ => Self::Unknown { name: name.chars().take(NAME).collect() },
        }
    }

    /// Whether a node that misses it must poll for work.
    pub(crate) fn means_work(&self) -> bool {
        matches!(self, Self::Sync | Self::NewTask { .. } | Self::KillContainers(_) | Self::Missed)
    }

    /// How much memory it takes, nearly.
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
    /// I am here. Due every 60 seconds (`PING_INTERVAL_SECONDS` in `common/globals.py`): 5 seconds later the server
    /// takes the node for offline.
    Ping,
    /// A run has another status.
    AlgorithmStatusChange(StatusChange),
    /// How this node is set up.
    NodeInfoUpdate(NodeInfo),
    /// Something that an algorithm wrote (since 4.10.1; earlier servers ignore it).
    AlgorithmLog(AlgorithmLog),
    /// How busy this node is (since 4.11; earlier servers ignore it).
    NodeMetricsUpdate(NodeMetrics),
}

/// How busy a node is (since 4.11; `__gather_system_metadata` in `node/__init__.py`). Without `gpu_*`: a server takes only lists under
/// such names, and a node sends it a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeMetrics {
    /// In percent.
    pub cpu_percent: f64,
    /// In percent.
    pub memory_percent: f64,
    /// How many algorithms run.
    pub num_algorithm_containers: usize,
    /// `posix`.
    pub os: &'static str,
    /// `linux`.
    pub platform: &'static str,
    /// How many processors there are.
    pub cpu_count: usize,
    /// In bytes.
    pub memory_total: u64,
    /// In bytes.
    pub memory_available: u64,
}

/// The configuration that a node shares with the server (`share_node_details` in `node/__init__.py`). The server keeps it until
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

/// The part of a database's configuration that others may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its label.
    pub label: String,
    /// Its type.
    pub kind: String,
    /// Its columns, if they are shared.
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
