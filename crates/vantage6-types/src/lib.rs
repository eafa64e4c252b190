//! The words that all versions of vantage6 share: the numbers of its resources, the statuses of a run, and what an address is. Nothing here knows how
//! a server is spoken to.
#![forbid(unsafe_code)]

mod address;
mod ids;
mod status;

pub use address::plain_address;
pub use ids::{CollaborationId, JobId, NodeId, OrganizationId, RunId, StoreId, StudyId, TaskId, UserId};
pub use status::RunStatus;
