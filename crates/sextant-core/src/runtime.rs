//! A runtime launches, watches, feeds, collects and stops runs. There are two: Kubernetes, the real one, and
//! local, for a first try. The node knows them by this trait alone.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use secrecy::SecretString;
use tokio::sync::{oneshot, watch};
use vantage6_types::{RunId, RunStatus, TaskId};

use crate::assignment::Assignment;
use crate::gate::Gate;
use crate::pod_issue::PodIssue;
use crate::run_state::{Disruption, Failure, RunState};
use crate::tail::Tail;

/// What launches, watches, feeds, collects and stops runs.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Finds what an earlier process of this node left, once, before anything is launched: gives what is [`unreported`](Self::unreported).
    /// Waits until the runtime has seen all.
    async fn leftovers(&self) -> Vec<(TaskId, RunId)>;

    /// The runs that this runtime has things of and that are not marked as reported.
    fn unreported(&self) -> Vec<(TaskId, RunId)>;

    /// Whether what the runtime has under this run's number belongs to another run, which had the number before and has no
    /// report: a server may use the numbers of deleted runs again.
    fn holds_another(&self, assignment: &Assignment) -> bool;

    /// A run's state, now and at every change.
    fn observe(&self, run: RunId) -> watch::Receiver<RunState>;

    /// Whether runs may be launched, now and at every change.
    fn gate(&self) -> watch::Receiver<Gate>;

    /// Makes the run's things. Harmless when they are there already.
    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError>;

    /// Waits until the output of a run whose algorithm has ended can be read.
    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError>;

    /// The end of the algorithm's log.
    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError>;

    /// What the runtime itself says of why a run of this image does not start; `None` when it says nothing.
    async fn explain(&self, run: RunId, image: &str) -> Option<PodIssue>;

    /// A run waits for room: ends what takes some and is of no use to any run.
    async fn make_room(&self) {}

    /// Makes the things of a run anew whose earlier ones were taken away by the cluster. Harmless when they are there already.
    async fn relaunch(&self, assignment: &Assignment, disrupted: Disruption) -> Result<(), LaunchError>;

    /// Leaves word of a run where the operators of the runtime look: a word for it, and a text. Nobody waits for it.
    fn note(&self, run: RunId, reason: &'static str, text: String);

    /// Whether there is something of a run.
    fn knows(&self, run: RunId) -> bool;

    /// Nobody looks at a run any more.
    fn forget(&self, run: RunId);

    /// Ends what runs of a run at once, and leaves it to be reported. Harmless when nothing runs any more.
    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError>;

    /// The server has the report: stops what still runs, and marks what is left as done, so that it goes away
    /// in its time.
    async fn release(&self, run: RunId, status: &RunStatus) -> Result<(), RuntimeError>;
}

/// Gives a runtime what a run's algorithm is to get; asked only when the algorithm is about to start.
#[async_trait::async_trait]
pub trait Supplier: Send + Sync + 'static {
    /// The decrypted input, as it arrives.
    async fn input(&self, run: RunId) -> Result<InputStream, SupplyError>;
    /// The container token.
    async fn token(&self, run: RunId) -> Result<SecretString, SupplyError>;
}

/// An input as it arrives.
pub type InputStream = BoxStream<'static, Result<Bytes, SupplyError>>;

/// Why a supply is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SupplyError {
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
    /// The runtime is there and full: try again later, but not for ever.
    #[error("{}", .0.detail)]
    Full(Failure),
}

/// Why a runtime could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// An output on its way from a pod.
pub struct Upload {
    /// How many bytes it has.
    pub length: u64,
    /// Its bytes.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
    /// Why there is none, if there is none.
    pub problem: Option<String>,
}

/// An output, and the way to say that the server has it.
pub struct Output {
    /// The bytes.
    pub upload: Upload,
    /// Answered with `()` once the server has it; dropped otherwise, and then it can be collected again.
    pub taken: oneshot::Sender<()>,
}
