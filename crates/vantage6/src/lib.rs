//! A client for the vantage6 4.x server, as a *node* uses it.
//!
//! ```text
//!   POST token/node ──▶ Session (token, refreshed ahead of time) ──┐
//!                                                                  ▼
//!   Client ── open_runs, input, set_status, container_token, finish_run … (REST)
//!   Live   ── new_task, kill_containers, sync …                          (Socket.IO)
//! ```
//!
//! [`Client`] is the REST side: it logs in with the node's API key, keeps the access token fresh, retries requests that
//! may be repeated, and parses responses into types. [`live`] listens on Socket.IO and parses events into types. Nothing
//! here knows how a run is executed.
//!
//! Two rules shape the interface:
//! - **Nothing large is held in memory.** A run's input is read as a stream ([`Client::input`]), a result is sent as a stream
//!   ([`Client::finish_run`]), and lists of runs drop the inputs while the response arrives.
//! - **Callers decide by type.** An [`Error`] says what was tried, what came back and what to do. It also answers the questions that
//!   decide the next step: [`Error::is_transient`], [`Error::is_finished_run`], [`Error::delivery`].
//!
//! Protocol facts come from the sources of vantage6 4.5.5 and 4.15.2. Doc comments name the file, relative to the Python
//! package `vantage6` (e.g. `server/resource/run.py`).
#![forbid(unsafe_code)]

mod auth;
mod client;
mod connection_errors;
pub mod encoding;
pub mod encryption;
mod error;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod input_filter;
pub mod json;
pub mod live;
mod long_strings;
mod pace;
mod pages;
mod read;
mod report;
mod resources;
mod retry;
mod store;
mod time;
mod token;
mod upload;
mod url;

pub use client::{AccessToken, BlobId, Client, ClientBuilder, InputKind, InputText, NoBlobId, OpenRuns};
pub use error::{Delivery, Error};
pub use events::{
    AlgorithmLog, DatabaseInfo, Incoming, Kill, KillContainers, NodeInfo, NodeMetrics, NodeStatus, Outgoing,
    StatusChange,
};
pub use http::RequestEnd;
pub use report::RunReport;
pub use resources::{
    AlgorithmStore, Collaboration, DATABASES, Input, Node, Organization, Run, Task, TaskDatabase, TaskDatabases,
    TaskOrigin,
};
pub use retry::Backoff;
pub use store::{StoreAlgorithm, StoreError};
pub use time::{answered_at, from_server, now, to_server};
pub use url::{ServerUrl, ServerUrlError};
pub use vantage6_types::{
    CollaborationId, JobId, NodeId, OrganizationId, RunId, RunStatus, StoreId, StudyId, TaskId, UserId,
};
