//! What all connections to a server have in common, whichever client makes them:
//!
//! - [`trust`]: which certificates are trusted, and why one is not;
//! - [`http_proxy`]: the HTTP proxy for an address, from the environment (`HTTPS_PROXY`, `NO_PROXY`…);
//! - [`failure`]: a readable message for a failed connection.

pub mod failure;
pub mod http_proxy;
pub mod trust;

pub use failure::{Failure, error_chain};
pub use http_proxy::{HttpProxies, HttpProxy};
pub use trust::{Bundle, Trust, Untrusted};
