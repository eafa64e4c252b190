//! An open Engine.IO connection by whichever transport: packets in, packets out, heartbeat.
//!
//! ```text
//!            outbound ──▶ write loop ──▶
//!   session                  ▲ pongs       server
//!             inbound ◀── read loop  ◀──
//! ```
//! Both loops run side by side in one task and end together. Pings are answered here, past all queues, so that a
//! slow reader of events or a large packet on its way out does not cost the connection.

mod http;
mod open;
mod polling;
mod websocket;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::Error;
use crate::packet::engine::{Handshake, Packet, SEPARATOR};

pub(crate) use http::Endpoint;
pub(crate) use open::open;

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long polling.
    Polling,
    /// A websocket.
    WebSocket,
}

/// Which transports a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// Begin with long polling and go on by websocket where the server offers that and it works.
    #[default]
    Upgrade,
    /// Long polling only.
    PollingOnly,
    /// Websocket from the beginning, nothing else.
    WebSocketOnly,
}

/// A connection after the handshake and the upgrade.
pub(crate) struct Opened {
    pub handshake: Handshake,
    io: Io,
    /// What came along with the handshake.
    early: Vec<Packet>,
}

enum Io {
    Polling(Box<polling::Polling>),
    WebSocket(Box<websocket::WebSocket>),
}

impl Opened {
    pub fn transport(&self) -> Transport {
        match self.io {
            Io::Polling(_) => Transport::Polling,
            Io::WebSocket(_) => Transport::WebSocket,
        }
    }

    /// Carries packets until the connection ends (an error), or a [`Packet::Close`] has been sent or `outbound` has
    /// ended (`Ok`).
    pub async fn run(self, inbound: mpsc::Sender<Packet>, outbound: mpsc::Receiver<Packet>) -> Result<(), Error> {
        let deadline = self.handshake.deadline();
        let (pong_sender, pongs) = mpsc::channel(1);
        let inlet = Inlet { inbound, pongs: pong_sender };
        let outlet = Outlet::new(outbound, pongs);
        for packet in self.early {
            inlet.take(packet).await?;
        }
        match self.io {
            Io::Polling(io) => io.run(inlet, outlet, self.handshake.max_payload, deadline).await,
            Io::WebSocket(io) => io.run(inlet, outlet, deadline).await,
        }
    }
}

/// Where the read loop puts what it gets.
struct Inlet {
    inbound: mpsc::Sender<Packet>,
    pongs: mpsc::Sender<Packet>,
}

impl Inlet {
    async fn take(&self, packet: Packet) -> Result<(), Error> {
        match packet {
            // One waiting pong says all that two would.
            Packet::Ping(data) => drop(self.pongs.try_send(Packet::Pong(data))),
            Packet::Close => return Err(Error::ClosedByServer),
            // Nobody listens any more while the last packets go out.
            Packet::Message(_) | Packet::Binary(_) => drop(self.inbound.send(packet).await),
            Packet::Open(_) | Packet::Pong(_) | Packet::Upgrade | Packet::Noop => {}
        }
        Ok(())
    }
}

/// Where the write loop gets what it sends: pongs first.
struct Outlet {
    outbound: mpsc::Receiver<Packet>,
    pongs: mpsc::Receiver<Packet>,
    /// Taken from `outbound` already, but did not fit into the last batch.
    carry: Option<Packet>,
    /// A close packet has gone out.
    closed: bool,
}

impl Outlet {
    fn new(outbound: mpsc::Receiver<Packet>, pongs: mpsc::Receiver<Packet>) -> Self {
        Self { outbound, pongs, carry: None, closed: false }
    }

    /// The next packet; `None` when there will be no more.
    async fn next(&mut self) -> Option<Packet> {
        if self.closed {
            return None;
        }
        let packet = match self.next_at_once() {
            Some(packet) => packet,
            None => tokio::select! {
                Some(pong) = self.pongs.recv() => pong,
                packet = self.outbound.recv() => packet?,
            },
        };
        self.closed = packet == Packet::Close;
        Some(packet)
    }

    /// The next packet that needs no waiting for.
    fn next_at_once(&mut self) -> Option<Packet> {
        let first = self.pongs.try_recv().ok().or_else(|| self.carry.take());
        first.or_else(|| self.outbound.try_recv().ok())
    }

    /// The text of the next packets, as many as there are now and fit into `max_bytes` and `max_packets`.
    async fn next_batch(&mut self, max_packets: usize, max_bytes: usize) -> Option<String> {
        let mut body = self.next().await?.encode();
        for _ in 1..max_packets {
            if self.closed {
                break;
            }
            let Some(packet) = self.next_at_once() else {
                break;
            };
            let text = packet.encode();
            if body.len() + 1 + text.len() > max_bytes {
                self.carry = Some(packet);
                break;
            }
            body.push(SEPARATOR);
            body.push_str(&text);
            self.closed = packet == Packet::Close;
        }
        Some(body)
    }
}

/// Runs a step that may take `limit` at most.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &'static str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, step).await.unwrap_or(Err(Error::Timeout { what, limit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(texts: &[&str]) -> (Outlet, mpsc::Sender<Packet>) {
        let (sender, outbound) = mpsc::channel(100);
        for text in texts {
            sender.try_send(Packet::Message((*text).into())).unwrap();
        }
        let (pong_sender, pongs) = mpsc::channel(1);
        (Outlet::new(outbound, pongs), pong_sender)
    }

    #[tokio::test]
    async fn batches_keep_to_both_limits_and_the_order() {
        let (mut outlet, pongs) = outlet(&["aaa", "bbb", "ccc", "a long one", "d", "e", "f"]);
        pongs.try_send(Packet::Pong(String::new())).unwrap();
        drop(pongs);
        let mut batches = Vec::new();
        while let Some(batch) = outlet.next_batch(3, 12).await {
            batches.push(batch.replace('\u{1e}', "|"));
        }
        assert_eq!(batches, ["3|4aaa|4bbb", "4ccc", "4a long one", "4d|4e|4f"]);
    }

    #[tokio::test]
    async fn a_ping_is_answered_even_when_nobody_takes_events() {
        let (inbound, _full) = mpsc::channel(1);
        let (pong_sender, mut pongs) = mpsc::channel(1);
        let inlet = Inlet { inbound, pongs: pong_sender };
        for _ in 0..3 {
            inlet.take(Packet::Ping("x".into())).await.unwrap();
        }
        assert_eq!(pongs.recv().await, Some(Packet::Pong("x".into())));
        assert!(matches!(inlet.take(Packet::Close).await, Err(Error::ClosedByServer)));
    }
}
