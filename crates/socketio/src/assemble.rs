//! Puts Socket.IO packets together with the attachments that follow them, and ignores other namespaces.
//!
//! A packet that cannot be used is skipped and the connection goes on: the stream stays in step, and otherwise other
//! clients could end the connection at will. A skipped event is reported by name, so that its reader can make up for it.

use bytes::Bytes;
use log_throttle::LogThrottle;
use tracing::{debug, warn};

use crate::packet::socket::{Body, Header};
use crate::transport::Received;

/// A Socket.IO packet with its attachments.
#[derive(Debug, PartialEq)]
pub(crate) struct CompletePacket {
    pub body: Body,
    pub attachments: Vec<Bytes>,
    /// How many bytes were received for it.
    pub size: usize,
}

/// The result of assembling received packets.
#[derive(Debug, PartialEq)]
pub(crate) enum Assembled {
    Whole(CompletePacket),
    /// An event that cannot be read.
    LeftOut {
        event: String,
    },
}

/// Throttles for log lines that a server, or other clients through it, can cause any number of times. They belong to the
/// client, so they outlive its connections.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    unreadable: LogThrottle,
    long: LogThrottle,
    incomplete: LogThrottle,
    stray: LogThrottle,
    pub twice: LogThrottle,
    pub early: LogThrottle,
}

/// Collects the packets of one connection.
pub(crate) struct Assembler<'a> {
    namespace: String,
    /// The largest packet, including its attachments, in bytes.
    max_bytes: usize,
    throttles: &'a Throttles,
    /// A packet with missing attachments.
    partial: Option<Partial>,
}

struct Partial {
    missing: usize,
    what: Outcome,
}

/// What to report once a packet is complete.
enum Outcome {
    Whole(CompletePacket),
    LeftOut { event: String },
    Nothing,
}

impl Outcome {
    fn into_assembled(self) -> Option<Assembled> {
        match self {
            Self::Whole(whole) => Some(Assembled::Whole(whole)),
            Self::LeftOut { event } => Some(Assembled::LeftOut { event }),
            Self::Nothing => None,
        }
    }

    /// Turns a packet that can no longer be completed into one that is left out.
    fn left_out(self) -> Self {
        match self {
            Self::Whole(CompletePacket { body: Body::Event { event, .. }, .. }) => Self::LeftOut { event },
            Self::Whole(_) => Self::Nothing,
            other => other,
        }
    }
}

impl<'a> Assembler<'a> {
    pub fn new(namespace: String, max_bytes: usize, throttles: &'a Throttles) -> Self {
        Self { namespace, max_bytes, throttles, partial: None }
    }

    /// Takes a received packet. It may yield two results: a new packet ends an incomplete one.
    pub fn push(&mut self, received: Received) -> impl Iterator<Item = Assembled> + use<> {
        let (cut_short, heard) = match received {
            Received::Message(text) => (self.cut_short(), self.text(&text, Text::Whole)),
            Received::LongMessage(head) => (self.cut_short(), self.text(&head, Text::Beginning)),
            Received::Binary(data) => (None, self.attachment(Some(data))),
            Received::LongBinary => (None, self.attachment(None)),
        };
        cut_short.into_iter().chain(heard)
    }

    /// Ends the packet whose attachments did not all arrive.
    fn cut_short(&mut self) -> Option<Assembled> {
        let partial = self.partial.take()?;
        if let Some(times) = self.throttles.incomplete.happened() {
            warn!(times, "Skipped a packet: the next one arrived before all of its attachments");
        }
        partial.what.left_out().into_assembled()
    }

    fn text(&mut self, text: &str, extent: Text) -> Option<Assembled> {
        let (header, data) = match Header::read(text) {
            Ok(read) => read,
            Err(error) => {
                if let Some(times) = self.throttles.unreadable.happened() {
                    warn!(%error, times, "Skipped a packet that is not Socket.IO v5");
                }
                return None;
            }
        };
        let what = if header.namespace == self.namespace {
            self.data(&header, data, text.len(), extent)
        } else {
            debug!(namespace = %self.namespace, "Skipped a packet of another namespace");
            Outcome::Nothing
        };
        if header.attachments > 0 {
            self.partial = Some(Partial { missing: header.attachments, what });
            return None;
        }
        what.into_assembled()
    }

    fn data(&self, header: &Header<'_>, data: &str, size: usize, extent: Text) -> Outcome {
        match extent {
            Text::Whole => match header.body(data) {
                Ok(body) => return Outcome::Whole(CompletePacket { body, attachments: Vec::new(), size }),
                Err(error) => {
                    if let Some(times) = self.throttles.unreadable.happened() {
                        warn!(%error, times, "Skipped a packet whose data can't be read");
                    }
                }
            },
            Text::Beginning => self.too_large(),
        }
        header.event_name(data).map_or(Outcome::Nothing, |event| Outcome::LeftOut { event })
    }

