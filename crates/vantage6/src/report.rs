//! Reports the end of a run: one request with a result of any size, in a JSON text that is never in memory as a whole.

use std::any::Any;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    RunStatus,
    encoding::Encoded,
    time,
    upload::{Framing, UploadBody},
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

    /// Returns the body of the request.
    pub(crate) fn into_body(self) -> UploadBody {
        let (length, pieces) = self.into_json();
        UploadBody { content_type: "application/json", framing: Framing::Length, length, pieces: pieces.boxed() }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use std::{sync::Arc, task::Poll};

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
