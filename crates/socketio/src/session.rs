//! One connection's life above the transport: ask for the namespace, deliver events, say goodbye.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::assemble::{Assembler, Whole};
use crate::control::Control;
use crate::error::{Error, excerpt};
use crate::event::{Ack, Event, EventSender, Message};
use crate::link::{Link, Slot};
use crate::packet::engine::Packet;
use crate::packet::socket::{self, Body};
use crate::transport::{Opened, Transport, within};

/// Packets that wait on their way in and out; what fits into more is not worth the memory.
const INBOUND: usize = 8;
const OUTBOUND: usize = 32;
/// The time for the last packets.
const GOODBYE: Duration = Duration::from_secs(3);
/// So many events before the server's yes are kept.
const MAX_EARLY: usize = 64;

/// What a session needs from its client.
pub(crate) struct Session {
    pub namespace: String,
    pub auth: Option<Value>,
    pub connect_timeout: Duration,
    pub max_incoming: usize,
    pub slot: Arc<Slot>,
    pub events: EventSender,
    pub control: Control,
}

/// How a session ended.
pub(crate) struct Ended {
    /// When the namespace was connected, if it was.
    pub connected: Option<Instant>,
    pub reason: Error,
}

impl Session {
    /// Runs until the connection ends or is interrupted. All that came before the end is delivered.
    pub async fn run(&mut self, opened: Opened) -> Ended {
        let mut control = self.control.clone();
        let (inbound_sender, inbound) = mpsc::channel(INBOUND);
        let (outbound, outbound_receiver) = mpsc::channel(OUTBOUND);
        let max_payload = opened.handshake.max_payload;
        let transport = opened.transport();
        let link = Arc::new(Link::new(self.namespace.clone(), outbound.clone(), max_payload));
        let mut connected = None;

        let mut carry = pin!(opened.run(inbound_sender, outbound_receiver));
        let mut carried = None;
        let reason = {
            let mut talk = pin!(self.talk(inbound, &link, transport, &mut connected));
            let mut interrupted = pin!(control.interrupted(&self.events));
            loop {
                tokio::select! {
                    reason = &mut interrupted => break Some(reason),
                    reason = &mut talk => break reason,
                    // What came before the end is in the queue: let it be heard.
                    end = &mut carry, if carried.is_none() => carried = Some(end),
                }
            }
        };
        let over = carried.is_some();
        let reason = reason.or_else(|| carried?.err()).unwrap_or(Error::ClosedByServer);
        self.slot.clear();
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
                debug!("the last packets did not get through in time");
            }
        }
        Ended { connected, reason }
    }

    /// The conversation. `None` when nothing more comes in.
    async fn talk(
        &self,
        mut inbound: mpsc::Receiver<Packet>,
        link: &Arc<Link>,
        transport: Transport,
        connected: &mut Option<Instant>,
    ) -> Option<Error> {
        let mut assembler = Assembler::new(self.namespace.clone(), self.max_incoming);
        let mut early = Vec::new();
        let join = self.join(&mut inbound, link, &mut assembler, &mut early);
        let sid = match within(self.connect_timeout, "connecting the namespace", join).await {
            Ok(Some(sid)) => sid,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        *connected = Some(Instant::now());
        self.slot.set(link);
        self.events.send(Event::Connected { sid: sid.0, transport }, 0).await;
        for whole in early {
            if let Some(end) = self.heard(whole, link).await {
                return Some(end);
            }
        }
        loop {
            match assembler.push(inbound.recv().await?) {
                Ok(None) => {}
                Ok(Some(whole)) => {
                    if let Some(end) = self.heard(whole, link).await {
                        return Some(end);
                    }
                }
                Err(error) => return Some(error),
            }
        }
    }

    /// Asks for the namespace. Servers may send events before they have said yes (from a handler of the connect
    /// event): those are kept for later.
    async fn join(
        &self,
        inbound: &mut mpsc::Receiver<Packet>,
        link: &Link,
        assembler: &mut Assembler,
        early: &mut Vec<Whole>,
    ) -> Result<Option<Sid>, Error> {
        let lost = |_| Error::ClosedByServer;
        link.send(&Body::Connect(self.auth.clone())).await.map_err(lost)?;
        let mut early_bytes = 0;
        loop {
            let Some(packet) = inbound.recv().await else {
                return Ok(None);
            };
            let Some(whole) = assembler.push(packet)? else {
                continue;
            };
            match whole.body {
                Body::Connect(data) => return Ok(Some(Sid(text(data.as_ref(), "sid")))),
                Body::ConnectError(data) => return Err(self.refused(data)),
                Body::Disconnect => return Err(Error::DisconnectedByServer),
                Body::Event { .. } | Body::Ack { .. } => {
                    early_bytes += whole.size;
                    if early.len() >= MAX_EARLY || early_bytes > self.max_incoming {
                        return Err(Error::Protocol("too many events before the namespace was connected"));
                    }
                    early.push(whole);
                }
            }
        }
    }

    fn refused(&self, data: Option<Value>) -> Error {
        let message = match &data {
            Some(Value::String(message)) => Some(message.clone()),
            other => text(other.as_ref(), "message"),
        };
        let message = message.map_or_else(|| "no reason given".to_owned(), |text| excerpt(&text));
        Error::Refused { namespace: self.namespace.clone(), message, data }
    }

    /// A packet after the server's yes; gives the reason when it ends the session.
    async fn heard(&self, whole: Whole, link: &Arc<Link>) -> Option<Error> {
        let Whole { body, attachments, size } = whole;
        match body {
            Body::Event { event, args, id, .. } => {
                let ack = id.map(|id| Ack { id, link: Arc::clone(link) });
                self.events.send(Event::Message(Message { event, args, attachments, ack }), size).await;
            }
            Body::Ack { id, args, .. } => {
                if !link.answered(id, args) {
                    debug!(id, "nobody waits for this acknowledgement");
                }
            }
            Body::Disconnect => return Some(Error::DisconnectedByServer),
            Body::ConnectError(data) => return Some(self.refused(data)),
            Body::Connect(_) => warn!("the server connected the namespace twice"),
        }
        None
    }
}

struct Sid(Option<String>);

fn text(data: Option<&Value>, key: &str) -> Option<String> {
    data?.get(key)?.as_str().map(str::to_owned)
}
