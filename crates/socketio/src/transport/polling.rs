//! Long polling: one GET always waits for what the server has; POSTs carry what we have.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::http::Endpoint;
use super::{Inlet, Outlet};
use crate::error::Error;
use crate::packet::engine::{Handshake, Packet, decode_payload};

/// Python servers refuse bodies of more packets than this.
const MAX_PACKETS: usize = 16;
/// The usual limit of a body, for servers that do not say theirs.
const MAX_BYTES: usize = 1_000_000;
/// So many packets may come along with the handshake.
const MAX_EARLY: usize = 1000;
/// Polls that bring nothing are spaced by this, in case something between answers them at once.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Polling {
    pub endpoint: Endpoint,
    pub sid: String,
}

impl Polling {
    /// The handshake, and what came along with it.
    pub async fn open(mut endpoint: Endpoint, limit: Duration) -> Result<(Self, Handshake, Vec<Packet>), Error> {
        let body = endpoint.get(None, limit).await?;
        let mut packets = decode_payload(&body);
        let Some(Packet::Open(data)) = packets.next().transpose()? else {
            return Err(Error::Protocol("a connection must begin with an open packet"));
        };
        let handshake = Handshake::decode(&data)?;
        let early: Vec<_> = packets.take(MAX_EARLY + 1).collect::<Result<_, _>>()?;
        if early.len() > MAX_EARLY {
            return Err(Error::Protocol("too many packets along with the handshake"));
        }
        Ok((Self { endpoint, sid: handshake.sid.clone() }, handshake, early))
    }

    /// Tells the server that this session is over.
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        self.endpoint.post(&self.sid, Packet::Close.encode(), limit).await
    }

    pub async fn run(
        mut self,
        inlet: Inlet,
        mut outlet: Outlet,
        max_payload: Option<usize>,
        deadline: Duration,
    ) -> Result<(), Error> {
        // Reading and writing use the same client and headers, each its own copy.
        let writer = self.endpoint.clone();
        let sid = self.sid.clone();
        let read = async {
            let mut last = Instant::now();
            loop {
                // A poll that only brings heartbeats proves that the server lives, one that brings nothing does not.
                let poll = self.endpoint.get(Some(&self.sid), deadline.saturating_mul(2));
                let body = timeout_at(last + deadline, poll).await.map_err(|_| Error::Dead(deadline))??;
                let mut empty = true;
                for packet in decode_payload(&body) {
                    let packet = packet?;
                    empty &= packet == Packet::Noop;
                    inlet.take(packet).await?;
                }
                if empty {
                    tokio::time::sleep(PAUSE).await;
                } else {
                    last = Instant::now();
                }
            }
        };
        let write = async {
            let max_bytes = max_payload.unwrap_or(MAX_BYTES);
            while let Some(body) = outlet.next_batch(MAX_PACKETS, max_bytes).await {
                writer.post(&sid, body, deadline).await?;
            }
            Ok(())
        };
        tokio::select! {
            end = read => end,
            end = write => end,
        }
    }
}
