//! The launch gate: a runtime launches no run before it has confirmed that algorithms are isolated.

/// Whether runs may be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Runs may be launched.
    Open,
    /// Runs may not be launched, for this reason.
    Shut(String),
}
