//! Errors that end a node, or one of its tools.

/// Why a node, or one of its tools, has ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration is invalid.
    #[error("{0}")]
    Configuration(String),
    /// The server rejects this node.
    #[error("{0}")]
    Refused(String),
    /// The cluster can't be used.
    #[error("{0}")]
    Cluster(String),
    /// Another process of this node is the leader now, so this one restarts and stands by.
    #[error("{0}")]
    TakenOver(String),
    /// Any other error.
    #[error("{0}")]
    Other(String),
}

impl NodeError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Refused(_) => 3,
            Self::Cluster(_) => 4,
            Self::TakenOver(_) | Self::Other(_) => 1,
        }
    }
}
