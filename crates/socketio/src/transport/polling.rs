//! Long polling: one GET always waits for the server's packets; POSTs carry the client's.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::http::{Endpoint, PollBody};
use super::split::Splitter;
use super::{PacketSink, PacketSource};
use crate::error::Error;
use crate::packet::engine::{Handshake, Packet, decode_payload};

/// The most packets in one body that Python servers accept.
const MAX_PACKETS: usize = 16;
/// The usual limit of a body in bytes, for servers that do not report theirs.
const MAX_BYTES: usize = 1_000_000;
/// How many packets may come with the handshake.
const MAX_EARLY: usize = 1000;
/// The pause after a poll without packets, in case something in between answers such polls immediately.
const PAUSE: Duration = Duration::from_millis(200);
/// The average interval of polls with packets. Without it, the server would decide how often the client polls.
const INTERVAL: Duration = Duration::from_millis(50);
/// How many polls may follow each other without a pause.
const BURST: u32 = 10;

pub(super) struct Polling {
    pub endpoint: Endpoint,
    pub sid: String,
}

impl Polling {
    /// Opens a session. Returns the handshake and the packets that came with it.
    pub async fn open(mut endpoint: Endpoint, limit: Duration) -> Result<(Self, Handshake, Vec<Packet>), Error> {
        let body = endpoint.greet(limit).await?;
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
        self,
        inlet: PacketSink,
        mut outlet: PacketSource,
        max_payload: Option<usize>,
        deadline: Duration,
    ) -> Result<(), Error> {
        // Reading and writing run concurrently, each with its own copy of the client and headers.
        let writer = self.endpoint.clone();
        let sid = self.sid.clone();
        let read = async {
            let mut last = Instant::now();
            let mut rate = Rate::new(last);
            loop {
                tokio::time::sleep_until(rate.next(Instant::now())).await;
                let poll = self.endpoint.poll(&self.sid, deadline.saturating_mul(2));
                let body = timeout_at(last + deadline, poll).await.map_err(|_| Error::Dead(deadline))??;
                if deliver(body, &inlet, &mut last, deadline).await? == Brought::Nothing {
                    tokio::time::sleep(PAUSE).await;
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

/// Limits the rate of polls: [`BURST`] of them immediately, then one in each [`INTERVAL`].
struct Rate {
    /// When the next poll would begin if all came at the average rate.
    due: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Returns when a poll that is requested now may begin.
    fn next(&mut self, now: Instant) -> Instant {
        let begins = now.max(self.due.checked_sub(INTERVAL * (BURST - 1)).unwrap_or(now));
        self.due = self.due.max(now) + INTERVAL;
        begins
    }
}

/// What a poll brought.
#[derive(Debug, PartialEq, Eq)]
enum Brought {
    Packets,
    /// No packet, or only noops.
    Nothing,
}

/// Delivers the packets of a poll while its body arrives. Each of them proves that the server is alive and updates `last`; a
/// poll without packets does not.
async fn deliver(
    mut body: PollBody,
    inlet: &PacketSink,
    last: &mut Instant,
    deadline: Duration,
) -> Result<Brought, Error> {
    let (mut splitter, mut brought) = (Splitter::new(inlet.max_event), Brought::Nothing);
    loop {
        let chunk = timeout_at(*last + deadline, body.chunk()).await.map_err(|_| Error::Dead(deadline))??;
        let Some(chunk) = chunk else { break };
        let mut arrived = &*chunk;
        while !arrived.is_empty() {
            if let Some(text) = splitter.next(&mut arrived) {
                if !text.is_noop() {
                    brought = Brought::Packets;
                    *last = Instant::now();
                }
                inlet.split(text).await?;
            }
        }
    }
    if let Some(text) = splitter.end() {
        if !text.is_noop() {
            brought = Brought::Packets;
            *last = Instant::now();
        }
        inlet.split(text).await?;
    }
    Ok(brought)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_have_a_pace_and_bursts_are_not_slowed() {
        let begin = Instant::now();
        let mut rate = Rate::new(begin);
        let mut now = begin;
        for poll in 1..=200 {
            now = rate.next(now);
            if poll == BURST {
                assert_eq!(now, begin);
            }
        }
        assert_eq!(now - begin, INTERVAL * (200 - BURST));
        // Slow polls are not delayed further, and restore the burst.
        for _ in 0..20 {
            now += Duration::from_secs(1);
            assert_eq!(rate.next(now), now);
        }
        for _ in 1..BURST {
            assert_eq!(rate.next(now), now);
        }
        assert_eq!(rate.next(now), now + INTERVAL);
    }
}
