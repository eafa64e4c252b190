//! The server's numbers, each kind with a type of its own: a task's can't be given where a run's is meant.

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
    /// One task at one organization: what a node executes.
    RunId
    /// What a researcher or an algorithm asked for; it has a run at each organization.
    TaskId
    /// A node: one organization's part in one collaboration.
    NodeId
    /// An organization.
    OrganizationId
    /// Organizations that work together.
    CollaborationId
    /// A person who uses the server.
    UserId
    /// A task and all its subtasks share one.
    JobId
    /// A part of a collaboration (since 4.3).
    StudyId
    /// An algorithm store that the server knows (since 4.6).
    StoreId
}
