//! Packets as values: text in, enums out, and back again.
//!
//! Two protocols lie on top of each other. [`engine`] is the lower one (Engine.IO v4): open, ping, pong, close and
//! opaque messages. [`socket`] is what is inside those messages (Socket.IO v5): connect, event, ack, in a namespace.
//! Nothing here does I/O, nothing panics on what a peer sends, and no error repeats the content of a packet. [`Json`]
//! and [`Args`] are data that nobody has made values of yet.

pub mod engine;
mod json;
pub mod socket;

pub use json::{Args, Json};

/// Why a text is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Nothing where a packet should be.
    #[error("empty packet")]
    Empty,
    /// The first character is no packet type of this protocol.
    #[error("unknown packet type {0:?}")]
    UnknownType(char),
    /// A `b…` packet does not hold base64.
    #[error("binary packet is not base64")]
    Base64,
    /// The data is not JSON.
    #[error("packet data is not valid JSON (line {line}, column {column})")]
    Json {
        /// Line of the data at which parsing stopped.
        line: usize,
        /// Column of the data at which parsing stopped.
        column: usize,
    },
    /// The data is JSON, but not of the form that this type of packet has.
    #[error("{0}")]
    Shape(&'static str),
}

impl From<serde_json::Error> for PacketError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { line: error.line(), column: error.column() }
    }
}