    fn too_large(&self) {
        if let Some(times) = self.throttles.long.happened() {
            warn!(limit = self.max_bytes, times, "Skipped a packet of more bytes than this client reads");
        }
    }

    fn attachment(&mut self, data: Option<Bytes>) -> Option<Assembled> {
        let Some(mut partial) = self.partial.take() else {
            if let Some(times) = self.throttles.stray.happened() {
                warn!(times, "Skipped an attachment that belongs to no packet");
            }
            return None;
        };
        partial.missing -= 1;
        partial.what = match (partial.what, data) {
            (Outcome::Whole(mut whole), Some(data)) if whole.size.saturating_add(data.len()) <= self.max_bytes => {
                whole.size += data.len();
                whole.attachments.push(data);
                Outcome::Whole(whole)
            }
            (what @ Outcome::Whole(_), _) => {
                self.too_large();
                what.left_out()
            }
            (other, _) => other,
        };
        if partial.missing > 0 {
            self.partial = Some(partial);
            return None;
        }
        partial.what.into_assembled()
    }
}

/// How much of a packet's text is present.
#[derive(Clone, Copy)]
enum Text {
    Whole,
    Beginning,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Received {
        Received::Message(text.into())
    }

    fn binary(data: &'static [u8]) -> Received {
        Received::Binary(Bytes::from_static(data))
    }

    /// Assembles packets: the names of events (`Ok`), and of those that were left out (`Err`).
    fn heard(max_bytes: usize, received: impl IntoIterator<Item = Received>) -> Vec<Result<String, String>> {
        let throttles = Throttles::default();
        let mut assembler = Assembler::new("/a".into(), max_bytes, &throttles);
        let heard = received.into_iter().flat_map(|received| assembler.push(received).collect::<Vec<_>>());
        let name = |heard| match heard {
            Assembled::Whole(CompletePacket { body: Body::Event { event, .. }, .. }) => Ok(event),
            Assembled::Whole(other) => panic!("{other:?}"),
            Assembled::LeftOut { event } => Err(event),
        };
        heard.map(name).collect()
    }

    #[test]
    fn waits_for_attachments() {
        let throttles = Throttles::default();
        let mut assembler = Assembler::new("/a".into(), 100, &throttles);
        assert_eq!(assembler.push(text(r#"52-/a,["x"]"#)).next(), None);
        assert_eq!(assembler.push(binary(b"12")).next(), None);
        let Some(Assembled::Whole(whole)) = assembler.push(binary(b"3")).next() else { panic!("it is whole") };
        assert_eq!(whole.attachments, ["12", "3"]);
        assert_eq!(whole.size, 14);
    }

    #[test]
    fn leaves_out_what_does_not_fit() {
        let odd = [text("2[]"), binary(b"1"), text(r#"2["other namespace"]"#), text(r#"51-["x"]"#), binary(b"1")];
        assert_eq!(heard(12, odd), []);
        let (long, good) = (|text: &str| Received::LongMessage(text.into()), || text(r#"2/a,["y"]"#));
        let (left_out, y) = (|| Err("x".to_owned()), || Ok("y".to_owned()));
        // An event with missing attachments, one whose attachments are too large (reported after the last of them), one that
        // can't be read, and one that is too large: each is reported as left out, and the next event is read.
        let table: [(&[Received], _); 8] = [
            (&[text(r#"51-/a,["x"]"#), good()], vec![left_out(), y()]),
            (&[text(r#"52-/a,["x"]"#), binary(b"12345"), binary(b""), good()], vec![left_out(), y()]),
            (&[text(r#"52-/a,["x"]"#), Received::LongBinary, binary(b""), good()], vec![left_out(), y()]),
            (&[text(r#"51-/a,["x",NaN]"#), binary(b""), good()], vec![left_out(), y()]),
            (&[text(r#"2/a,["x",Infinity]"#), good()], vec![left_out(), y()]),
            (&[long(r#"2/a,["x","#), good()], vec![left_out(), y()]),
            (&[long(r#"52-/a,7["x","#), binary(b"1"), binary(b"1"), good()], vec![left_out(), y()]),
            (&[long(r#"2/b,["x","#), long("3/a,1["), long("0/a,{"), long("2/a"), good()], vec![y()]),
        ];
        for (received, expected) in table {
            assert_eq!(heard(12, received.iter().cloned()), expected, "{received:?}");
        }
    }
}
