//! A Socket.IO client (protocol v5 on Engine.IO v4) that stays connected.
//!
//! ```text
//!   Client ──emit──▶ link ──▶ ┐                       ┌ long polling ┐
//!                             ├ session ── transport ─┤              ├── server
//!   Events ◀──────── queue ◀──┘     ▲                 └ websocket    ┘
//!                                 reconnect: headers, attempt, wait, again
//! ```
//! Each client runs one task. The task asks a [`HeaderProvider`] for fresh headers before each attempt, connects by long
//! polling, upgrades to a websocket if the server offers one, and reconnects whenever the connection ends or falls silent.
//! [`Events`] reports what happens, in order; a [`Client`] handle sends. Both queues are bounded. The client never resends
//! anything: a caller that needs certainty reads the server's state after [`Event::Connected`].
//!
//! Other clients of the same server write the events. Their data therefore stays text ([`Args`]) until the reader takes
//! typed values out of it. An event that is too large or unreadable is reported as [`Event::LeftOut`] and does not end
//! the connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use socketio::{Client, Event};
//!
//! let (client, mut events) = Client::builder("http://127.0.0.1:5000").namespace("/tasks").connect()?;
//! while let Some(event) = events.recv().await {
//!     match event {
//!         Event::Connected { .. } => client.emit("ping", ()).await?,
//!         Event::Message(message) => println!("{} {}", message.event, message.args.as_str()),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod assemble;
mod builder;
mod client;
mod control;
mod error;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod link;
pub mod packet;
mod reconnect;
mod session;
mod transport;

pub use builder::Builder;
pub use client::Client;
pub use error::{BoxError, EmitError, Error};
pub use event::{Ack, Event, Events, Message};
pub use headers::{HeaderProvider, HeadersFuture};
pub use packet::{Args, Json};
pub use transport::{Transport, Transports};
