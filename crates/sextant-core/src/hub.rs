//! The port to the vantage6 server (version 5 calls it the hub): its requests and messages, in types that fit every version.
//! The node knows its server by this trait alone, so that what goes wrong between the two can be tried in process, with a fake and
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

/// What a node asks of its server. Each method fails with the server's or the connection's [`HubError`].
#[async_trait::async_trait]
pub trait Hub: Send + Sync + 'static {
    /// All open runs of this node, or of one task. A run that can't be understood is an error of its own
    /// ([`HubErrorKind::BrokenRun`]), after which the others follow, and so is one that is too large ([`HubErrorKind::OversizedRun`]).
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, HubError>>;

    /// One run, without its input.
    async fn run(&self, id: RunId) -> Result<Run, HubError>;

    /// A run's input, decrypted, as it arrives.
    async fn input(&self, id: RunId) -> Result<InputBytes, HubError>;

    /// The bytes of an input that came along with its run.
    async fn read_input(&self, input: &EncodedInput) -> Result<Bytes, InputError>;

    /// A token for the algorithm of a task, bound to the task's image.
    async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, HubError>;

    /// Reports how far a run is; with the first status also when it began.
    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), HubError>;

    /// Ends a run: status, log and result in one request, sent once. On an error, [`HubError::delivery`] tells whether the server may
    /// have the report nevertheless.
    async fn finish_run(&self, id: RunId, report: Report) -> Result<(), HubError>;

    /// Whether a result can be encoded for this organization: [`HubErrorKind::NoRecipient`] says that it can't, as things are at the
    /// server.
    async fn can_report_to(&self, organization: OrganizationId) -> Result<(), HubError>;

    /// An organization's name; `None` if this node may not read that organization.
    async fn organization_name(&self, id: OrganizationId) -> Result<Option<String>, HubError>;

    /// Where a task comes from.
    async fn task_origin(&self, id: TaskId) -> Result<Link, HubError>;

    /// The address of an algorithm store that the server knows, with the path of its API; `None` for one that it does not have, or
    /// does not show to this node.
    async fn algorithm_store(&self, id: StoreId) -> Result<Option<String>, HubError>;

    /// The algorithms that a store has approved for an image as a task names it, in the store's own words: this is asked of the store,
    /// not of the server. Answers within a bounded time.
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

    /// Sends an event over the live connection, where there is one at this moment.
    ///
    /// # Errors
    /// Why it was not sent, in words.
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

/// A run's input as it arrives.
pub type InputBytes = BoxStream<'static, Result<Bytes, InputError>>;

/// What happens on the live connection, in order; the end of it is the end of the connection from this side.
pub type HubEvents = BoxStream<'static, HubEvent>;

/// Why the bytes of an input can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputError {
    /// The transfer broke off.
    #[error(transparent)]
    Transfer(HubError),
    /// It is damaged, or not meant for this organization; in words.
    #[error("{0}")]
    Unreadable(String),
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenRuns {
    /// Only those of one task.
    pub task: Option<TaskId>,
    /// Include inputs of up to this many characters.
    pub inputs_up_to: usize,
}

/// This node, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The collaboration that it works for.
    pub collaboration: CollaborationId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
}

/// One task at one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// How far it is.
    pub status: RunStatus,
    /// Its input, if it was asked for and is not longer than asked for. [`Hub::input`] gives it in any size.
    pub input: Option<EncodedInput>,
    /// What to do.
    pub task: Task,
    /// Who is to do it.
    pub organization: OrganizationId,
    /// When the server gave it to the node.
    pub assigned_at: Option<Timestamp>,
    /// When the node began.
    pub started_at: Option<Timestamp>,
    /// When it ended; then it takes no more changes.
    pub finished_at: Option<Timestamp>,
    /// What of it this node can't handle, for the researcher.
    pub unsupported: Option<&'static str>,
}

impl Run {
    /// How many bytes of memory it takes, nearly.
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

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its name; free text of the researcher.
    pub name: Option<String>,
    /// The image of the algorithm.
    pub image: String,
    /// When the server made it, if it says. A server that uses the numbers of deleted tasks again makes tasks that differ in this.
    pub created_at: Option<Timestamp>,
    /// Shared with its subtasks and parent.
    pub job: JobId,
    /// The task whose algorithm created this one.
    pub parent: Option<TaskId>,
    /// Where the result goes, and whose key it is encrypted for.
    pub init_org: OrganizationId,
    /// Who asked.
    pub init_user: Option<UserId>,
    /// Where.
    pub collaboration: CollaborationId,
    /// The algorithm store that it was created from.
    pub store: Option<StoreId>,
    /// The databases that it wants, in the order that the algorithm expects them.
    pub databases: Vec<RequestedDatabase>,
}

/// A database that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedDatabase {
    /// The label by which the node's configuration knows it.
    pub label: String,
    /// JSON text with `query`, `sheet_name`, `preprocessing`; `None` when the task gives none, or one that is too large.
    pub parameters: Option<String>,
    /// How many bytes of parameters were too large to be kept.
    pub left_out: Option<usize>,
}

/// A run's input as the server keeps it. May hold data of people, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedInput(pub String);

impl fmt::Debug for EncodedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} characters]", self.0.len())
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    /// The last status.
    pub status: RunStatus,
    /// What the algorithm wrote to its output.
    pub log: String,
    /// When it ended ([`now`]).
    pub finished_at: Timestamp,
    /// When it began, if the server does not know that yet.
    pub started_at: Option<Timestamp>,
    /// What the algorithm wrote as its result.
    pub result: Option<RunResult>,
    /// What the caller counts the log's memory with: dropped when the log has been handed to the connection, which may be long before
    /// a large result has.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Report {
    /// Ended just now, without a result.
    pub fn now(status: RunStatus, log: String) -> Self {
        Self { status, log, finished_at: now(), started_at: None, result: None, held: None }
    }
}

/// A result in transit: plain bytes, which the hub encodes for the recipient.
pub struct RunResult {
    /// The organization that asked.
    pub to: OrganizationId,
    /// How many bytes there are.
    pub length: u64,
    /// The bytes; fewer or more than `length` are an error.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunResult({} bytes for {})", self.length, self.to)
    }
}

/// The time in whole microseconds, as servers store it, so that the server returns exactly the time that it got.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
