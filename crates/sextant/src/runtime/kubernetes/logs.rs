//! The algorithm's log, from the API server: its end, in bounded memory.

use std::time::Duration;

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::cluster::words;
use crate::core::{facts::ALGORITHM, tail::Tail};
use crate::runtime::RuntimeError;

/// How much of a log is reported.
const LIMIT: usize = 1024 * 1024;
/// How long reading it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the log of a pod's algorithm.
///
/// # Errors
/// If the API server (or the kubelet behind it) does not give it.
pub async fn of_algorithm(api: &Api<Pod>, pod: &str) -> Result<String, RuntimeError> {
    tokio::time::timeout(PATIENCE, read(api, pod))
        .await
        .unwrap_or_else(|_| Err(RuntimeError("the log did not come in time".into())))
}

async fn read(api: &Api<Pod>, pod: &str) -> Result<String, RuntimeError> {
    let parameters = LogParams { container: Some(ALGORITHM.into()), ..LogParams::default() };
    let stream = api.log_stream(pod, &parameters).await.map_err(|error| RuntimeError(words(&error)))?;
    let mut stream = std::pin::pin!(stream);
    let mut tail = Tail::new(LIMIT);
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => return Ok(tail.into_text()),
            Ok(length) => tail.push(&chunk[..length]),
            Err(error) => return Err(RuntimeError(words(&error))),
        }
    }
}
