//! The status of a run, in vantage6's terms.

use std::fmt;

/// The status of a run (`common/task_status.py`).
///
/// The server accepts only the texts known here (`RunInputSchema` in `server/resource/common/input_schema.py`), but it may
/// send newer ones: an unknown text is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "String", from = "String"))]
pub enum RunStatus {
    /// No node has started the run.
    Pending,
    /// The node has the run and prepares it.
    Initializing,
    /// The algorithm is running.
    Active,
    /// The algorithm ended with exit code 0.
    Completed,
    /// The run failed without a more specific reason.
    Failed,
    /// The container could not be started.
    StartFailed,
    /// The image does not exist, or the node may not pull it.
    NoDockerImage,
    /// The algorithm ended with an exit code other than 0.
    Crashed,
    /// A user requested the end of the run.
    Killed,
    /// The node's policies forbid it.
    NotAllowed,
    /// The run disappeared for an unknown reason.
    UnknownError,
    /// A text that this version does not know.
    Other(String),
}

impl RunStatus {
    /// All statuses that the server accepts.
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

    /// Returns the exact text.
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

    /// Whether the run failed. As in `has_task_failed`, all unknown statuses count as failed.
    pub fn has_failed(&self) -> bool {
        !matches!(self, Self::Pending | Self::Initializing | Self::Active | Self::Completed)
    }

    /// Whether the run has ended (`has_task_finished`).
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
