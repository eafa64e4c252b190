//! What state a run is in, in vantage6's own words.

use std::fmt;

/// The status of a run (`common/task_status.py`).
///
/// The server accepts only the texts known here (`RunInputSchema` in `server/resource/common/input_schema.py`), but
/// what it sends may be newer: unknown text is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "String", from = "String"))]
pub enum RunStatus {
    /// Nobody has begun with it.
    Pending,
    /// The node has it and prepares its start.
    Initializing,
    /// The algorithm runs.
    Active,
    /// The algorithm has ended with exit code 0.
    Completed,
    /// It failed, for no more specific reason.
    Failed,
    /// The container could not be started.
    StartFailed,
    /// The image does not exist, or may not be pulled.
    NoDockerImage,
    /// The algorithm has ended with another exit code than 0.
    Crashed,
    /// Somebody asked to end it.
    Killed,
    /// The node's policies forbid it.
    NotAllowed,
    /// It is gone, and nobody knows why.
    UnknownError,
    /// A text that this version doesn't know.
    Other(String),
}

impl RunStatus {
    /// All that the server accepts.
    pub const KNOWN: [RunStatus; 11] = [
        Self::Pending,
        Self::Initializing,
        Self::Active,
        Self::Completed,
        Self::Failed,
        Self::StartFailed,
        Self::NoDockerImage,
        Self::Crashed,
        Self::Killed,
        Self::NotAllowed,
        Self::UnknownError,
    ];

    /// The exact text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Initializing => "initializing",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::StartFailed => "start failed",
            Self::NoDockerImage => "non-existing Docker image",
            Self::Crashed => "crashed",
            Self::Killed => "killed by user",
            Self::NotAllowed => "not allowed",
            Self::UnknownError => "unknown error",
            Self::Other(text) => text,
        }
    }

    /// Whether the run won't come to a good end; as in `has_task_failed`, everything unknown counts as failed.
    pub fn has_failed(&self) -> bool {
        !matches!(self, Self::Pending | Self::Initializing | Self::Active | Self::Completed)
    }

    /// Whether nothing more will happen (`has_task_finished`).
    pub fn is_final(&self) -> bool {
        self.has_failed() || *self == Self::Completed
    }
}

impl From<&str> for RunStatus {
    fn from(text: &str) -> Self {
        Self::KNOWN.into_iter().find(|known| known.as_str() == text).unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

impl From<String> for RunStatus {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<RunStatus> for String {
    fn from(status: RunStatus) -> Self {
        status.as_str().to_owned()
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_the_way_there_and_back() {
        for status in RunStatus::KNOWN.into_iter().chain([RunStatus::Other("paused".into())]) {
            assert_eq!(RunStatus::from(status.as_str()), status);
            assert_eq!(String::from(status.clone()), status.to_string());
        }
    }

    #[test]
    fn failed_and_final_as_the_server_sees_them() {
        let goes_on = [RunStatus::Pending, RunStatus::Initializing, RunStatus::Active];
        for status in RunStatus::KNOWN {
            assert_eq!(status.is_final(), !goes_on.contains(&status), "{status}");
            assert_eq!(status.has_failed(), status.is_final() && status != RunStatus::Completed, "{status}");
        }
        assert!(RunStatus::from("something new").has_failed());
    }
}
