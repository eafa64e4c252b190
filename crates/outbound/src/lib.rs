//! What all connections to a server share, whichever client makes them:
//!
//! - [`trust`]: which certificates are trusted, and why one is not;
//! - [`http_proxy`]: the HTTP proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY`…);
//! - [`failure`]: what a failed connection's error says to a person.

pub mod failure;
pub mod http_proxy;
pub mod trust;

pub use failure::{Failure, error_chain};
pub use http_proxy::{HttpProxies, HttpProxy};
pub use trust::{Bundle, Trust, Untrusted};
