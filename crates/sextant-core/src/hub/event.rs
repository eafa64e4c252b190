//! Live events between server and node.

use vantage6_types::{CollaborationId, NodeId, OrganizationId, RunId, RunStatus, TaskId};

/// What happens on the live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    /// There is a connection, by this transport. What counts is the [`Welcome`](Self::Welcome) that follows.
    Connected(&'static str),
    /// There is none, for this reason; attempts go on.
    Disconnected(String),
    /// The server knows this node: it should look for what there is to do.
    Welcome,
    /// Events may have been missed: only a poll of all runs makes up for them.
    Missed,
    /// There is a new task in the collaboration, perhaps for this node.
    NewTask(TaskId),
    /// A request to kill algorithms.
    Kill(Kill),
    /// The server takes a node of the collaboration for offline.
    NodeOffline(NodeId),
    /// Something else, in words for a log.
    Other(String),
}

/// Which algorithms to kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Nodes of other collaborations don't mind it.
    pub collaboration: CollaborationId,
    /// Only this node's.
    pub node: Option<NodeId>,
    /// Only these runs, of these organizations; `None`: all.
    pub runs: Option<Vec<(RunId, Option<OrganizationId>)>>,
}

/// An event that a node sends.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEvent {
    /// It is here, whatever the server took it for.
    Online,
    /// A run has another status.
    Status(StatusChange),
    /// How this node is set up.
    Info(NodeInfo),
    /// How busy it is.
    Metrics(NodeMetrics),
}

/// How busy a node is: the machine that it runs on, and its algorithms, wherever they run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeMetrics {
    /// The part of the processors' time that is used, in percent.
    pub cpu_percent: f64,
    /// The part of the memory that is not available, in percent.
    pub memory_percent: f64,
    /// How many processors there are.
    pub cpu_count: usize,
    /// The memory, in bytes.
    pub memory_total: u64,
    /// What of it can be had, in bytes.
    pub memory_available: u64,
    /// How many algorithms run.
    pub algorithms: usize,
}

/// A change of a run's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// The new status.
    pub status: RunStatus,
    /// Of this run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// The parent of its task.
    pub parent: Option<TaskId>,
    /// The node that sends it.
    pub node: super::Node,
}

/// The part of a node's configuration that others may know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// Whether it encrypts, if that is set.
    pub encryption: Option<bool>,
    /// The images that it allows; none means all.
    pub allowed_algorithms: Option<Vec<String>>,
    /// The users whom it allows.
    pub allowed_users: Option<Vec<String>>,
    /// The organizations that it allows.
    pub allowed_organizations: Option<Vec<String>>,
    /// The databases: label, type, and columns where these are fixed.
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
