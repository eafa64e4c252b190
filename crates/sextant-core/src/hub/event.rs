//! Live events between server and node.

use vantage6_types::{CollaborationId, NodeId, OrganizationId, RunId, RunStatus, TaskId};

/// An event of the live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    /// The node is connected, by this transport. It is online only after the [`Welcome`](Self::Welcome) that follows.
    Connected(&'static str),
    /// The node is disconnected, for this reason, and keeps trying to reconnect.
    Disconnected(String),
    /// The server knows this node, which should look for work.
    Welcome,
    /// Events may have been missed. Only a poll of all runs makes up for them.
    Missed,
    /// There is a new task in the collaboration, perhaps for this node.
    NewTask(TaskId),
    /// A request to kill algorithms.
    Kill(Kill),
    /// The server reports a node of the collaboration as offline.
    NodeOffline(NodeId),
    /// Another event, described for the log.
    Other(String),
}

/// Which algorithms to kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The collaboration. Nodes of other collaborations ignore the request.
    pub collaboration: CollaborationId,
    /// The node, if the request is for only one.
    pub node: Option<NodeId>,
    /// The runs with their organizations; `None`: all runs.
    pub runs: Option<Vec<(RunId, Option<OrganizationId>)>>,
}

/// An event that a node sends.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEvent {
    /// The node is online, whatever the server shows.
    Online,
    /// The status of a run has changed.
    Status(StatusChange),
    /// The node's shared configuration.
    Info(NodeInfo),
    /// The node's load.
    Metrics(NodeMetrics),
}

/// The load of a node: of the machine that it runs on, and the number of its algorithms, wherever they run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeMetrics {
    /// The CPU usage, in percent.
    pub cpu_percent: f64,
    /// The share of the memory that is not available, in percent.
    pub memory_percent: f64,
    /// The number of CPUs.
    pub cpu_count: usize,
    /// The memory, in bytes.
    pub memory_total: u64,
    /// The available memory, in bytes.
    pub memory_available: u64,
    /// The number of running algorithms.
    pub algorithms: usize,
}

/// A change of a run's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// The new status.
    pub status: RunStatus,
    /// The run.
    pub run: RunId,
    /// The run's task.
    pub task: TaskId,
    /// The parent of the run's task.
    pub parent: Option<TaskId>,
    /// The node that reports the change.
    pub node: super::Node,
}

/// The part of a node's configuration that is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// Whether the node encrypts, if that is set.
    pub encryption: Option<bool>,
    /// The allowed images; `None` means all.
    pub allowed_algorithms: Option<Vec<String>>,
    /// The allowed users.
    pub allowed_users: Option<Vec<String>>,
    /// The allowed organizations.
    pub allowed_organizations: Option<Vec<String>>,
    /// The databases: label, type, and columns if these are fixed.
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
