//! The types that all versions of vantage6 share: the ids of its resources, the statuses of a run, and plain addresses. Nothing here
//! knows the server's protocol.
#![forbid(unsafe_code)]

mod address;
mod ids;
mod status;

pub use address::plain_address;
pub use ids::{CollaborationId, JobId, NodeId, OrganizationId, RunId, StoreId, StudyId, TaskId, UserId};
pub use status::RunStatus;
