//! The [`Hub`] of a 4.x server.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
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
use vantage6::encoding::Payload;
use vantage6::encryption::{Cryptor, Recipient};
use vantage6::live::Live;
use vantage6::{Client, Error, OrganizationId, RunId, RunReport, RunStatus, StoreId, TaskId};

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

    async fn encode(&self, result: RunResult) -> Result<vantage6::encoding::Encoded, HubError> {
        let RunResult { to, length, bytes } = result;
        let recipient = self.recipient(to).await?;
        recipient.encode(Payload::new(length, bytes)).map_err(|error| convert::no_recipient(error.to_string()))
    }
}

#[async_trait::async_trait]
impl Hub for Server {
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, HubError>> {
        let OpenRuns { task, inputs_up_to } = which;
        let runs = self.client.open_runs(vantage6::OpenRuns { task, inputs_up_to });
        runs.map(|run| run.map(convert::run).map_err(convert::error)).boxed()
    }

    async fn run(&self, id: RunId) -> Result<Run, HubError> {
        self.limited(self.client.run(id)).await.map(convert::run).map_err(convert::error)
    }

    async fn input(&self, id: RunId) -> Result<InputBytes, HubError> {
        let text = self.client.input(id).await.map_err(convert::error)?;
        Ok(self.cryptor.decode(text).map_err(convert::input_error).boxed())
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
                let report = report.result(self.encode(result).await?);
                self.client.finish_run(id, report).await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_core::hub::Hub as _;
    use vantage6::{Backoff, ServerUrl};
    use wiremock::matchers::{method, path, query_param};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    /// A store asks the image's registry, and waits for it.
    #[tokio::test]
    async fn an_image_that_a_store_says_nothing_of_keeps_no_other_from_being_asked_about() {
        let (server, store) = (MockServer::start().await, MockServer::start().await);
        let answer = |text: &str| ResponseTemplate::new(200).set_body_raw(text.to_owned(), "application/json");
        let login = answer(r#"{"access_token": "a", "refresh_token": "r"}"#);
        Mock::given(method("POST")).and(path("/api/token/node")).respond_with(login).mount(&server).await;
        let silent = answer("{}").set_delay(Duration::from_secs(60));
        let good = || answer(r#"{"data": [{"image": "r.example/good"}]}"#);
        for (image, answer) in [
            ("r.example/silent:1", silent),
            ("r.example/broken:1", ResponseTemplate::new(500)),
            ("r.example/good:1", good()),
            ("r.example/good:2", good()),
        ] {
            Mock::given(query_param("image", image)).respond_with(answer).mount(&store).await;
        }
        let url = ServerUrl::new(&server.uri(), None, "/api").unwrap();
        let client = Client::builder(url, "key".to_owned().into()).backoff(Backoff::never());
        let client = client.silence(Duration::from_millis(700)).build().unwrap();
        let hub = Server::new(client, Cryptor::Plain, None);
        let url = format!("{}/api", store.uri());
        for (image, next) in [("r.example/silent:1", "r.example/good:1"), ("r.example/broken:1", "r.example/good:2")] {
            assert!(matches!(hub.store_algorithms(&url, image).await, Answer::Away(_)), "{image}");
            let answer = hub.store_algorithms(&url, next).await;
            assert!(matches!(&answer, Answer::Known(known) if known.len() == 1), "after {image}: {answer:?}");
        }
    }
}
