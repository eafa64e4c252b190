//! Tests against the real vantage6 server 4.5.5.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod live;
mod rest;
mod server;
