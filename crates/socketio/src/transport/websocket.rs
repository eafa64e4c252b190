//! The websocket transport: one packet per frame.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::http::Endpoint;
use super::{PacketSink, PacketSource};
use crate::error::Error;
use crate::packet::engine::{Handshake, Packet};

pub(super) struct WebSocket {
    stream: WebSocketStream<reqwest::Upgraded>,
    max_incoming: usize,
    max_event: usize,
}

impl WebSocket {
    /// Opens a websocket for the session `sid`, or for a new session.
    pub async fn open(endpoint: &Endpoint, sid: Option<&str>, limit: Duration) -> Result<Self, Error> {
        let bytes = endpoint.websocket(sid, limit).await?;
        let (max_incoming, max_event) = (endpoint.limits.message, endpoint.limits.event);
        let config = WebSocketConfig::default();
        let config = config.max_message_size(Some(max_incoming)).max_frame_size(Some(max_incoming));
        let stream = WebSocketStream::from_raw_socket(bytes, Role::Client, Some(config)).await;
        Ok(Self { stream, max_incoming, max_event })
    }

    /// Waits for the handshake of a new session.
    pub async fn handshake(&mut self) -> Result<Handshake, Error> {
        match self.receive().await? {
            Packet::Open(data) => Ok(Handshake::decode(&data)?),
            _ => Err(Error::Protocol("a connection must begin with an open packet")),
        }
    }

    /// Switches the session to this websocket: `2probe`, `3probe`, `5`.
    pub async fn take_over(&mut self) -> Result<(), Error> {
        self.send(Packet::Ping("probe".to_owned())).await?;
        if self.receive().await? != Packet::Pong("probe".to_owned()) {
            return Err(Error::Protocol("the probe of the websocket was not answered"));
        }
        self.send(Packet::Upgrade).await
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Error> {
        let max_incoming = self.max_incoming;
        self.stream.send(message(packet)).await.map_err(|error| websocket_error(error, max_incoming))
    }

    async fn receive(&mut self) -> Result<Packet, Error> {
        loop {
            match frame(self.stream.next().await, self.max_incoming)? {
                // No data of other clients comes before the handshake or the response to the probe.
                Frame::Text(text) if text.len() > self.max_event => {
                    return Err(Error::TooLarge { limit: self.max_event });
                }
                Frame::Text(text) => return Ok(Packet::decode(&text)?),
                Frame::Binary(_) => return Err(Error::Protocol("a connection must begin with an open packet")),
                Frame::Other => {}
            }
        }
    }

    pub async fn run(self, inlet: PacketSink, mut outlet: PacketSource, deadline: Duration) -> Result<(), Error> {
        let max_incoming = self.max_incoming;
        let (mut sink, mut stream) = self.stream.split();
        let read = async {
            let mut last = Instant::now();
            loop {
                let next = timeout_at(last + deadline, stream.next()).await.map_err(|_| Error::Dead(deadline))?;
                match frame(next, max_incoming)? {
                    Frame::Text(text) => inlet.text(&text).await?,
                    Frame::Binary(data) => inlet.binary(&data).await,
                    Frame::Other => continue,
                }
                last = Instant::now();
            }
        };
        let write = async {
            while let Some(packet) = outlet.next().await {
                sink.send(message(packet)).await?;
            }
            // Sends a close frame and flushes.
            sink.send(Message::Close(None)).await
        };
        tokio::select! {
            end = read => end,
            end = write => end.map_err(|error| websocket_error(error, max_incoming)),
        }
    }
}

fn message(packet: Packet) -> Message {
    match packet {
        Packet::Binary(data) => Message::Binary(data),
        other => Message::text(other.encode()),
    }
}

/// The content of a frame.
enum Frame {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A control frame of the websocket protocol.
    Other,
}

fn frame(next: Option<Result<Message, tungstenite::Error>>, max_incoming: usize) -> Result<Frame, Error> {
    match next {
        Some(Ok(Message::Text(text))) => Ok(Frame::Text(text)),
        Some(Ok(Message::Binary(data))) => Ok(Frame::Binary(data)),
        Some(Ok(Message::Close(_))) | None => Err(Error::ClosedByServer),
        Some(Ok(_)) => Ok(Frame::Other),
        Some(Err(error)) => Err(websocket_error(error, max_incoming)),
    }
}

fn websocket_error(error: tungstenite::Error, limit: usize) -> Error {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Error::ClosedByServer,
        tungstenite::Error::Capacity(_) => Error::TooLarge { limit },
        other => Error::WebSocket(other.to_string()),
    }
}
