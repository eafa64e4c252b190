//! The port to the runtime of algorithms: launching, watching, collecting and stopping runs. Kubernetes implements it for production,
//! `local` for trying Sextant out.

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
    /// The [`unreported`](Self::unreported) runs that an earlier process of this node left, once the runtime has listed everything.
    /// Called once, before anything is launched.
    async fn list_existing(&self) -> Vec<(TaskId, RunId)>;

    /// The runs that exist in this runtime and are not marked as reported.
    fn unreported(&self) -> Vec<(TaskId, RunId)>;

    /// Whether the runtime still has an unreported run that had this run's id before. A server may reuse the ids of deleted runs.
    fn has_stale_job(&self, assignment: &Assignment) -> bool;

    /// Subscribes to a run's state.
    fn observe(&self, run: RunId) -> watch::Receiver<RunState>;

    /// Subscribes to the launch gate, which says whether runs may be launched.
    fn gate(&self) -> watch::Receiver<Gate>;

    /// Creates what the run needs. Idempotent.
    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError>;

    /// Creates the missing objects of a launch that an earlier process began, whose decisions this process does not know. It does not
    /// start a launch of which nothing is left, since that would run an image that no current decision allows.
    async fn complete_launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        self.launch(assignment).await
    }

    /// Waits until the output of a run whose algorithm has ended can be read.
    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError>;

    /// Reads the end of the algorithm's log.
    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError>;

    /// The algorithm's log from its beginning, as it is written. The stream continues for as long as the algorithm may print something,
    /// even if the connection to the runtime is lost meanwhile. It repeats nothing.
    fn follow_log(&self, run: RunId) -> BoxStream<'static, LogPart>;

    /// The runtime's own explanation of why a run of this image does not start; `None` if there is none.
    async fn why_pending(&self, run: RunId, image: &str) -> Option<PodIssue>;

    /// Frees capacity for a waiting run by ending pods that are of no use to any run.
    async fn make_room(&self) {}

    /// Launches a run again whose earlier launch was disrupted. Idempotent.
    async fn relaunch(&self, assignment: &Assignment, disrupted: Disruption) -> Result<(), LaunchError>;

    /// Records an event about a run where operators look for the runtime's events. Returns at once.
    fn record_event(&self, run: RunId, reason: &'static str, text: String);

    /// Whether a run exists in this runtime.
    fn contains(&self, run: RunId) -> bool;

    /// Drops the state of a run that has no observers left.
    fn unsubscribe(&self, run: RunId);

    /// Stops a run at once, and keeps it until it is reported. Idempotent.
    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError>;

    /// Must be called after the server has accepted the report. Stops what is still running, and marks the rest as reported so that it is
    /// removed in time.
    async fn release(&self, run: RunId, status: &RunStatus) -> Result<(), RuntimeError>;
}

/// A part of a log as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The algorithm's output.
    pub bytes: Bytes,
    /// The time of the output, if the runtime knows it.
    pub at: Option<Timestamp>,
    /// Whether output before this part is missing.
    pub after_gap: bool,
}

/// Provides the input and the token of a run when its algorithm is about to start.
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
    /// Access is refused for good. The text is for the researcher.
    #[error("{0}")]
    Refused(String),
    /// Not available now. Retry later.
    #[error("{0}")]
    Later(String),
}

/// Why a run could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The run can never be launched.
    #[error("{}", .0.detail)]
    Failed(Failure),
    /// The runtime is unavailable. Retry later.
    #[error("{0}")]
    Later(String),
    /// The runtime is reachable but has no capacity. Retry later, for a limited time.
    #[error("{}", .0.detail)]
    Full(Failure),
}

/// Why a request to the runtime failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// An output that a pod uploads.
pub struct Upload {
    /// The number of bytes.
    pub length: u64,
    /// The bytes.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
    /// Why there is no output, if there is none.
    pub problem: Option<String>,
}

/// An output, and a channel to confirm that the server has it.
pub struct Output {
    /// The output.
    pub upload: Upload,
    /// Receives `()` once the server has the output. If it is dropped before, the output can be collected again.
    pub taken: oneshot::Sender<()>,
}
