//! Sextant: a vantage6 node that runs every algorithm as a Kubernetes Job. This crate is its command line. It connects one server with one
//! runtime, which are implemented in crates of their own (docs/ARCHITECTURE.md).
#![forbid(unsafe_code)]

mod columns;
pub mod doctor;
pub mod keys;
pub mod network_policies;
mod node_info;
pub mod runs;
pub mod wiring;
