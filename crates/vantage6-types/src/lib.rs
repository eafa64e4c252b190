//! The words that all versions of vantage6 share: the numbers of its resources, and the statuses of a run. Nothing here knows how
//! a server is spoken to.
#![forbid(unsafe_code)]

mod ids;
mod status;

pub use ids::{CollaborationId, JobId, NodeId, OrganizationId, RunId, StoreId, StudyId, TaskId, UserId};
pub use status::RunStatus;
