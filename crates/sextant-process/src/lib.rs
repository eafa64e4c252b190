//! What every process of Sextant has: its log, the output of commands, its health, the supervision of its tasks, and the limits of its
//! connections.
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
