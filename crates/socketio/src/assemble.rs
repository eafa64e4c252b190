//! Puts Socket.IO packets together with the attachments that follow them, and keeps to one namespace.

use bytes::Bytes;
use tracing::{debug, warn};

use crate::error::Error;
use crate::packet::engine;
use crate::packet::socket::{Body, Packet};

/// A Socket.IO packet with all that belongs to it.
#[derive(Debug, PartialEq)]
pub(crate) struct Whole {
    pub body: Body,
    pub attachments: Vec<Bytes>,
    /// Bytes received for it.
    pub size: usize,
}

/// Collects the packets of one connection.
pub(crate) struct Assembler {
    namespace: String,
    max_bytes: usize,
    /// A packet of which attachments are missing.
    partial: Option<Partial>,
}

struct Partial {
    ours: bool,
    missing: usize,
    whole: Whole,
}

impl Assembler {
    pub fn new(namespace: String, max_bytes: usize) -> Self {
        Self { namespace, max_bytes, partial: None }
    }

    /// Takes what came; gives a packet of our namespace when one is complete.
    ///
    /// A text that is no Socket.IO packet is left out with a warning: one odd event is no reason to lose the
    /// connection, as the stream is in step all the same.
    pub fn push(&mut self, packet: engine::Packet) -> Result<Option<Whole>, Error> {
        match packet {
            engine::Packet::Message(text) => Ok(self.text(&text)),
            engine::Packet::Binary(data) => self.attachment(data),
            _ => Ok(None),
        }
    }

    fn text(&mut self, text: &str) -> Option<Whole> {
        if self.partial.take().is_some() {
            warn!("a packet came before all attachments of the one before it, which is left out");
        }
        let packet = match Packet::decode(text) {
            Ok(packet) => packet,
            Err(error) => {
                warn!(%error, bytes = text.len(), "left out a packet that is not Socket.IO v5");
                return None;
            }
        };
        let missing = match packet.body {
            Body::Event { attachments, .. } | Body::Ack { attachments, .. } => attachments,
            _ => 0,
        };
        let ours = packet.namespace == self.namespace;
        let whole = Whole { body: packet.body, attachments: Vec::new(), size: text.len() };
        if missing > 0 {
            self.partial = Some(Partial { ours, missing, whole });
            return None;
        }
        self.if_ours(ours, whole)
    }

    fn attachment(&mut self, data: Bytes) -> Result<Option<Whole>, Error> {
        let Some(mut partial) = self.partial.take() else {
            warn!(bytes = data.len(), "left out an attachment that belongs to no packet");
            return Ok(None);
        };
        partial.whole.size = partial.whole.size.saturating_add(data.len());
        if partial.whole.size > self.max_bytes {
            return Err(Error::TooLarge { limit: self.max_bytes });
        }
        partial.missing -= 1;
        partial.whole.attachments.push(data);
        if partial.missing > 0 {
            self.partial = Some(partial);
            return Ok(None);
        }
        Ok(self.if_ours(partial.ours, partial.whole))
    }

    fn if_ours(&self, ours: bool, whole: Whole) -> Option<Whole> {
        if !ours {
            debug!(namespace = %self.namespace, "left out a packet of another namespace");
        }
        ours.then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> engine::Packet {
        engine::Packet::Message(text.into())
    }

    fn binary(data: &'static [u8]) -> engine::Packet {
        engine::Packet::Binary(Bytes::from_static(data))
    }

    #[test]
    fn waits_for_attachments() {
        let mut assembler = Assembler::new("/a".into(), 100);
        assert_eq!(assembler.push(text(r#"52-/a,["x"]"#)).unwrap(), None);
        assert_eq!(assembler.push(binary(b"12")).unwrap(), None);
        let whole = assembler.push(binary(b"3")).unwrap().unwrap();
        assert_eq!(whole.attachments, ["12", "3"]);
        assert_eq!(whole.size, 14);
    }

    #[test]
    fn leaves_out_what_does_not_fit() {
        let mut assembler = Assembler::new("/a".into(), 12);
        for odd in [text("2[]"), binary(b"1"), text(r#"2["other namespace"]"#), text(r#"51-["x"]"#), binary(b"1")] {
            assert_eq!(assembler.push(odd).unwrap(), None);
        }
        assembler.push(text(r#"51-/a,["x"]"#)).unwrap();
        assert!(assembler.push(text(r#"2/a,["y"]"#)).unwrap().is_some());
        assembler.push(text(r#"51-/a,["x"]"#)).unwrap();
        assert!(matches!(assembler.push(binary(b"12345")), Err(Error::TooLarge { limit: 12 })));
    }
}
