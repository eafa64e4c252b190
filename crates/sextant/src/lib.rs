//! Sextant: a vantage6 node that runs every algorithm as a Kubernetes Job.
//!
//! ```text
//!   core/       pure: what a run's next step is, what a pod's state means, how a Job looks
//!   config/     a regular node's YAML, read with the line and column of every mistake
//!   node/       the deeds: hears of runs, drives each of them to its one report
//!   keys        `sextant keys`: an organization's key pair
//!   runtime/    what launches, watches, feeds, collects and kills a run (Kubernetes, or local)
//!   connection_limits  how many connections data port and proxy serve, and whose
//!   data_port/  what the pods talk to: pinned TLS and one key per run
//!   doctor/     looks at all that a node needs
//!   health      what the process says of itself: alive, ready, figures
//!   hold        whether this process is the one of its node that acts
//!   open_files  how many connections there may be
//!   proxy/      the only way from an algorithm to the server
//!   output      opens what an algorithm wrote, and nothing else
//!   shared      folders that runs of one job share, and their end
//!   runs        what is under way, and what waits for what
//!   walls       the NetworkPolicies around algorithms, for those who apply them
//!   pod/        our own two containers in an algorithm's pod: `receive` and `return`
//!   processes   which process one is
//!   rarely      what others could fill the log with
//! ```
//!
//! Dependencies go one way: `core` knows nobody, `node` knows runtimes only by their trait.

pub mod config;
pub mod connection_limits;
pub mod core;
pub mod data_port;
pub mod doctor;
pub mod health;
pub mod hold;
pub mod keys;
pub mod node;
pub mod open_files;
pub mod output;
pub mod pod;
pub mod processes;
pub mod proxy;
pub mod rarely;
pub mod runs;
pub mod runtime;
pub mod shared;
pub mod telemetry;
pub mod walls;
