//! The crate's errors, worded so that a person can act on them. No error holds a header's value or the data of a packet.

use std::time::Duration;

use crate::packet::PacketError;

/// Any error of a [`HeaderProvider`](crate::HeaderProvider).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection could not be made, or why it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client's configuration is invalid; no attempt was made.
    #[error("invalid Socket.IO configuration: {0}")]
    Config(String),
    /// The header provider failed; its own error is the source.
    #[error("could not get the headers for a connection: {0}")]
    Headers(#[source] BoxError),
    /// A request did not get through (DNS, network, TLS, proxy).
    #[error("{what} failed: {reason}")]
    Http {
        /// What was tried.
        what: &'static str,
        /// The chain of causes.
        reason: String,
    },
    /// The server, or something in between, answered with a status that the protocol does not use.
    #[error("{what} was answered with HTTP status {status}: {body}")]
    Status {
        /// What was tried.
        what: &'static str,
        /// The response's status code. A server that does not know the session (any more) answers 400.
        status: u16,
        /// The beginning of the response's body.
        body: String,
    },
    /// The websocket broke.
    #[error("websocket: {0}")]
    WebSocket(String),
    /// The peer sent something that is not a packet of the protocol.
    #[error("can't be parsed: {0}")]
    Packet(#[from] PacketError),
    /// The peer sent a packet that the protocol does not allow at this point.
    #[error("the server violates the protocol: {0}")]
    Protocol(&'static str),
    /// The peer sent more than this client accepts.
    #[error("the server sent more than {limit} bytes at once")]
    TooLarge {
        /// The limit of [`Builder::max_incoming`](crate::Builder::max_incoming), in bytes.
        limit: usize,
    },
    /// The server refused the namespace.
    #[error("the server refused namespace {namespace}: {message}")]
    Refused {
        /// The requested namespace.
        namespace: String,
        /// The server's message.
        message: String,
        /// The server's full response.
        data: Option<crate::Json>,
    },
    /// A step took too long.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was tried.
        what: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The server sent nothing for this long, not even a heartbeat.
    #[error("the server sent nothing for {0:?}")]
    Dead(Duration),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    ClosedByServer,
    /// The server disconnected the namespace.
    #[error("the server disconnected the namespace")]
    DisconnectedByServer,
    /// [`Client::reconnect`](crate::Client::reconnect) was called.
    #[error("reconnecting on request")]
    Reconnecting,
    /// [`Client::shutdown`](crate::Client::shutdown) was called.
    #[error("shut down")]
    Shutdown,
}

/// Why an event could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// There is no connection, or it was lost before the packet (or its ack) got through.
    #[error("not connected")]
    NotConnected,
    /// The packet is larger than the server accepts; sending it would end the connection.
    #[error("a packet of {size} bytes is more than the server's limit of {limit}")]
    TooLarge {
        /// The packet's size in bytes.
        size: usize,
        /// The server's limit in bytes.
        limit: usize,
    },
    /// The server did not acknowledge the event in time.
    #[error("no acknowledgement within {0:?}")]
    NoAck(Duration),
    /// Too many events are waiting for an acknowledgement.
    #[error("too many unanswered events")]
    TooManyPending,
}

/// How many characters of a server's text an error repeats.
pub(crate) const EXCERPT: usize = 200;

/// The beginning of a text, on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let beginning: String =
        text.chars().take(EXCERPT + 1).map(|c| if "\r\n\t".contains(c) { ' ' } else { c }).collect();
    printable::excerpt_of(beginning.trim(), EXCERPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt("a\r\nb\n"), "a  b");
        assert_eq!(excerpt("a\u{1b}[2J\u{202e}b"), r"a\u{1b}[2J\u{202e}b");
        assert_eq!(excerpt(&"é".repeat(1000)).chars().count(), EXCERPT);
    }
}
