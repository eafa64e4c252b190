//! Whether runs may be launched: a runtime lets nothing run before it has seen that algorithms are kept apart.

/// Whether runs may be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Open,
    /// They may not, and why.
    Shut(String),
}
