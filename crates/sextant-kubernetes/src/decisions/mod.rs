//! Decisions without I/O, so that all cases can be tested as tables.

pub mod databases;
pub mod disruption;
pub mod facts;
pub mod injected;
pub mod isolation;
pub mod job;
pub mod kube_events;
pub mod labels;
pub mod lease;
pub mod log_cursor;
pub mod namespace_rules;
pub mod neighbours;
pub mod network_policy;
pub mod probe;
pub mod refusal;
pub mod run_state;
pub mod scratch;
pub mod security;
pub mod services;
