//! The [`Hub`] of a 4.x server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use secrecy::SecretString;
use sextant_core::host_limits::HostLimits;
use sextant_core::hub::{
    Delivery, EncodedInput, Hub, HubError, HubErrorKind, InputBytes, InputError, LogOf, NodeEvent, OpenRuns, Report,
    Run, RunResult,
};
use sextant_core::image_policy::{Answer, StoreAlgorithm};
use sextant_core::lineage::Link;
use sextant_core::remembered::Remembered;
use tokio::sync::Semaphore;
use vantage6::encoding::{Encoded, Payload};
use vantage6::encryption::{Cryptor, Recipient};
use vantage6::live::Live;
use vantage6::{BlobId, Client, Error, InputKind, OrganizationId, RunId, RunReport, RunStatus, StoreId, TaskId};

use super::blobs::{BlobRuns, Hash, Upload, Uploads};
use super::convert;
use super::recipients::Recipients;
use super::version::{FAILS_SIBLINGS, KnownVersion, LIVE_LOGS};

/// How many requests about runs are sent concurrently. Servers handle requests one by one, so more of them would only use memory:
/// thousands of runs may be refused or killed at the same time.
const REQUESTS: usize = 16;
/// How long the server may take to say that it has lines of a log.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// A 4.x server, as one node uses it.
pub struct Server {
    client: Client,
    live: Option<Live>,
    requests: Semaphore,
    cryptor: Cryptor,
    recipients: Recipients,
    blob_runs: Arc<BlobRuns>,
    uploads: Uploads,
    store_limits: HostLimits,
    approved: Remembered<Vec<StoreAlgorithm>>,
    version: KnownVersion,
}

impl Server {
    /// Creates the server from its client, the decryption of what is sent to this organization, and the live connection, if there is one.
    pub fn new(client: Client, cryptor: Cryptor, live: Option<Live>) -> Self {
        Self {
            client,
            live,
            requests: Semaphore::new(REQUESTS),
            cryptor,
            recipients: Recipients::default(),
            blob_runs: Arc::default(),
            uploads: Uploads::default(),
            store_limits: HostLimits::default(),
            approved: Remembered::default(),
            version: KnownVersion::default(),
        }
    }

    /// Sends a request when one of the concurrent requests is free.
    async fn limited<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let _permit = self.requests.acquire().await;
        request.await
    }

    /// Determines the recipient of a result.
    async fn recipient(&self, organization: OrganizationId) -> Result<Recipient, HubError> {
        if !self.cryptor.is_encrypted() {
            return Ok(Recipient::Plain);
        }
        self.recipients.of(organization, self.limited(self.client.organization(organization))).await
    }

    /// Encodes the result for its recipient. That of a run with its input in the blob store goes there, too, and the report has its id.
    async fn encode(&self, id: RunId, result: RunResult) -> Result<Encoded, HubError> {
        let recipient = self.recipient(result.to).await?;
        if self.blob_runs.contains(id) {
            return Ok(Encoded::from(&self.store(id, recipient, result).await?));
        }
        let message = Payload::new(result.length, result.bytes);
        recipient.encode(message).map_err(|error| convert::no_recipient(error.to_string()))
    }

    /// Stores a result in the blob store. One that is there already, because only its report has failed, is read and compared, and is
    /// not sent again.
    async fn store(&self, run: RunId, recipient: Recipient, result: RunResult) -> Result<BlobId, HubError> {
        let RunResult { length, bytes, .. } = result;
        if let Some(upload) = self.uploads.of(run, &recipient, length) {
            let hash = Hash::of_all(length, bytes).await.map_err(|error| convert::unread(&error))?;
            if hash == upload.hash {
                return Ok(upload.blob);
            }
            self.uploads.forget(run);
            return Err(convert::unread(&"it has changed since it was stored in the server's blob store"));
        }
        let (hash, bytes) = Hash::of(bytes);
        let message = recipient.encode_blob(Payload::new(length, bytes));
        let message = message.map_err(|error| convert::no_recipient(error.to_string()))?;
        let blob = self.client.store_blob(message).await.map_err(convert::not_stored)?;
        self.uploads.remember(Upload { run, recipient, length, hash: hash.finish(), blob: blob.clone() });
        Ok(blob)
    }
}

#[async_trait::async_trait]
impl Hub for Server {
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, HubError>> {
        let OpenRuns { task, inputs_up_to } = which;
        let runs = self.client.open_runs(vantage6::OpenRuns { task, inputs_up_to });
        let blob_runs = self.blob_runs.clone();
        runs.map(move |run| run.map(|run| noted(&blob_runs, run)).map_err(convert::error)).boxed()
    }

