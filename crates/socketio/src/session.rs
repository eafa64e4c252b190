//! The life of one connection above the transport: joins the namespace, delivers events, and closes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::assemble::{Assembled, Assembler, CompletePacket, Throttles};
use crate::control::Control;
use crate::error::{Error, excerpt};
use crate::event::{Ack, Event, EventSender, Message};
use crate::link::{CurrentLink, Link};
use crate::packet::Json;
use crate::packet::engine::Packet;
use crate::packet::socket::{self, Body};
use crate::transport::{Opened, Received, SizeLimits, Transport, within};

/// The capacities of the two packet queues. More packets would only cost memory.
const INBOUND: usize = 8;
const OUTBOUND: usize = 32;
/// The time limit for sending the last packets.
const GOODBYE: Duration = Duration::from_secs(3);
/// How many events are kept before the namespace is connected. Their total size is limited to that of one event.
const MAX_EARLY: usize = 64;
/// A longer id of the client in the namespace is ignored.
const MAX_SID: usize = 1024;

/// What a session takes over from its client.
pub(crate) struct Session {
    pub namespace: String,
    pub auth: Option<Json>,
    pub connect_timeout: Duration,
    pub limits: SizeLimits,
    pub throttles: Arc<Throttles>,
    pub link: Arc<CurrentLink>,
    pub events: EventSender,
    pub control: Control,
}

/// How a session ended.
pub(crate) struct Ended {
    /// When the namespace was connected, if ever.
    pub connected: Option<Instant>,
    pub reason: Error,
}

impl Session {
    /// Runs until the connection ends or is interrupted. Delivers everything that arrived before the end.
    pub async fn run(&mut self, opened: Opened) -> Ended {
        let mut control = self.control.clone();
        let (inbound_sender, inbound) = mpsc::channel(INBOUND);
        let (outbound, outbound_receiver) = mpsc::channel(OUTBOUND);
        let max_payload = opened.handshake.max_payload;
        let transport = opened.transport();
        let link = Arc::new(Link::new(self.namespace.clone(), outbound.clone(), max_payload));
        let mut connected = None;

        let mut carry = pin!(opened.run(inbound_sender, outbound_receiver, self.limits.event));
        let mut carried = None;
        let reason = {
            let mut talk = pin!(self.converse(inbound, &link, transport, &mut connected));
            let mut interrupted = pin!(control.interrupted(&self.events));
            loop {
                tokio::select! {
                    reason = &mut interrupted => break Some(reason),
                    reason = &mut talk => break reason,
                    // Packets that arrived before the end are still in the queue: let them be delivered.
                    end = &mut carry, if carried.is_none() => carried = Some(end),
                }
            }
        };
        let over = carried.is_some();
        let reason = reason.or_else(|| carried?.err()).unwrap_or(Error::ClosedByServer);
        self.link.clear();
        if !over {
            let goodbye = async {
                if connected.is_some() && !matches!(reason, Error::DisconnectedByServer) {
                    let leave = socket::encode(&self.namespace, &Body::Disconnect);
                    let _ = outbound.send(Packet::Message(leave)).await;
                }
                let _ = outbound.send(Packet::Close).await;
                std::future::pending::<()>().await;
            };
            let carry = async {
                tokio::select! { _ = carry => (), () = goodbye => () }
            };
            if tokio::time::timeout(GOODBYE, carry).await.is_err() {
                debug!("The last packets did not get through in time");
            }
        }
        Ended { connected, reason }
    }

