//! A connection's sending side. A link is made for each connection and can be used from when the namespace is connected to
//! the end of that connection, so nothing meant for one connection is sent on another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::error::EmitError;
use crate::packet::Args;
use crate::packet::engine::Packet;
use crate::packet::socket::{self, Body};

/// How many events may wait for an ack.
const MAX_PENDING: usize = 1024;

pub(crate) struct Link {
    namespace: String,
    outbound: mpsc::Sender<Packet>,
    max_payload: Option<usize>,
    /// `None` once the link has ended.
    acks: Mutex<Option<Acks>>,
}

#[derive(Default)]
struct Acks {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Args>>,
}

impl Link {
    pub fn new(namespace: String, outbound: mpsc::Sender<Packet>, max_payload: Option<usize>) -> Self {
        Self { namespace, outbound, max_payload, acks: Mutex::new(Some(Acks::default())) }
    }

    /// Queues a packet. Waits while the queue is full.
    pub async fn send(&self, body: &Body) -> Result<(), EmitError> {
        let packet = Packet::Message(socket::encode(&self.namespace, body));
        if let (Packet::Message(text), Some(limit)) = (&packet, self.max_payload) {
            let size = text.len() + 1;
            if size > limit {
                return Err(EmitError::TooLarge { size, limit });
            }
        }
        if self.acks.lock().is_none() {
            return Err(EmitError::NotConnected);
        }
        self.outbound.send(packet).await.map_err(|_| EmitError::NotConnected)
    }

    /// Registers an event whose ack is expected.
    pub fn expect_ack(&self) -> Result<(u64, oneshot::Receiver<Args>), EmitError> {
        let mut acks = self.acks.lock();
        let acks = acks.as_mut().ok_or(EmitError::NotConnected)?;
        if acks.waiting.len() >= MAX_PENDING {
            acks.waiting.retain(|_, waiting| !waiting.is_closed());
        }
        if acks.waiting.len() >= MAX_PENDING {
            return Err(EmitError::TooManyPending);
        }
        let (sender, receiver) = oneshot::channel();
        acks.last += 1;
        acks.waiting.insert(acks.last, sender);
        Ok((acks.last, receiver))
    }

    /// Delivers an ack. Returns false if no caller waits for it.
    pub fn answered(&self, id: u64, args: Args) -> bool {
        let waiting = self.acks.lock().as_mut().and_then(|acks| acks.waiting.remove(&id));
        waiting.is_some_and(|waiting| waiting.send(args).is_ok())
    }

    /// Ends the link: sending fails from now on, and callers that wait for an ack get an error.
    fn end(&self) {
        *self.acks.lock() = None;
    }
}

/// The current link, if there is one.
#[derive(Default)]
pub(crate) struct CurrentLink(Mutex<Option<Arc<Link>>>);

impl CurrentLink {
    pub fn get(&self) -> Option<Arc<Link>> {
        self.0.lock().clone()
    }

    pub fn set(&self, link: &Arc<Link>) {
        *self.0.lock() = Some(Arc::clone(link));
    }

    pub fn clear(&self) {
        let link = self.0.lock().take();
        if let Some(link) = link {
            link.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn link(max_payload: Option<usize>) -> (Arc<Link>, mpsc::Receiver<Packet>) {
        let (sender, receiver) = mpsc::channel(1);
        (Arc::new(Link::new("/a".into(), sender, max_payload)), receiver)
    }

    fn event(text: &str) -> Body {
        Body::Event { event: text.into(), args: Args::default(), id: None, attachments: 0 }
    }

    #[tokio::test]
    async fn the_servers_limit_is_kept() {
        let (link, mut sent) = link(Some(12));
        assert_eq!(link.send(&event("123")).await, Ok(()));
        assert_eq!(sent.recv().await.unwrap().encode(), r#"42/a,["123"]"#);
        assert_eq!(link.send(&event("1234")).await, Err(EmitError::TooLarge { size: 13, limit: 12 }));
    }

    #[tokio::test]
    async fn acks_find_their_event_once_and_end_with_the_link() {
        let (link, _sent) = link(None);
        let slot = CurrentLink::default();
        slot.set(&link);
        let (id, answer) = link.expect_ack().unwrap();
        let (_, unanswered) = link.expect_ack().unwrap();
        assert!(link.answered(id, json!(1).into()));
        assert!(!link.answered(id, Args::default()) && !link.answered(99, Args::default()));
        assert_eq!(answer.await, Ok(json!(1).into()));

        slot.clear();
        assert!(unanswered.await.is_err());
        assert!(slot.get().is_none());
        assert_eq!(link.send(&event("x")).await, Err(EmitError::NotConnected));
        assert!(matches!(link.expect_ack(), Err(EmitError::NotConnected)));
    }

    #[test]
    fn waiting_answers_are_bounded_but_given_up_ones_do_not_count() {
        let (link, _sent) = link(None);
        let mut kept: Vec<_> = (0..MAX_PENDING).map(|_| link.expect_ack().unwrap()).collect();
        assert!(matches!(link.expect_ack(), Err(EmitError::TooManyPending)));
        kept.pop();
        assert!(link.expect_ack().is_ok());
    }
}
