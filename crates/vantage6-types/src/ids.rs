//! The server's ids. Each kind has its own type, so that a task's id can't be passed as a run's.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                Self(id)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A run: the execution of a task at one organization, by a node.
    RunId
    /// A task that a researcher or an algorithm created; it has a run at each organization.
    TaskId
    /// A node: the part of one organization in one collaboration.
    NodeId
    /// An organization.
    OrganizationId
    /// A collaboration: organizations that work together.
    CollaborationId
    /// A user of the server.
    UserId
    /// A job, which a task shares with all its subtasks.
    JobId
    /// A study: a part of a collaboration (since 4.3).
    StudyId
    /// An algorithm store that is registered on the server (since 4.6).
    StoreId
}