    async fn run(&self, id: RunId) -> Result<Run, HubError> {
        let run = self.limited(self.client.run(id)).await.map_err(convert::error)?;
        Ok(noted(&self.blob_runs, run))
    }

    async fn input(&self, id: RunId) -> Result<InputBytes, HubError> {
        let text = self.client.input(id).await.map_err(convert::error)?;
        match InputKind::of(text).await.map_err(convert::error)? {
            InputKind::Text(text) => Ok(self.cryptor.decode(text).map_err(convert::input_error).boxed()),
            InputKind::Blob(blob) => match self.client.blob(&blob).await {
                Ok(bytes) => Ok(self.cryptor.decode_blob(bytes).map_err(convert::input_error).boxed()),
                Err(error) => match convert::no_input(&error) {
                    Some(missing) => Ok(stream::iter([Err(missing)]).boxed()),
                    None => Err(convert::error(error)),
                },
            },
        }
    }

    async fn read_input(&self, input: &EncodedInput) -> Result<Bytes, InputError> {
        self.cryptor.decode_text(&input.0).await.map_err(convert::input_error)
    }

    async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, HubError> {
        self.client.container_token(task, image).await.map_err(convert::error)
    }

    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), HubError> {
        self.limited(self.client.set_status(id, status, started_at)).await.map_err(convert::error)
    }

    async fn report_start(&self, id: RunId, at: Timestamp) -> Result<bool, HubError> {
        let ask = self.limited(self.client.version());
        if !self.version.is_at_least(FAILS_SIBLINGS, ask).await.map_err(convert::error)? {
            return Ok(false);
        }
        self.limited(self.client.set_started(id, at)).await.map(|()| true).map_err(convert::error)
    }

    async fn finish_run(&self, id: RunId, report: Report) -> Result<(), HubError> {
        let Report { status, log, finished_at, started_at, result, held } = report;
        let report = RunReport { status, log, finished_at, started_at, result: None, held };
        let sent = match result {
            // Not limited: a result may take long, and the caller keeps a pod's connection open meanwhile.
            Some(result) => {
                let report = report.result(self.encode(id, result).await?);
                let sent = self.client.finish_run(id, report).await;
                if sent.is_ok() {
                    self.uploads.forget(id);
                }
                sent
            }
            None => self.limited(self.client.finish_run(id, report)).await,
        };
        sent.map_err(convert::error)
    }

    async fn can_report_to(&self, organization: OrganizationId) -> Result<(), HubError> {
        self.recipient(organization).await.map(drop)
    }

    async fn organization_name(&self, id: OrganizationId) -> Result<Option<String>, HubError> {
        match self.limited(self.client.organization(id)).await.map_err(convert::error) {
            Ok(organization) => Ok(Some(organization.name)),
            Err(HubError { kind: HubErrorKind::Refused(401 | 403 | 404), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn task_origin(&self, id: TaskId) -> Result<Link, HubError> {
        self.limited(self.client.task_origin(id)).await.map(convert::link).map_err(convert::error)
    }

    async fn algorithm_store(&self, id: StoreId) -> Result<Option<String>, HubError> {
        match self.limited(self.client.algorithm_store(id)).await.map_err(convert::error) {
            Ok(store) => Ok(Some(store.url)),
            Err(HubError { kind: HubErrorKind::Refused(401 | 403 | 404), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn store_algorithms(&self, store: &str, image: &str) -> Answer<Vec<StoreAlgorithm>> {
        let question = async { convert::approved(self.client.store_algorithms(store, Some(image)).await, image) };
        let host = convert::host(store);
        let ask = self.store_limits.ask(&host, question);
        self.approved.get(&format!("{store} {image}"), ask).await
    }

    async fn has_live_logs(&self) -> Result<bool, HubError> {
        self.version.is_at_least(LIVE_LOGS, self.limited(self.client.version())).await.map_err(convert::error)
    }

    async fn append_log(&self, of: LogOf, text: &str) -> Result<(), Delivery> {
        let Some(live) = &self.live else { return Err(Delivery::NotSent) };
        live.send_with_ack(&convert::log(of, text), ACKNOWLEDGED_WITHIN).await.map_err(convert::delivery)
    }

    async fn replace_log(&self, id: RunId, log: &str) -> Result<(), HubError> {
        self.limited(self.client.set_log(id, log)).await.map_err(convert::error)
    }

    async fn send_event(&self, event: NodeEvent) -> Result<(), String> {
        match &self.live {
            Some(live) => live.send(&convert::outgoing(event)).await.map_err(|error| error.to_string()),
            None => Err("there is no live connection".into()),
        }
    }
}

/// A run as the node knows it.
fn noted(blob_runs: &BlobRuns, run: vantage6::Run) -> Run {
    blob_runs.note(&run);
    convert::run(run)
}

#[cfg(test)]
mod tests;