    /// Joins the namespace, then dispatches packets. Returns `None` when no more packets will come.
    async fn converse(
        &self,
        mut inbound: mpsc::Receiver<Received>,
        link: &Arc<Link>,
        transport: Transport,
        connected: &mut Option<Instant>,
    ) -> Option<Error> {
        let mut assembler = Assembler::new(self.namespace.clone(), self.limits.event, &self.throttles);
        let mut early = Early::default();
        let join = self.join(&mut inbound, link, &mut assembler, &mut early);
        let sid = match within(self.connect_timeout, "connecting the namespace", join).await {
            Ok(Some(sid)) => sid,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        *connected = Some(Instant::now());
        self.link.set(link);
        self.events.send(Event::Connected { sid: sid.0, transport }).await;
        if early.left_out {
            self.events.send(Event::LeftOut { event: None }).await;
        }
        for heard in early.kept {
            if let Some(end) = self.dispatch(heard, link).await {
                return Some(end);
            }
        }
        loop {
            for heard in assembler.push(inbound.recv().await?) {
                if let Some(end) = self.dispatch(heard, link).await {
                    return Some(end);
                }
            }
        }
    }

    /// Requests the namespace. Servers may send events before they grant it (from a handler of the connect event); those
    /// are kept for later.
    async fn join(
        &self,
        inbound: &mut mpsc::Receiver<Received>,
        link: &Link,
        assembler: &mut Assembler<'_>,
        early: &mut Early,
    ) -> Result<Option<Sid>, Error> {
        let lost = |_| Error::ClosedByServer;
        link.send(&Body::Connect(self.auth.clone())).await.map_err(lost)?;
        loop {
            let Some(received) = inbound.recv().await else {
                return Ok(None);
            };
            for heard in assembler.push(received) {
                match heard {
                    Assembled::Whole(CompletePacket { body: Body::Connect(data), .. }) => {
                        return Ok(Some(Sid::of(data.as_ref())));
                    }
                    Assembled::Whole(CompletePacket { body: Body::ConnectError(data), .. }) => {
                        return Err(self.refused(data));
                    }
                    Assembled::Whole(CompletePacket { body: Body::Disconnect, .. }) => {
                        return Err(Error::DisconnectedByServer);
                    }
                    other => {
                        if early.keep(other, self.limits.event) == Kept::No
                            && let Some(times) = self.throttles.early.happened()
                        {
                            warn!(times, "Skipped events that came before the namespace was connected");
                        }
                    }
                }
            }
        }
    }

    fn refused(&self, data: Option<Json>) -> Error {
        #[derive(Deserialize)]
        struct Reason {
            message: String,
        }
        let message = data.as_ref().and_then(|data| {
            let reason = || data.read::<Reason>().ok().map(|reason| reason.message);
            data.read::<String>().ok().or_else(reason)
        });
        let message = message.map_or_else(|| "no reason given".to_owned(), |text| excerpt(&text));
        Error::Refused { namespace: self.namespace.clone(), message, data }
    }

    /// Handles a packet after the namespace is connected. Returns the reason if the packet ends the session.
    async fn dispatch(&self, heard: Assembled, link: &Arc<Link>) -> Option<Error> {
        let CompletePacket { body, attachments, .. } = match heard {
            Assembled::Whole(whole) => whole,
            Assembled::LeftOut { event } => {
                self.events.send(Event::LeftOut { event: Some(event) }).await;
                return None;
            }
        };
        match body {
            Body::Event { event, args, id, .. } => {
                let ack = id.map(|id| Ack { id, link: Arc::clone(link) });
                self.events.send(Event::Message(Message { event, args, attachments, ack })).await;
            }
            Body::Ack { id, args, .. } => {
                if !link.answered(id, args) {
                    debug!(id, "Nobody waits for this acknowledgement");
                }
            }
            Body::Disconnect => return Some(Error::DisconnectedByServer),
            Body::ConnectError(data) => return Some(self.refused(data)),
            Body::Connect(_) => {
                if let Some(times) = self.throttles.twice.happened() {
                    warn!(times, "The server connected the namespace twice");
                }
            }
        }
        None
    }
}

/// The client's id in the namespace, if the server sends one of an acceptable length.
struct Sid(Option<String>);

impl Sid {
    fn of(data: Option<&Json>) -> Self {
        #[derive(Deserialize)]
        struct Granted {
            sid: String,
        }
        let sid = data.and_then(|data| data.read::<Granted>().ok()).map(|granted| granted.sid);
        Self(sid.filter(|sid| sid.len() <= MAX_SID))
    }
}

/// The packets that came before the server granted the namespace.
#[derive(Default)]
struct Early {
    kept: Vec<Assembled>,
    bytes: usize,
    /// At least one packet did not fit.
    left_out: bool,
}

#[derive(PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

impl Early {
    /// Keeps a packet if it fits. Other clients can cause events at this time and must not be able to prevent the client from
    /// connecting, so packets that do not fit are left out.
    fn keep(&mut self, heard: Assembled, max_event: usize) -> Kept {
        let size = match &heard {
            Assembled::Whole(whole) => whole.size,
            Assembled::LeftOut { event } => event.len(),
        };
        if self.kept.len() >= MAX_EARLY || self.bytes + size > max_event {
            self.left_out = true;
            return Kept::No;
        }
        self.bytes += size;
        self.kept.push(heard);
        Kept::Yes
    }
}
