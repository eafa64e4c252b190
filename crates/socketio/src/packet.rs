//! Packets as values: decodes text into enums and encodes them again.
//!
//! There are two protocols, one on top of the other. [`engine`] is the lower one (Engine.IO v4): open, ping, pong, close
//! and opaque messages. [`socket`] is inside those messages (Socket.IO v5): connect, event and ack, in a namespace.
//! Nothing here does I/O, panics on a peer's data, or repeats a packet's content in an error. [`Json`] and [`Args`] hold
//! data that is not yet parsed into values.

pub mod engine;
mod json;
pub mod socket;

pub use json::{Args, Json};

/// Why a text is not a packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The text is empty.
    #[error("empty packet")]
    Empty,
    /// The first character is not a packet type of this protocol.
    #[error("unknown packet type {0:?}")]
    UnknownType(char),
    /// The data of a `b…` packet is not base64.
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
    /// The data is JSON, but does not have the shape that this type of packet requires.
    #[error("{0}")]
    Shape(&'static str),
}

impl From<serde_json::Error> for PacketError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { line: error.line(), column: error.column() }
    }
}
