//! Reads a task's status while the task streams: the task may be long, and nothing else of it is needed.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use vantage6::json::{Find, Part, Scan};

use super::refusal::Refusal;
use super::retry::interrupted;

/// The longest status that is read. Real ones are shorter.
const LONGEST: usize = 256;

/// Returns the status of a task; `None` if it has none.
///
/// # Errors
/// If the text is no task or is incomplete.
pub(crate) async fn read(pieces: impl Stream<Item = io::Result<Bytes>>) -> Result<Option<String>, Refusal> {
    let mut scan = Scan::new(Find::Outermost("status"));
    // As in the text, with quotation marks.
    let mut found = Vec::new();
    let mut begins = None;
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(interrupted)?;
        begins = begins.or_else(|| piece.trim_ascii_start().first().copied());
        scan.feed(&piece, &mut |part| match part {
            Part::Begin => found = vec![b'"'],
            Part::Value(more) if found.len() <= LONGEST => found.extend_from_slice(more),
            Part::End => found.push(b'"'),
            Part::Value(_) | Part::Text(_) => {}
        });
    }
    let unreadable = |why: String| {
        Refusal::new(StatusCode::BAD_GATEWAY, "The server's answer about the task can't be read.").because(why)
    };
    if begins != Some(b'{') || !scan.is_whole() || found.len() > LONGEST {
        return Err(unreadable("it is no JSON object, or has a status that is none".into()));
    }
    if found.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&found).map(Some).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    async fn of(text: &str, piece: usize) -> Result<Option<String>, StatusCode> {
        let pieces: Vec<_> = text.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        read(stream::iter(pieces)).await.map_err(|refusal| refusal.status)
    }

    #[tokio::test]
    async fn the_tasks_own_status_and_no_other() {
        let long = format!(r#"{{"input": "{}", "status": "active"}}"#, "x".repeat(1_000_000));
        let no_status = format!(r#"{{"status": "{}"}}"#, "x".repeat(1_000_000));
        for (text, expected) in [
            (r#"{"id": 7, "status": "completed", "runs": [{"status": "failed"}]}"#, Ok(Some("completed".into()))),
            (r#" {"a": {"status": "x"}, "status": "\u0061\"b"}"#, Ok(Some("a\"b".into()))),
            (&long, Ok(Some("active".into()))),
            (r#"{"id": 7}"#, Ok(None)),
            (r#"{"status": null}"#, Ok(None)),
            ("", Err(StatusCode::BAD_GATEWAY)),
            ("no task", Err(StatusCode::BAD_GATEWAY)),
            (r#"{"status": "comple"#, Err(StatusCode::BAD_GATEWAY)),
            (r#"{"status": "\x"}"#, Err(StatusCode::BAD_GATEWAY)),
            (&no_status, Err(StatusCode::BAD_GATEWAY)),
        ] {
            for piece in [1, 7, 100_000] {
                assert_eq!(of(text, piece).await, expected, "{} in pieces of {piece}", &text[..text.len().min(80)]);
            }
        }
    }
}
