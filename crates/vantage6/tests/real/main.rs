//! Tests against the real vantage6 server 4.5.5.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod live;
mod rest;
mod server;
