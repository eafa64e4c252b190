//! The node's data port: the only part of the node that a run's pod talks to.
//!
//! ```text
//!   receive  GET  /runs/7/input    the decrypted input
//!            GET  /runs/7/token    the container token
//!   return   GET  /runs/7/next     held until there is something to do: wait, send, go
//!            PUT  /runs/7/output   the output; answered when the server has it
//! ```
//!
//! HTTP/1.1 over TLS 1.3. Pods pin the node's key, and every run has a key that is valid for that run alone. Only
//! pods open connections, so they need no open port. A hostile algorithm that connects to the port has no key
//! for it.

pub mod bounds;
pub mod keys;
pub mod protocol;
pub mod server;
pub mod tls;
