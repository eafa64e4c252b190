//! Errors that the proxy returns instead of an answer from the server. They have the form of the server's own errors, `{"msg": …}`, which
//! the algorithm tools log.

use std::io;

use http::StatusCode;
use printable::excerpt_of;

use super::caller::NoCaller;
use super::route::Misrouted;

/// The most characters of a cause: the server or the algorithm may have influenced it.
const CAUSE: usize = 500;

/// The error for a request that was not forwarded or got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// The message for the algorithm's log.
    pub message: String,
    /// The cause for the operator, who may see addresses.
    pub cause: Option<String>,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), cause: None }
    }

    pub fn because(self, cause: impl ToString) -> Self {
        Self { cause: Some(excerpt_of(&cause.to_string(), CAUSE)), ..self }
    }

    pub fn json(&self) -> String {
        serde_json::json!({ "msg": self.message }).to_string()
    }
}

/// A task ends before its end: it came too slowly, or its sender has gone.
pub(crate) fn not_whole(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::new(StatusCode::REQUEST_TIMEOUT, "The task came too slowly."),
        _ => Refusal::new(StatusCode::BAD_REQUEST, "The task did not arrive whole."),
    }
    .because(error)
}

impl From<NoCaller> for Refusal {
    fn from(why: NoCaller) -> Self {
        match why {
            NoCaller::Missing => Self::new(
                StatusCode::UNAUTHORIZED,
                "There is no token. Send the algorithm's own, from TOKEN_FILE, in the header Authorization: Bearer …",
            ),
            NoCaller::Unreadable => Self::new(
                StatusCode::UNAUTHORIZED,
                "The header Authorization holds no token of a vantage6 server. Send the algorithm's own, from TOKEN_FILE, once.",
            ),
            NoCaller::NotAnAlgorithm => Self::new(
                StatusCode::FORBIDDEN,
                "This proxy is for algorithms: tokens of users and nodes don't pass. Send the algorithm's own, from TOKEN_FILE.",
            ),
        }
    }
}

impl From<Misrouted> for Refusal {
    fn from(why: Misrouted) -> Self {
        match why {
            Misrouted::Method => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "The server's API has no such method; methods are written in capitals.",
            ),
            Misrouted::NotForAlgorithms => Self::new(
                StatusCode::FORBIDDEN,
                "This proxy passes on what algorithms ask the server for (task, run, result, organization, collaboration, node, study, \
                 vpn/algorithm/addresses, blobstream, version, health), and no algorithm needs this.",
            ),
            Misrouted::Path => Self::new(
                StatusCode::BAD_REQUEST,
                "The path can be read in more than one way. Write it without . and .. and without escaped slashes.",
            ),
        }
    }
}
