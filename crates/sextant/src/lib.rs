//! Sextant: a vantage6 node that runs every algorithm as a Kubernetes Job.
//!
//! ```text
//!   core/       pure: what a run's next step is, what a pod's state means, how a Job looks
//!   config/     a regular node's YAML, read with the line and column of every mistake
//!   node/       the deeds: hears of runs, drives each of them to its one report
//!   image_reference  names of images, by their grammar
//!   keys        `sextant keys`: an organization's key pair
//!   runtime/    what launches, watches, feeds, collects and kills a run (Kubernetes, or local)
//!   connection_limits  how many connections data port and proxy serve, and whose
//!   data_port/  what the pods talk to: pinned TLS and one key per run
//!   console     what commands print
//!   doctor/     looks at all that a node needs
//!   health      what the process says of itself: alive, ready, figures
//!   hub         the port to the vantage6 server
//!   hold        whether this process is the one of its node that acts
//!   open_files  how many connections there may be
//!   proxy/      the only way from an algorithm to the server
//!   output      opens what an algorithm wrote, and nothing else
//!   shared      folders that runs of one job share, and their end
//!   remove_tree removes folders that others have filled, whatever is in them
//!   runs        what is under way, and what waits for what
//!   supervisor  the tasks without which the process is of no use
//!   walls       the NetworkPolicies around algorithms, for those who apply them
//!   pod/        our own two containers in an algorithm's pod: `receive` and `return`
//!   processes   which process one is
//! ```
//!
//! Dependencies go one way: `core` knows nobody, `node` knows its runtime by the trait `Runtime`, and its server by the trait `Hub`.

mod columns;
pub mod config;
pub mod connection_limits;
pub mod console;
pub mod core;
pub mod data_port;
pub mod doctor;
pub mod health;
pub mod hold;
pub mod hub;
pub mod image_reference;
pub mod keys;
pub mod listening;
pub mod node;
mod node_info;
pub mod open_files;
pub mod output;
pub mod pod;
pub mod processes;
pub mod proxy;
pub mod remove_tree;
pub mod runs;
pub mod runtime;
pub mod shared;
pub mod sockets;
pub mod supervisor;
pub mod telemetry;
pub mod walls;
pub mod wiring;
