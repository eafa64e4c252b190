//! An open Engine.IO connection over either transport: receives and sends packets and answers heartbeats.
//!
//! ```text
//!            outbound ──▶ write loop ──▶
//!   session                  ▲ pongs       server
//!             inbound ◀── read loop  ◀──
//! ```
//! Both loops run concurrently in one task and end together. Pongs bypass all queues, so a slow reader of events or a
//! large outgoing packet does not cost the connection.
//!
//! Of a packet that is larger than the limit only the beginning is passed on, and the connection continues. Otherwise other
//! clients of the server could end it at will. Only errors that the server itself must cause end the connection: a packet
//! that is not Engine.IO, or a websocket message above [`Builder::max_incoming`](crate::Builder::max_incoming).

mod http;
mod open;
mod polling;
mod split;
mod websocket;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use self::split::{HEAD, Text};
use crate::error::Error;
use crate::packet::engine::{Handshake, Packet, SEPARATOR};

pub(crate) use http::{Endpoint, SizeLimits};
pub(crate) use open::open;

/// How packets are carried.
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
    /// Start with long polling, and upgrade to a websocket if the server offers it and it works.
    #[default]
    Upgrade,
    /// Long polling only.
    PollingOnly,
    /// Websocket only, without long polling first.
    WebSocketOnly,
}

/// A received packet, for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    /// A Socket.IO packet.
    Message(String),
    /// An attachment of a Socket.IO packet.
    Binary(Bytes),
    /// The beginning of a Socket.IO packet that is too large.
    LongMessage(String),
    /// An attachment that is too large.
    LongBinary,
}

/// A connection after the handshake and the upgrade.
pub(crate) struct Opened {
    pub handshake: Handshake,
    io: Io,
    /// The packets that came with the handshake.
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

    /// Carries packets until the connection ends (an error), a [`Packet::Close`] is sent, or `outbound` ends (`Ok`).
    pub async fn run(
        self,
        inbound: mpsc::Sender<Received>,
        outbound: mpsc::Receiver<Packet>,
        max_event: usize,
    ) -> Result<(), Error> {
        let deadline = self.handshake.deadline();
        let (pong_sender, pongs) = mpsc::channel(1);
        let inlet = PacketSink { inbound, pongs: pong_sender, max_event };
        let outlet = PacketSource::new(outbound, pongs);
        for packet in self.early {
            inlet.take(packet).await?;
        }
        match self.io {
            Io::Polling(io) => io.run(inlet, outlet, self.handshake.max_payload, deadline).await,
            Io::WebSocket(io) => io.run(inlet, outlet, deadline).await,
        }
    }
}

/// Takes the packets of the read loop.
struct PacketSink {
    inbound: mpsc::Sender<Received>,
    pongs: mpsc::Sender<Packet>,
    /// Only the beginning of a larger packet is passed on.
    max_event: usize,
}

impl PacketSink {
    async fn take(&self, packet: Packet) -> Result<(), Error> {
        match packet {
            // One pong in the queue is enough.
            Packet::Ping(data) => drop(self.pongs.try_send(Packet::Pong(data))),
            Packet::Close => return Err(Error::ClosedByServer),
            Packet::Message(text) => self.deliver(Received::Message(text)).await,
            Packet::Binary(data) => self.deliver(Received::Binary(data)).await,
            Packet::Open(_) | Packet::Pong(_) | Packet::Upgrade | Packet::Noop => {}
        }
        Ok(())
    }

    /// Takes a packet's text, of any length.
    async fn text(&self, text: &str) -> Result<(), Error> {
        if text.len() > self.max_event { self.long(text).await } else { self.take(Packet::decode(text)?).await }
    }

    /// Takes a text that is too long and may be incomplete.
    async fn long(&self, text: &str) -> Result<(), Error> {
        let head = beginning(text, HEAD);
        match head.as_bytes().first() {
            Some(b'4') => self.deliver(Received::LongMessage(head[1..].to_owned())).await,
            Some(b'b') => self.deliver(Received::LongBinary).await,
            // A ping has data only during the upgrade.
            Some(b'2') => self.take(Packet::Ping(String::new())).await?,
            // The content is ignored, but the type must be known.
            _ => drop(Packet::decode(head.get(..1).unwrap_or(head))?),
        }
        Ok(())
    }

    /// Takes an attachment that was not sent as text.
    async fn binary(&self, data: &Bytes) {
        let received = match data.len() > self.max_event {
            true => Received::LongBinary,
            // Copied, because the slice may keep a much larger buffer alive.
            false => Received::Binary(Bytes::copy_from_slice(data)),
        };
        self.deliver(received).await;
    }

