//! What server and node tell each other live.

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
    /// Something may have happened that was not heard: only a look at everything makes up for it.
    Missed,
    /// There is a new task in the collaboration, perhaps for this node.
    NewTask(TaskId),
    /// Algorithms are to be ended.
    Kill(Kill),
    /// The server takes a node of the collaboration for offline.
    NodeOffline(NodeId),
    /// Something else, in words for a log.
    Other(String),
}

/// Which algorithms are to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Nodes of other collaborations don't mind it.
    pub collaboration: CollaborationId,
    /// Only this node's.
    pub node: Option<NodeId>,
    /// Only these runs, of these organizations; `None`: all.
    pub runs: Option<Vec<(RunId, Option<OrganizationId>)>>,
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// It is here, whatever the server took it for.
    Online,
    /// A run has another status.
    Status(StatusChange),
    /// How this node is set up.
    Info(NodeInfo),
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
    /// The node that tells.
    pub node: super::Node,
}

/// How a node is set up, as far as others may know it.
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
