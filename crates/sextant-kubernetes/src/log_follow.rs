//! Follows an algorithm's log as it is written. The API server, the kubelet or this client's own limit for idle connections ends each
//! connection eventually. The next connection continues where it ended.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use futures::stream::BoxStream;
use futures::{AsyncRead, AsyncReadExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use sextant_core::runtime::LogPart;
use tokio::time::{Instant, sleep};
use tracing::debug;
use vantage6_types::RunId;

use super::cluster::error_chain;
use super::run_index::RunIndex;
use crate::decisions::facts::ALGORITHM;
use crate::decisions::log_cursor::LogCursor;

/// The pauses between two connections.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
/// A connection that lasted longer than this has ended normally.
const LASTING: Duration = Duration::from_secs(60);

struct Follow {
    pods: Api<Pod>,
    run_index: Arc<RunIndex>,
    run: RunId,
    pod: String,
    cursor: LogCursor,
    connection: Option<Pin<Box<dyn AsyncRead + Send>>>,
    since: Instant,
    /// How many connections in a row have brought nothing.
    vain: u32,
}

/// The log of a pod's algorithm, until the pod is gone.
pub fn of_algorithm(pods: Api<Pod>, run_index: Arc<RunIndex>, run: RunId, pod: String) -> BoxStream<'static, LogPart> {
    let begin = Follow {
        pods,
        run_index,
        run,
        pod,
        cursor: LogCursor::default(),
        connection: None,
        since: Instant::now(),
        vain: 0,
    };
    stream::unfold(begin, |mut follow| async move { Some((follow.next().await?, follow)) }).boxed()
}

impl Follow {
    async fn next(&mut self) -> Option<LogPart> {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            if self.connection.is_none() && !self.connect().await {
                return None;
            }
            let Some(connection) = &mut self.connection else { continue };
            match connection.read(&mut chunk).await {
                Ok(length) if length > 0 => {
                    let mut text = Vec::new();
                    let at = self.cursor.feed(&chunk[..length], &mut text);
                    if !text.is_empty() {
                        self.vain = 0;
                        return Some(LogPart { bytes: text.into(), at, after_gap: false });
                    }
                }
                ended => {
                    debug!(run = %self.run, ?ended, "The connection for a log has ended");
                    self.connection = None;
                    if self.since.elapsed() > LASTING {
                        self.vain = 0;
                    }
                    self.vain += 1;
                    sleep(PAUSES.random(self.vain)).await;
                }
            }
        }
    }

    /// Connects if the pod still exists. Returns whether it does.
    async fn connect(&mut self) -> bool {
        if self.run_index.pod_of(self.run).is_none_or(|pod| pod.name != self.pod) {
            return false;
        }
        let parameters = LogParams {
            container: Some(ALGORITHM.into()),
            follow: true,
            timestamps: true,
            since_time: self.cursor.since(),
            ..LogParams::default()
        };
        self.since = Instant::now();
        match self.pods.log_stream(&self.pod, &parameters).await {
            Ok(connection) => {
                self.cursor.resume();
                self.connection = Some(Box::pin(connection));
            }
            Err(error) => {
                debug!(run = %self.run, "The log can't be followed: {}", error_chain(&error));
                self.vain += 1;
                sleep(PAUSES.random(self.vain)).await;
            }
        }
        true
    }
}
