//! What every process of Sextant has: how it writes its log and what its commands print, what it says of its health, who watches its
//! tasks, and how many connections it serves.
#![forbid(unsafe_code)]

pub mod connection_limits;
pub mod console;
pub mod health;
pub mod listening;
pub mod memory_limit;
mod pages;
pub mod process_identity;
pub mod rlimit;
pub mod sockets;
pub mod supervisor;
pub mod telemetry;
