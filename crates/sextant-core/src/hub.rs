//! The port to the vantage6 server (version 5 calls it the hub): its requests and messages, in types that fit every version.
//! The node accesses its server only by this trait, so tests can produce every fault between the two in process, with a fake and
//! paused time.

mod error;
mod event;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::any::Any;
use std::fmt;
use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;
use vantage6_types::{CollaborationId, JobId, NodeId, OrganizationId, RunId, RunStatus, StoreId, TaskId, UserId};

pub use self::error::{Delivery, HubError, HubErrorKind};
pub use self::event::{DatabaseInfo, HubEvent, Kill, NodeEvent, NodeInfo, NodeMetrics, StatusChange};
use super::image_policy::{Answer, StoreAlgorithm};
use super::lineage::Link;

/// The requests of a node to its server. Each method fails with the server's or the connection's [`HubError`].
#[async_trait::async_trait]
pub trait Hub: Send + Sync + 'static {
    /// All open runs of this node, or of one task. A run that can't be parsed yields an error of its own ([`HubErrorKind::BrokenRun`]),
    /// and so does one that is too large ([`HubErrorKind::OversizedRun`]). The other runs follow after it.
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, HubError>>;

    /// One run, without its input.
    async fn run(&self, id: RunId) -> Result<Run, HubError>;

    /// A run's input, decrypted, as it arrives.
    async fn input(&self, id: RunId) -> Result<InputBytes, HubError>;

    /// Decodes an input that was included in its run.
    async fn read_input(&self, input: &EncodedInput) -> Result<Bytes, InputError>;

    /// A token for the algorithm of a task, bound to the task's image.
    async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, HubError>;

    /// Reports a run's status. The first report also has the time at which the run started.
    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), HubError>;

    /// Reports when the node started a run of which there is no status to report yet, if that makes a difference at this server. Returns
    /// whether the server has it.
    async fn report_start(&self, id: RunId, at: Timestamp) -> Result<bool, HubError>;

    /// Ends a run: sends status, log and result in one request, once. On an error, [`HubError::delivery`] says whether the server may
    /// have the report nevertheless.
    async fn finish_run(&self, id: RunId, report: Report) -> Result<(), HubError>;

    /// Checks whether a result can be encoded for this organization. [`HubErrorKind::NoRecipient`] means that it can't, given the
    /// server's present data.
    async fn can_report_to(&self, organization: OrganizationId) -> Result<(), HubError>;

    /// An organization's name; `None` if this node may not read it.
    async fn organization_name(&self, id: OrganizationId) -> Result<Option<String>, HubError>;

    /// The origin of a task.
    async fn task_origin(&self, id: TaskId) -> Result<Link, HubError>;

    /// The address of an algorithm store that the server knows, with the path of its API; `None` if the server does not have it, or
    /// does not show it to this node.
    async fn algorithm_store(&self, id: StoreId) -> Result<Option<String>, HubError>;

    /// The algorithms that a store has approved for a task's image, with the store's own names. The request goes to the store and not to
    /// the server. It completes within a bounded time.
    async fn store_algorithms(&self, store: &str, image: &str) -> Answer<Vec<StoreAlgorithm>>;

    /// Whether the server keeps what algorithms print while they run.
    async fn has_live_logs(&self) -> Result<bool, HubError>;

    /// Adds lines to the log of an open run, over the live connection; returns when the server has them. One that does not say so within
    /// a bounded time is taken to have them.
    ///
    /// # Errors
    /// If there is no connection: whether the server may have the lines nevertheless.
    async fn append_log(&self, of: LogOf, text: &str) -> Result<(), Delivery>;

    /// Replaces the log of an open run at the server.
    async fn replace_log(&self, id: RunId, log: &str) -> Result<(), HubError>;

    /// Sends an event over the live connection, if there is one now.
    ///
    /// # Errors
    /// Why the event was not sent.
    async fn send_event(&self, event: NodeEvent) -> Result<(), String>;
}

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOf {
    /// Of this run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// The task's collaboration.
    pub collaboration: CollaborationId,
}

/// A run's input as a stream.
pub type InputBytes = BoxStream<'static, Result<Bytes, InputError>>;

/// The events of the live connection, in order. The stream ends when the connection is closed from this side.
pub type HubEvents = BoxStream<'static, HubEvent>;

