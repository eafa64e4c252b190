//! The port to what runs algorithms: launching, watching, collecting and stopping runs. Kubernetes implements it for production, `local`
//! for trying Sextant out.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::{oneshot, watch};
use vantage6_types::{RunId, RunStatus, TaskId};

use crate::assignment::Assignment;
use crate::gate::Gate;
use crate::pod_issue::PodIssue;
use crate::run_state::{Disruption, Failure, RunState};
use crate::tail::Tail;

/// Launches, watches, collects and stops runs.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The runs that an earlier process of this node left and that are [`unreported`](Self::unreported), once the runtime has seen all.
    /// Called once, before anything is launched.
    async fn list_existing(&self) -> Vec<(TaskId, RunId)>;

    /// The runs that exist in this runtime and are not marked as reported.
    fn unreported(&self) -> Vec<(TaskId, RunId)>;

    /// Whether the runtime still has an unreported run that had this run's number before: a server may use the numbers of deleted runs
    /// again.
    fn has_stale_job(&self, assignment: &Assignment) -> bool;

    /// Subscribes to a run's state.
    fn observe(&self, run: RunId) -> watch::Receiver<RunState>;

    /// Subscribes to whether runs may be launched.
    fn gate(&self) -> watch::Receiver<Gate>;

    /// Creates what the run needs. Idempotent.
    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError>;

    /// Creates what is missing of a launch that an earlier process began, whose decisions this one does not know. Does not begin a launch
    /// where there is nothing of it any more: that would run an image that nobody has decided on.
    async fn complete_launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        self.launch(assignment).await
    }

    /// Waits until the output of a run whose algorithm has ended can be read.
    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError>;

    /// The end of the algorithm's log.
    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError>;

    /// The algorithm's log from its beginning, as it is written. Goes on for as long as the algorithm may print something, also where the
    /// connection to the runtime is lost meanwhile; nothing of it comes twice.
    fn follow_log(&self, run: RunId) -> BoxStream<'static, LogPart>;

    /// What the runtime itself says of why a run of this image does not start; `None` when it says nothing.
    async fn why_pending(&self, run: RunId, image: &str) -> Option<PodIssue>;

    /// A run waits for capacity: ends what takes some and is of no use to any run.
    async fn make_room(&self) {}

    /// Launches a run again whose earlier launch was disrupted. Idempotent.
    async fn relaunch(&self, assignment: &Assignment, disrupted: Disruption) -> Result<(), LaunchError>;

    /// Records an event about a run where the runtime's operators look for events. Returns at once.
    fn record_event(&self, run: RunId, reason: &'static str, text: String);

    /// Whether a run exists in this runtime.
    fn contains(&self, run: RunId) -> bool;

    /// Nobody observes a run any more.
    fn unsubscribe(&self, run: RunId);

    /// Stops a run at once, and leaves it to be reported. Idempotent.
    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError>;

    /// The server has the report: stops what still runs, and marks the rest as reported, so that it is removed in time.
    async fn release(&self, run: RunId, status: &RunStatus) -> Result<(), RuntimeError>;
}

/// A part of a log as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// What the algorithm has printed.
    pub bytes: Bytes,
    /// When, if the runtime knows.
    pub at: Option<Timestamp>,
    /// Whether something before it is left out.
    pub after_gap: bool,
}

/// Provides the input and the token of a run; asked when its algorithm is about to start.
#[async_trait::async_trait]
pub trait InputSource: Send + Sync + 'static {
    /// The decrypted input, as it arrives.
    async fn input(&self, run: RunId) -> Result<InputStream, InputSourceError>;
    /// The container token.
    async fn token(&self, run: RunId) -> Result<SecretString, InputSourceError>;
}

/// An input as it arrives.
pub type InputStream = BoxStream<'static, Result<Bytes, InputSourceError>>;

/// Why an input or a token is not available.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputSourceError {
    /// It never will be; the text is for the researcher.
    #[error("{0}")]
    Refused(String),
    /// Not now.
    #[error("{0}")]
    Later(String),
}

/// Why a run could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It never will be.
    #[error("{}", .0.detail)]
    Failed(Failure),
    /// The runtime is away: try again later.
    #[error("{0}")]
    Later(String),
    /// The runtime is reachable and full: try again later, for a limited time.
    #[error("{}", .0.detail)]
    Full(Failure),
}

/// Why a runtime could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// An output that a pod uploads.
pub struct Upload {
    /// How many bytes it has.
    pub length: u64,
    /// Its bytes.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
    /// Why there is none, if there is none.
    pub problem: Option<String>,
}

/// An output, and a channel to confirm that the server has it.
pub struct Output {
    /// The bytes.
    pub upload: Upload,
    /// Answered with `()` once the server has it; dropped otherwise, and then it can be collected again.
    pub taken: oneshot::Sender<()>,
}