    /// Passes a packet to the session, which may have stopped reading while the last packets are sent.
    async fn deliver(&self, received: Received) {
        drop(self.inbound.send(received).await);
    }

    /// Takes a packet that came by long polling.
    async fn split(&self, text: Text) -> Result<(), Error> {
        match text {
            Text::Whole(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| Error::Protocol("a packet is not UTF-8"))?;
                self.text(&text).await
            }
            Text::Long(head) => self.long(&String::from_utf8_lossy(&head)).await,
        }
    }
}

/// Returns the first characters of a text, at most `bytes` bytes.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Supplies the packets of the write loop, pongs first.
struct PacketSource {
    outbound: mpsc::Receiver<Packet>,
    pongs: mpsc::Receiver<Packet>,
    /// Taken from `outbound`, but too large for the last batch.
    carry: Option<Packet>,
    /// A close packet was sent.
    closed: bool,
}

impl PacketSource {
    fn new(outbound: mpsc::Receiver<Packet>, pongs: mpsc::Receiver<Packet>) -> Self {
        Self { outbound, pongs, carry: None, closed: false }
    }

    /// Returns the next packet; `None` when there will be no more.
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

    /// Returns the next packet that is available now.
    fn next_at_once(&mut self) -> Option<Packet> {
        let first = self.pongs.try_recv().ok().or_else(|| self.carry.take());
        first.or_else(|| self.outbound.try_recv().ok())
    }

    /// Returns the text of the packets that are available now and fit into `max_bytes` and `max_packets`. Waits for the first.
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

/// Splits a whole body, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn split_all(pieces: &[Bytes], limit: usize) -> Vec<Result<Vec<u8>, Vec<u8>>> {
    let (mut splitter, mut all) = (split::Splitter::new(limit), Vec::new());
    for piece in pieces {
        let mut arrived = &**piece;
        while !arrived.is_empty() {
            all.extend(splitter.next(&mut arrived));
        }
    }
    all.extend(splitter.end());
    let result = |text| match text {
        Text::Whole(text) => Ok(text),
        Text::Long(head) => Err(head),
    };
    all.into_iter().map(result).collect()
}

/// Runs a step with a time limit.
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

    fn outlet(texts: &[&str]) -> (PacketSource, mpsc::Sender<Packet>) {
        let (sender, outbound) = mpsc::channel(100);
        for text in texts {
            sender.try_send(Packet::Message((*text).into())).unwrap();
        }
        let (pong_sender, pongs) = mpsc::channel(1);
        (PacketSource::new(outbound, pongs), pong_sender)
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
        let inlet = PacketSink { inbound, pongs: pong_sender, max_event: 100 };
        for _ in 0..3 {
            inlet.take(Packet::Ping("x".into())).await.unwrap();
        }
        assert_eq!(pongs.recv().await, Some(Packet::Pong("x".into())));
        assert!(matches!(inlet.take(Packet::Close).await, Err(Error::ClosedByServer)));
    }

    #[tokio::test]
    async fn what_is_too_large_goes_on_as_its_beginning() {
        let (inbound, mut received) = mpsc::channel(10);
        let (pong_sender, mut pongs) = mpsc::channel(1);
        let inlet = PacketSink { inbound, pongs: pong_sender, max_event: 10 };
        let long = "é".repeat(10_000);
        for kind in ["4", "b", "2", "3", "0", "6"] {
            inlet.text(&format!("{kind}{long}")).await.unwrap();
        }
        inlet.text("4short").await.unwrap();
        inlet.binary(&Bytes::from_static(b"12345678901")).await;
        inlet.binary(&Bytes::from_static(b"1234567890")).await;
        assert!(matches!(inlet.text(&format!("x{long}")).await, Err(Error::Packet(_))));
        drop(inlet);
        assert_eq!(pongs.recv().await, Some(Packet::Pong(String::new())));
        let Some(Received::LongMessage(head)) = received.recv().await else { panic!("its beginning") };
        assert!(head.len() < HEAD && long.starts_with(&head));
        assert_eq!(received.recv().await, Some(Received::LongBinary));
        assert_eq!(received.recv().await, Some(Received::Message("short".into())));
        assert_eq!(received.recv().await, Some(Received::LongBinary));
        assert_eq!(received.recv().await, Some(Received::Binary(Bytes::from_static(b"1234567890"))));
        assert_eq!(received.recv().await, None);
    }
}