/// Why the bytes of an input are not available.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputError {
    /// The transfer broke off.
    #[error(transparent)]
    Transfer(HubError),
    /// The input is damaged, or not encrypted for this organization, with an explanation.
    #[error("{0}")]
    Unreadable(String),
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// Only the runs of this task.
    pub task: Option<TaskId>,
    /// Include inputs of up to this many characters.
    pub inputs_up_to: usize,
}

/// This node, as registered at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's ID.
    pub id: NodeId,
    /// The node's collaboration.
    pub collaboration: CollaborationId,
    /// The node's organization.
    pub organization: OrganizationId,
}

/// One task at one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The run's ID.
    pub id: RunId,
    /// The run's status.
    pub status: RunStatus,
    /// The input, if it was requested and is not longer than the requested limit. [`Hub::input`] returns inputs of any size.
    pub input: Option<EncodedInput>,
    /// The run's task.
    pub task: Task,
    /// The organization that executes it.
    pub organization: OrganizationId,
    /// When the server assigned it to the node.
    pub assigned_at: Option<Timestamp>,
    /// When the node started it.
    pub started_at: Option<Timestamp>,
    /// When it ended. After that, the server accepts no more changes.
    pub finished_at: Option<Timestamp>,
    /// A feature of the run that this node does not support, for the researcher.
    pub unsupported: Option<&'static str>,
}

impl Run {
    /// The approximate memory use in bytes.
    pub fn weight(&self) -> usize {
        let Task { name, image, databases, .. } = &self.task;
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let database = |database: &RequestedDatabase| {
            size_of::<RequestedDatabase>() + database.label.len() + length(&database.parameters)
        };
        let input = self.input.as_ref().map_or(0, |input| input.0.len());
        size_of::<Self>() + length(name) + image.len() + input + databases.iter().map(database).sum::<usize>()
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The task's ID.
    pub id: TaskId,
    /// The task's name, which is the researcher's free text.
    pub name: Option<String>,
    /// The image of the algorithm.
    pub image: String,
    /// When the server created it, if it says. Tasks for which the server reuses the ID of a deleted task differ in this.
    pub created_at: Option<Timestamp>,
    /// The job, which the task shares with its subtasks and its parent.
    pub job: JobId,
    /// The task whose algorithm created this one.
    pub parent: Option<TaskId>,
    /// The organization that created the task. It gets the result, encrypted with its key.
    pub init_org: OrganizationId,
    /// The user who created the task.
    pub init_user: Option<UserId>,
    /// The task's collaboration.
    pub collaboration: CollaborationId,
    /// The algorithm store from which it was created.
    pub store: Option<StoreId>,
    /// The requested databases, in the order that the algorithm expects.
    pub databases: Vec<RequestedDatabase>,
}

/// A database that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedDatabase {
    /// The label of the database in the node's configuration.
    pub label: String,
    /// JSON text with `query`, `sheet_name`, `preprocessing`; `None` if the task has none, or one that is too large.
    pub parameters: Option<String>,
    /// The size in bytes of parameters that were too large to keep.
    pub left_out: Option<usize>,
}

/// A run's input as the server stores it. It may contain personal data, so `Debug` never prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedInput(pub String);

impl fmt::Debug for EncodedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} characters]", self.0.len())
    }
}

/// The report about a run's end.
#[derive(Debug)]
pub struct Report {
    /// The last status.
    pub status: RunStatus,
    /// The algorithm's log.
    pub log: String,
    /// When it ended ([`now`]).
    pub finished_at: Timestamp,
    /// When it started, if the server does not know that yet.
    pub started_at: Option<Timestamp>,
    /// The algorithm's result.
    pub result: Option<RunResult>,
    /// A guard with which the caller accounts for the log's memory. It is dropped when the log has been passed to the connection, which may
    /// be long before a large result has been.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Report {
    /// A report of a run that ended just now, without a result.
    pub fn now(status: RunStatus, log: String) -> Self {
        Self { status, log, finished_at: now(), started_at: None, result: None, held: None }
    }
}

/// A result that is being uploaded: plain bytes, which the hub encodes for the recipient.
pub struct RunResult {
    /// The organization that created the task.
    pub to: OrganizationId,
    /// The length in bytes.
    pub length: u64,
    /// The bytes; fewer or more than `length` are an error.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunResult({} bytes for {})", self.length, self.to)
    }
}

/// The time in whole microseconds, which is the precision of servers, so that the server returns exactly the time that it received.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
