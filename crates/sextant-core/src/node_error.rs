//! Why a node, or one of its tools, ends.

/// Why a node, or one of its tools, ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Something in the configuration can't be.
    #[error("{0}")]
    Configuration(String),
    /// The server does not want this node.
    #[error("{0}")]
    Refused(String),
    /// The cluster can't be used.
    #[error("{0}")]
    Cluster(String),
    /// Another process of this node is the leader now: this one restarts, and then stands by.
    #[error("{0}")]
    TakenOver(String),
    /// Anything else.
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
