//! Reads the end of an algorithm's log from the API server, in bounded memory. For a long log, the kubelet itself returns only the newest
//! file (`containerLogMaxSize`, 10 MiB by default), and does not say how much the older files contained.

use std::time::Duration;

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use sextant_core::runtime::RuntimeError;
use sextant_core::tail::{Bounds, Tail};

use super::cluster::error_chain;
use crate::decisions::facts::ALGORITHM;

/// The number of lines to request from the kubelet, which would otherwise send gigabytes that are then dropped. The kubelet counts lines
/// as the container runtime writes them, in pieces of up to 16 KiB. With this many extra lines, everything to report is included, and a
/// truncated log has more lines or bytes than are reported.
const LINES: usize = Bounds::LOG.lines + Bounds::LOG.bytes / (16 * 1024) + 1;
/// The time limit for reading.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the log of a pod's algorithm.
///
/// # Errors
/// If the API server, or the kubelet behind it, does not return the log.
pub async fn of_algorithm(api: &Api<Pod>, pod: &str) -> Result<Tail, RuntimeError> {
    tokio::time::timeout(PATIENCE, read(api, pod))
        .await
        .unwrap_or_else(|_| Err(RuntimeError("the log did not arrive in time".into())))
}

async fn read(api: &Api<Pod>, pod: &str) -> Result<Tail, RuntimeError> {
    let tail_lines = Some(LINES as i64);
    let parameters = LogParams { container: Some(ALGORITHM.into()), tail_lines, ..LogParams::default() };
    let stream = api.log_stream(pod, &parameters).await.map_err(|error| RuntimeError(error_chain(&error)))?;
    let mut stream = std::pin::pin!(stream);
    let mut tail = Tail::new(Bounds::LOG);
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => return Ok(tail),
            Ok(length) => tail.push(&chunk[..length]),
            Err(error) => return Err(RuntimeError(error_chain(&error))),
        }
    }
}
