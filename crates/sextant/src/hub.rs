//! The port to the vantage6 server (version 5 calls it the hub): what the node asks of it and tells it. The node knows its server by this
//! trait, so that what goes wrong between the two can be tried in process, with a fake and paused time.

#[cfg(test)]
pub mod testing;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use vantage6::live::Live;
use vantage6::{
    Client, Error, Finish, OpenRuns, Organization, OrganizationId, Outgoing, Run, RunId, RunStatus, TaskId, TaskOrigin,
};

/// A run's input as it arrives, still encoded.
pub type InputText = BoxStream<'static, Result<Bytes, Error>>;

/// What a node asks of its server. Each method fails with the server's or the connection's [`Error`].
#[async_trait::async_trait]
pub trait Hub: Send + Sync + 'static {
    /// All open runs of this node, or of one task, as [`Client::open_runs`] gives them.
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, Error>>;

    /// One run, without its input.
    async fn run(&self, id: RunId) -> Result<Run, Error>;

    /// A run's input as it arrives, still encoded.
    async fn input(&self, id: RunId) -> Result<InputText, Error>;

    /// A token for the algorithm of a task, bound to the task's image.
    async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, Error>;

    /// Reports how far a run is; with the first status also when it began.
    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), Error>;

    /// Ends a run: status, log and result in one request, sent once.
    async fn finish_run(&self, id: RunId, finish: Finish) -> Result<(), Error>;

    /// An organization with its public key.
    async fn organization(&self, id: OrganizationId) -> Result<Organization, Error>;

    /// Where a task comes from.
    async fn task_origin(&self, id: TaskId) -> Result<TaskOrigin, Error>;

    /// Sends an event over the live connection, where there is one at this moment.
    ///
    /// # Errors
    /// Why it was not sent, in words.
    async fn send_event(&self, event: &Outgoing) -> Result<(), String>;
}

/// How many requests about runs are under way at a time. Servers do one thing after the other, so more of them would only take memory:
/// thousands of runs may be refused or killed in one moment.
const REQUESTS: usize = 16;

/// A 4.x server.
pub struct Server {
    client: Client,
    requests: Semaphore,
    live: Option<Live>,
}

impl Server {
    /// The server behind a client and its live connection.
    pub fn new(client: Client, live: Live) -> Self {
        Self { client, requests: Semaphore::new(REQUESTS), live: Some(live) }
    }

    /// The answer to a request about a run, when it is its turn.
    async fn in_turn<T>(&self, request: impl Future<Output = T>) -> T {
        // It can't fail: nobody closes it.
        let _turn = self.requests.acquire().await;
        request.await
    }

    /// The server behind a client, without a live connection.
    #[cfg(test)]
    pub fn without_events(client: Client) -> Self {
        Self { client, requests: Semaphore::new(REQUESTS), live: None }
    }
}

#[async_trait::async_trait]
impl Hub for Server {
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, Error>> {
        self.client.open_runs(which).boxed()
    }

    async fn run(&self, id: RunId) -> Result<Run, Error> {
        self.in_turn(self.client.run(id)).await
    }

    async fn input(&self, id: RunId) -> Result<InputText, Error> {
        self.client.input(id).await.map(futures::StreamExt::boxed)
    }

    async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, Error> {
        self.client.container_token(task, image).await
    }

    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), Error> {
        self.in_turn(self.client.set_status(id, status, started_at)).await
    }

    async fn finish_run(&self, id: RunId, finish: Finish) -> Result<(), Error> {
        // A result takes its time, and whoever waits for it holds a pod's connection.
        match finish.result {
            Some(_) => self.client.finish_run(id, finish).await,
            None => self.in_turn(self.client.finish_run(id, finish)).await,
        }
    }

    async fn organization(&self, id: OrganizationId) -> Result<Organization, Error> {
        self.in_turn(self.client.organization(id)).await
    }

    async fn task_origin(&self, id: TaskId) -> Result<TaskOrigin, Error> {
        self.in_turn(self.client.task_origin(id)).await
    }

    async fn send_event(&self, event: &Outgoing) -> Result<(), String> {
        match &self.live {
            Some(live) => live.send(event).await.map_err(|error| error.to_string()),
            None => Err("there is no live connection".into()),
        }
    }
}
