//! The port [`Hub`](sextant_core::hub::Hub) to a 4.x server: what differs between server versions is here or in `vantage6`, and nowhere
//! else.

mod connect;
mod convert;
pub mod encryption;
mod recipients;
mod server;
mod version;

pub use self::connect::{Connection, Me, client};
pub use self::server::Server;
