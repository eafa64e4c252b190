//! Reports the end of a run: one request with a result of any size, in a JSON text that is never in memory as a whole.

use std::{
    any::Any,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::{Response, header};
use secrecy::SecretString;
use serde_json::json;

use crate::{
    Delivery, Error, RunStatus,
    encoding::Encoded,
    http::{Call, HttpTransport},
    time,
};

/// The size in bytes of the pieces in which the text before the result is sent.
const CHUNK: usize = 64 * 1024;

/// The end of a run (`PATCH run/{id}`; `Run.patch` in `server/resource/run.py`).
#[derive(Debug)]
pub struct RunReport {
    /// The final status.
    pub status: RunStatus,
    /// The algorithm's output. NUL characters are replaced: PostgreSQL can't store them, and the server would answer 500
    /// every time.
    pub log: String,
    /// When the run ended. With a precision of microseconds ([`crate::now`]) the server returns the same value, so reading the run
    /// later shows whether this report was the one that took effect.
    pub finished_at: Timestamp,
    /// When the run started, if the server does not know yet.
    pub started_at: Option<Timestamp>,
    /// The encoded result; see [`crate::encoding`].
    pub result: Option<Encoded>,
    /// The caller's permit for the log's memory. It is dropped once the log has been handed to the connection, which may be long before
    /// a large result has been sent.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl RunReport {
    /// Reports a run that ends now, without a result.
    pub fn now(status: RunStatus, log: impl Into<String>) -> Self {
        Self { status, log: log.into(), finished_at: time::now(), started_at: None, result: None, held: None }
    }

    /// Adds a result.
    pub fn result(self, result: Encoded) -> Self {
        Self { result: Some(result), ..self }
    }

    /// Returns the request's length and text.
    fn into_json(self) -> (u64, impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) {
        // The server refuses null for a text (`RunInputSchema`), so a report without a result omits the key.
        let mut head = json!({
            "status": self.status.as_str(),
            "finished_at": time::to_server(self.finished_at),
            "log": self.log.replace('\0', "\u{fffd}"),
        });
        if let Some(started_at) = self.started_at {
            head["started_at"] = time::to_server(started_at).into();
        }
        let mut head = head.to_string();
        let (result, tail) = match self.result {
            Some(result) => {
                head.pop();
                head.push_str(r#","result":""#);
                (Some(result.0), r#""}"#)
            }
            None => (None, ""),
        };
        let length =
            head.len() as u64 + result.as_ref().map_or(0, crate::encoding::Payload::length) + tail.len() as u64;
        let result = result.map(|result| result.into_stream().boxed()).unwrap_or_else(|| stream::empty().boxed());
        // Sent in pieces: the connection takes the next one only after sending most of the previous ones, so none of the log is
        // in memory any more when `held` is dropped.
        let head = stream::unfold((Bytes::from(head), self.held), |(mut head, held)| async move {
            let piece = head.split_to(head.len().min(CHUNK));
            (!piece.is_empty()).then(|| (Ok(piece), (head, held)))
        });
        (length, head.chain(result).chain(stream::iter([Ok(Bytes::from(tail))])))
    }
}

/// The progress of a request body.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    /// Why the body could not be read to the end.
    failure: Mutex<Option<String>>,
}

/// A request body of known length that reports its progress.
struct Upload {
    // reqwest requires Sync, which the stream is not. There is only ever one user.
    pieces: Mutex<Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>>,
    left: u64,
    progress: Arc<Progress>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let pieces = self.pieces.get_mut();
        match std::task::ready!(pieces.poll_next_unpin(context)) {
            Some(Ok(piece)) => {
                let length = piece.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.progress.sent.fetch_add(length, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(error)) => {
                *self.progress.failure.lock() = Some(error.to_string());
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    /// Exact, so that the request has a Content-Length: many deployments refuse chunked bodies.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Sends the report once; the body can't be produced a second time.
pub(crate) async fn send(
    transport: &HttpTransport,
    call: &Call,
    token: &SecretString,
    report: RunReport,
) -> Result<Response, Error> {
    let (length, pieces) = report.into_json();
    let progress = Arc::new(Progress::default());
    let body = Upload { pieces: Mutex::new(pieces.boxed()), left: length, progress: Arc::clone(&progress) };
    let request = transport
        .request(call, Some(token))?
        .header(header::CONTENT_TYPE, "application/json")
        .body(reqwest::Body::wrap(body));

    let began = tokio::time::Instant::now();
    let mut sending = Box::pin(request.send());
    let mut before = 0;
    let failed = loop {
        // The server parses and stores the whole text before it answers: 4.5.5 takes a quarter of a second per megabyte.
        let patience =
            if before >= length { transport.silence + Duration::from_millis(length / 1000) } else { transport.silence };
        match tokio::time::timeout(patience, &mut sending).await {
            Ok(Ok(response)) => {
                transport.observe(call, began, Some(&response));
                return Ok(response);
            }
            Ok(Err(error)) => break Some(error),
            Err(_) => {
                let now = progress.sent.load(Ordering::Relaxed);
                if now == before {
                    break None;
                }
                before = now;
            }
        }
    };
    transport.observe(call, began, None);
    let request = call.to_string();
    if let Some(cause) = progress.failure.lock().take() {
        return Err(Error::Source { request, cause });
    }
    // Until the closing brace is sent, the server cannot have understood the request.
    let taken = if progress.sent.load(Ordering::Relaxed) < length { Delivery::NotSent } else { Delivery::Unknown };
    Err(match failed {
        Some(error) => transport.errors.error(request, &error, taken),
        None if taken == Delivery::NotSent => Error::Timeout {
            request,
            what: "sending the result made no progress",
            after: transport.silence,
            delivery: taken,
        },
        None => Error::Timeout {
            request,
            what: "the whole result was sent, but no answer arrived",
            after: transport.silence,
            delivery: taken,
        },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use futures_util::TryStreamExt as _;
    use serde_json::Value;

    use super::*;
    use crate::encoding::{Payload, encode};

    #[tokio::test]
    async fn what_the_log_is_counted_with_is_given_back_before_the_result_is_sent() {
        let counted = Arc::new(());
        let never = Payload::new(3, stream::pending());
        let report = RunReport {
            held: Some(Box::new(counted.clone())),
            ..RunReport::now(RunStatus::Completed, "x".repeat(3 * CHUNK)).result(encode(never))
        };
        let mut pieces = Box::pin(report.into_json().1);
        let mut sent = 0;
        while sent < 3 * CHUNK {
            assert_eq!(Arc::strong_count(&counted), 2);
            sent += pieces.next().await.unwrap().unwrap().len();
        }
        // Read the rest of the head; the result then never arrives.
        while let Poll::Ready(piece) = futures_util::poll!(pieces.next()) {
            piece.unwrap().unwrap();
        }
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[tokio::test]
    async fn the_text_is_json_of_the_announced_length() {
        for result in [None, Some(&b""[..]), Some(b"a"), Some(b"ab"), Some(&[0xff; 1000])] {
            let mut report = RunReport::now(RunStatus::Completed, "line \"1\"\n\0é");
            report.finished_at = "2024-05-06T07:08:09Z".parse().unwrap();
            if let Some(result) = result {
                report = report.result(encode(Payload::from(result.to_vec())));
            }
            let (length, pieces) = report.into_json();
            let text = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
            assert_eq!(text.len() as u64, length);
            let json: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(json["status"], "completed");
            assert_eq!(json["finished_at"], "2024-05-06T07:08:09.000000");
            assert_eq!(json["log"], "line \"1\"\n\u{fffd}é");
            match result {
                None => assert!(json.get("result").is_none()),
                Some(result) => {
                    assert_eq!(crate::encoding::decode_text(json["result"].as_str().unwrap()).unwrap(), result);
                }
            }
        }
    }
}
