//! What all processes of Sextant share: logs, the output of commands, health, supervision of tasks, and limits of connections.
#![forbid(unsafe_code)]

pub mod connection_limits;
pub mod console;
pub mod health;
pub mod listening;
pub mod machine;
pub mod memory_limit;
mod pages;
pub mod process_identity;
pub mod rlimit;
pub mod sockets;
pub mod supervisor;
pub mod telemetry;
