//! What can go wrong between a node and the server, so that callers decide by type and people know what to do.

use std::time::Duration;

use crate::{OrganizationId, RunId};

/// Why a request did not lead to what was asked. `request` is always method and path, e.g. `PATCH run/12`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server does not know this API key: trying again is of no use.
    #[error(
        "{request}: the server does not know this API key ({message}). Check api_key in the node's configuration; if the node was deleted on the server, create it again there"
    )]
    WrongApiKey {
        /// Method and path.
        request: String,
        /// What the server said.
        message: String,
    },
    /// No connection, or it broke.
    #[error("{request}: the connection to the server failed: {cause}")]
    Unreachable {
        /// Method and path.
        request: String,
        /// The innermost reasons.
        cause: String,
        /// Whether the server may have got the request.
        delivery: Delivery,
    },
    /// A server is there, but there is no trusted connection with it: certificates, versions of TLS, or TLS on one side only.
    /// Somebody has to change something: here, at the server, or between the two.
    #[error("{request}: no trusted connection to the server is possible: {cause}")]
    Tls {
        /// Method and path.
        request: String,
        /// What is wrong, and what to do.
        cause: String,
        /// Whether the server may have got the request.
        delivery: Delivery,
    },
    /// The server was silent for too long.
    #[error("{request}: {what} within {} s", after.as_secs_f32())]
    Timeout {
        /// Method and path.
        request: String,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
        /// Whether the server may have got the request.
        delivery: Delivery,
    },
    /// The server said no.
    #[error("{request}: the server answered {status}: {message}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// The server's `msg` and `errors`, else the beginning of its answer; and what to do, where that is known.
        message: String,
        /// Whether these are the server's own words. A proxy in front of a server that is being replaced says 403 or 404 too.
        own_words: bool,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The token was refused, and the request can't be repeated here because its body is gone. The next attempt takes a
    /// new token.
    #[error("{request}: the server no longer accepts this access token ({message}). The next attempt uses a new one")]
    StaleToken {
        /// Method and path.
        request: String,
        /// What the server said.
        message: String,
    },
    /// The run has already ended on the server: it takes no further change (`Run.patch` in `server/resource/run.py`).
    #[error(
        "{request}: the server accepts no change of a run that has already ended ({message}). It was killed, or an \
         earlier attempt to end it succeeded"
    )]
    FinishedRun {
        /// Method and path.
        request: String,
        /// What the server said.
        message: String,
    },
    /// The server says itself that it has no such run: it was deleted. (Any other 404 tells nothing of a run: a proxy in
    /// front of a server that is being replaced says 404 too.)
    #[error("{request}: {message} It was deleted at the server")]
    NoSuchRun {
        /// Method and path.
        request: String,
        /// What the server said.
        message: String,
    },
    /// An answer that is not what a vantage6 server sends: HTML of a proxy, half of a JSON text…
    #[error("{request}: the answer is not that of a vantage6 server: {problem}. It begins with: {excerpt}")]
    Unreadable {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        problem: String,
        /// The first characters of it.
        excerpt: String,
    },
    /// An answer of a size that nobody can need.
    #[error("{request}: the answer has more than {limit} bytes")]
    TooLarge {
        /// Method and path.
        request: String,
        /// The limit that it exceeds.
        limit: u64,
    },
    /// A list that does not come to an end. What came of it before is good.
    #[error("{request}: the server's list of runs does not end: {what}")]
    EndlessList {
        /// Method and path.
        request: String,
        /// What makes it so.
        what: String,
    },
    /// One run of a list can't be understood. The others of the list can.
    #[error("run {}: the server's description of it can't be parsed: {problem}", id.map_or("(of unknown id)".to_owned(), |id| id.to_string()))]
    BrokenRun {
        /// Which, if that is readable.
        id: Option<RunId>,
        /// What is wrong with it.
        problem: String,
    },
    /// What the server says of one run of a list is of a size that nobody can need. The others of the list are not.
    #[error("run {id}: what the server says of it has more than {limit} bytes, long texts not counted")]
    OversizedRun {
        /// Which.
        id: RunId,
        /// Who is to do it.
        organization: OrganizationId,
        /// The limit that it exceeds.
        limit: u64,
    },
    /// The input of a run holds something that no encoded input holds. The server gives the same one each time.
    #[error("{request}: {problem}")]
    BadInput {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The data to send could not be read to its end.
    #[error("{request}: the data to send could not be read: {cause}")]
    Source {
        /// Method and path.
        request: String,
        /// Why.
        cause: String,
    },
    /// The client can't be built from its settings.
    #[error("{0}")]
    Setup(String),
}

/// Whether the server has carried out a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Surely not: it can be repeated without asking.
    NotSent,
    /// Unknown: read the run before deciding.
    Unknown,
}

/// Whether a refusal with this HTTP status may pass without anybody changing anything at this end.
pub(crate) fn is_passing(status: u16) -> bool {
    status >= 500 || matches!(status, 408 | 425 | 429)
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything here. (A certificate is renewed at the
    /// server.)
    ///
    /// `false` is not a reason to drop a result: a wrong setting of a proxy can be repaired too. It says that a person
    /// has to look at it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Timeout { .. } | Self::StaleToken { .. } => true,
            Self::Refused { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether the API key is wrong: the one reason for a node to give up logging in.
    pub fn is_wrong_api_key(&self) -> bool {
        matches!(self, Self::WrongApiKey { .. })
    }

    /// Whether the run has ended already, so that there is nothing more to report about it.
    pub fn is_finished_run(&self) -> bool {
        matches!(self, Self::FinishedRun { .. })
    }

    /// Whether the run was deleted at the server, in the server's own words.
    pub fn is_deleted_run(&self) -> bool {
        matches!(self, Self::NoSuchRun { .. })
    }

    /// Whether the request was too large for the server or, more likely, a proxy in front of it.
    pub fn is_too_large(&self) -> bool {
        self.status() == Some(413)
    }

    /// The HTTP status, if the server refused with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server has carried out the request in spite of the error.
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

    /// The HTTP status, if the server itself refused with one, and not something in front of it.
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

    /// Whether this is how the server speaks of a token that it does not take. It says 401 of expired tokens, 422 of
    /// ones with a wrong signature or form (Flask-JWT-Extended), but 401 also of missing permissions: only a new token
    /// tells.
    pub(crate) fn may_be_the_token(&self) -> bool {
        matches!(self.status(), Some(401 | 422))
    }
}

/// The beginning of a text that came from outside, fit for a log: short, on one line, without tokens.
pub(crate) fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 300;
    let end = text.len().min(4 * LONGEST);
    let more = if end < text.len() { "…" } else { "" };
    let text = without_tokens(&String::from_utf8_lossy(&text[..end])).replace(['\r', '\n', '\t'], " ");
    let text = text.trim();
    if text.is_empty() { "(nothing)".to_owned() } else { printable::excerpt_of(&format!("{text}{more}"), LONGEST) }
}

/// Every JWT begins with `{"`, which is `eyJ` in base64.
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
