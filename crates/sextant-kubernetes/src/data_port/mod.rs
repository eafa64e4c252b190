//! The node's data port: the only thing of the node that a run's pod talks to.
//!
//! ```text
//!   receive  GET  /runs/7/input    the decrypted input
//!            GET  /runs/7/token    the container token
//!   return   GET  /runs/7/next     held until there is something to do: wait, send, go
//!            PUT  /runs/7/output   the output; answered when the server has it
//! ```
//!
//! HTTP/1.1 over TLS 1.3. Pods pin the node's key, and every run has a key that opens that run alone. The
//! pods call, the node answers: pods need no open port, and a hostile algorithm reaches a port for which it
//! has no key.

pub mod bounds;
pub mod keys;
pub mod protocol;
pub mod server;
pub mod tls;
