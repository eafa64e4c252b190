//! Implements the port [`Hub`](sextant_core::hub::Hub) for a 4.x server. Differences between server versions are only here and in
//! `vantage6`.

mod blobs;
mod connect;
mod convert;
pub mod encryption;
mod recipients;
mod server;
mod version;

pub use self::connect::{Connection, Me, client};
pub use self::server::Server;
