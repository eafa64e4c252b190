//! Errors between a node and the server, typed so that callers can decide and worded so that people know what to do.

use std::time::Duration;

use crate::{OrganizationId, RunId};

/// Why a request failed. `request` is always the method and path, e.g. `PATCH run/12`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server does not know this API key. A retry is pointless.
    #[error(
        "{request}: the server does not know this API key ({message}). Check api_key in the node's configuration; if the node was deleted on the server, create it again there"
    )]
    WrongApiKey {
        /// Method and path.
        request: String,
        /// The server's message.
        message: String,
    },
    /// The connection could not be made, or it broke.
    #[error("{request}: the connection to the server failed: {cause}")]
    Unreachable {
        /// Method and path.
        request: String,
        /// The innermost causes.
        cause: String,
        /// Whether the server may have received the request.
        delivery: Delivery,
    },
    /// A server is there, but no trusted connection is possible: certificates, versions of TLS, or TLS on one side only. A person
    /// must change something: here, on the server, or in between.
    #[error("{request}: no trusted connection to the server is possible: {cause}")]
    Tls {
        /// Method and path.
        request: String,
        /// What is wrong, and what to do.
        cause: String,
        /// Whether the server may have received the request.
        delivery: Delivery,
    },
    /// The server was silent for too long.
    #[error("{request}: {what} within {} s", after.as_secs_f32())]
    Timeout {
        /// Method and path.
        request: String,
        /// What the client waited for.
        what: &'static str,
        /// The time limit.
        after: Duration,
        /// Whether the server may have received the request.
        delivery: Delivery,
    },
    /// The server refused the request.
    #[error("{request}: the server answered {status}: {message}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The server's `msg` and `errors`, or else the beginning of its response; and what to do, if known.
        message: String,
        /// Whether these are the server's own words. A proxy in front of a server that is being replaced also sends 403 or 404.
        own_words: bool,
        /// The delay before a retry that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The server rejected the token, and the request can't be repeated because its body is used up. The next attempt uses a
    /// new token.
    #[error("{request}: the server no longer accepts this access token ({message}). The next attempt uses a new one")]
    StaleToken {
        /// Method and path.
        request: String,
        /// The server's message.
        message: String,
    },
    /// The run has already ended on the server, which accepts no further change (`Run.patch` in `server/resource/run.py`).
    #[error(
        "{request}: the server accepts no change of a run that has already ended ({message}). It was killed, or an \
         earlier attempt to end it succeeded"
    )]
    FinishedRun {
        /// Method and path.
        request: String,
        /// The server's message.
        message: String,
    },
    /// The server itself says that the run does not exist: it was deleted. (Any other 404 says nothing about a run: a proxy in
    /// front of a server that is being replaced also sends 404.)
    #[error("{request}: {message} It was deleted at the server")]
    NoSuchRun {
        /// Method and path.
        request: String,
        /// The server's message.
        message: String,
    },
    /// The response is not one of a vantage6 server: HTML of a proxy, an incomplete JSON text…
    #[error("{request}: the answer is not that of a vantage6 server: {problem}. It begins with: {excerpt}")]
    Unreadable {
        /// Method and path.
        request: String,
        /// What is wrong with the response.
        problem: String,
        /// The first characters of the response.
        excerpt: String,
    },
    /// The response is larger than any valid one.
    #[error("{request}: the answer has more than {limit} bytes")]
    TooLarge {
        /// Method and path.
        request: String,
        /// The limit that it exceeds, in bytes.
        limit: u64,
    },
    /// A list does not end. The entries before this error are valid.
    #[error("{request}: the server's list of runs does not end: {what}")]
    EndlessList {
        /// Method and path.
        request: String,
        /// Why the list counts as endless.
        what: String,
    },
    /// One run of a list can't be parsed. The other runs can.
    #[error("run {}: the server's description of it can't be parsed: {problem}", id.map_or("(of unknown id)".to_owned(), |id| id.to_string()))]
    BrokenRun {
        /// The run, if its id is readable.
        id: Option<RunId>,
        /// What is wrong with the run.
        problem: String,
    },
    /// The server's description of one run in a list is larger than any valid one. The other runs are not affected.
    #[error("run {id}: what the server says of it has more than {limit} bytes, long texts not counted")]
    OversizedRun {
        /// The run.
        id: RunId,
        /// The organization that should execute it.
        organization: OrganizationId,
        /// The limit that it exceeds, in bytes.
        limit: u64,
    },
    /// The input of a run has something that no encoded input can have. The server returns the same input each time.
    #[error("{request}: {problem}")]
    BadInput {
        /// Method and path.
        request: String,
        /// What is wrong with the input.
        problem: &'static str,
    },
    /// The data to send could not be read to the end.
    #[error("{request}: the data to send could not be read: {cause}")]
    Source {
        /// Method and path.
        request: String,
        /// Why reading failed.
        cause: String,
    },
    /// The client can't be built from its settings.
    #[error("{0}")]
    Setup(String),
}

/// Whether the server has processed a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It has not; the request can be repeated safely.
    NotSent,
    /// Unknown. Read the run before deciding.
    Unknown,
}

/// Whether a refusal with this HTTP status may pass without a change at this end.
pub(crate) fn is_passing(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 425 | 429)
}

impl Error {
    /// Whether the same request may succeed later without a change at this end. (A certificate is renewed on the server, for
    /// example.)
    ///
    /// `false` is no reason to discard a result, because a wrong setting of a proxy can be repaired too. It means that a
    /// person must look at the problem.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Timeout { .. } | Self::StaleToken { .. } => true,
            Self::Refused { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether the API key is wrong: the only reason for a node to stop trying to log in.
    pub fn is_wrong_api_key(&self) -> bool {
        matches!(self, Self::WrongApiKey { .. })
    }

    /// Whether the run has already ended, so that no further report is needed.
    pub fn is_finished_run(&self) -> bool {
        matches!(self, Self::FinishedRun { .. })
    }

    /// Whether the run was deleted on the server, in the server's own words.
    pub fn is_deleted_run(&self) -> bool {
        matches!(self, Self::NoSuchRun { .. })
    }

    /// Whether the request was too large for the server or, more likely, for a proxy in front of it.
    pub fn is_too_large(&self) -> bool {
        self.status() == Some(413)
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server may have processed the request despite the error.
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Unreachable { delivery: taken, .. }
            | Self::Tls { delivery: taken, .. }
            | Self::Timeout { delivery: taken, .. } => *taken,
            Self::Refused { status, .. } if *status >= 500 => Delivery::Unknown,
            Self::Unreadable { .. } | Self::TooLarge { .. } => Delivery::Unknown,
            _ => Delivery::NotSent,
        }
    }

    /// The HTTP status of a refusal by the server itself, not by something in front of it.
    pub fn own_status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, own_words: true, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server may have rejected the token. It sends 401 for expired tokens and 422 for a wrong signature or form
    /// (Flask-JWT-Extended), but also 401 for missing permissions: only a retry with a new token shows which.
    pub(crate) fn may_be_the_token(&self) -> bool {
        matches!(self.status(), Some(401 | 422))
    }
}

/// Returns the beginning of an external text, suitable for a log: short, on one line, without tokens.
pub(crate) fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 300;
    let end = text.len().min(4 * LONGEST);
    let more = if end < text.len() { "…" } else { "" };
    let text = without_tokens(&String::from_utf8_lossy(&text[..end])).replace(['\r', '\n', '\t'], " ");
    let text = text.trim();
    if text.is_empty() { "(nothing)".to_owned() } else { printable::excerpt_of(&format!("{text}{more}"), LONGEST) }
}

/// Replaces JWTs. Each begins with `{"`, which is `eyJ` in base64.
fn without_tokens(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("eyJ") {
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let length = rest[start..].find(|c| !is_token(c)).unwrap_or(rest.len() - start);
        kept.push_str(&rest[..start]);
        kept.push_str("[token]");
        rest = &rest[start + length..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_hold_no_token() {
        assert_eq!(excerpt(b"<html>\n<b>Bad gateway</b>"), "<html> <b>Bad gateway</b>");
        assert_eq!(excerpt(b" \n"), "(nothing)");
        assert_eq!(excerpt("é".repeat(1000).as_bytes()).chars().count(), 300);
        assert_eq!(excerpt("a\u{1b}[2J\u{202e}b".as_bytes()), r"a\u{1b}[2J\u{202e}b");
        assert_eq!(
            excerpt(br#"{"access_token": "eyJhbGciOi.J9-_x.abc", "refresh"#),
            r#"{"access_token": "[token]", "refresh"#
        );
    }

    #[test]
    fn what_callers_decide_by() {
        let refused = |status| Error::Refused {
            request: "GET run".into(),
            status,
            message: String::new(),
            own_words: false,
            retry_after: None,
        };
        for (status, transient, taken) in [
            (400, false, Delivery::NotSent),
            (401, false, Delivery::NotSent),
            (404, false, Delivery::NotSent),
            (413, false, Delivery::NotSent),
            (429, true, Delivery::NotSent),
            (500, true, Delivery::Unknown),
            (503, true, Delivery::Unknown),
        ] {
            assert_eq!((refused(status).is_transient(), refused(status).delivery()), (transient, taken), "{status}");
        }
        assert!(refused(413).is_too_large() && !refused(404).is_deleted_run());
        assert_eq!((refused(404).status(), refused(404).own_status()), (Some(404), None));
    }
}
