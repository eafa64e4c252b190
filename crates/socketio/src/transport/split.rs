//! Splits the body of a poll into packets while it arrives. A body may have any size, and a packet that is too large costs
//! no more memory than its beginning.

use crate::packet::engine::SEPARATOR;

/// How many bytes of a text that is too large are kept: enough for a packet's header and an event's name.
pub(crate) const HEAD: usize = 2048;

/// A packet's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// The complete text.
    Whole(Vec<u8>),
    /// The beginning of a text that is longer than the limit.
    Long(Vec<u8>),
}

impl Text {
    /// Returns whether this is a noop packet.
    pub fn is_noop(&self) -> bool {
        matches!(self, Self::Whole(text) if text == b"6")
    }
}

/// Holds the incomplete packet at the end of the received part of a body.
pub(crate) struct Splitter {
    limit: usize,
    held: Vec<u8>,
    /// The packet is longer than the limit; its remaining bytes are dropped.
    long: bool,
    /// A separator was received, so a packet follows it, possibly an empty one.
    separated: bool,
}

impl Splitter {
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), long: false, separated: false }
    }

    /// Consumes bytes from the beginning of `arrived` and returns the next packet that they complete.
    pub fn next(&mut self, arrived: &mut &[u8]) -> Option<Text> {
        // The separator is an ASCII character, so its byte is never part of another character.
        match arrived.iter().position(|byte| char::from(*byte) == SEPARATOR) {
            Some(end) => {
                self.keep(&arrived[..end]);
                *arrived = &arrived[end + 1..];
                self.separated = true;
                Some(self.take())
            }
            None => {
                self.keep(arrived);
                *arrived = &[];
                None
            }
        }
    }

    /// Returns the last packet, after which no separator comes. An empty body has none.
    pub fn end(mut self) -> Option<Text> {
        (self.separated || self.long || !self.held.is_empty()).then(|| self.take())
    }

    fn keep(&mut self, part: &[u8]) {
        if !self.long && self.held.len() + part.len() <= self.limit {
            return self.held.extend_from_slice(part);
        }
        let missing = HEAD.saturating_sub(self.held.len()).min(part.len());
        self.held.extend_from_slice(&part[..missing]);
        if !self.long {
            self.long = true;
            self.held.truncate(HEAD);
            self.held.shrink_to_fit();
        }
    }

    fn take(&mut self) -> Text {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.long) { Text::Long(held) } else { Text::Whole(held) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &[u8], piece: usize, limit: usize) -> Vec<Text> {
        let (mut splitter, mut all) = (Splitter::new(limit), Vec::new());
        for mut piece in body.chunks(piece) {
            while !piece.is_empty() {
                all.extend(splitter.next(&mut piece));
            }
        }
        all.extend(splitter.end());
        all
    }

    #[test]
    fn however_a_body_arrives() {
        let whole = |text: &str| Text::Whole(text.as_bytes().to_vec());
        for (body, packets) in [
            ("", vec![]),
            ("6", vec![whole("6")]),
            ("2\u{1e}4h\u{e9}", vec![whole("2"), whole("4h\u{e9}")]),
            ("6\u{1e}", vec![whole("6"), whole("")]),
            ("\u{1e}", vec![whole(""), whole("")]),
            ("4too long\u{1e}2", vec![Text::Long(b"4too long".to_vec()), whole("2")]),
            ("2\u{1e}4too long", vec![whole("2"), Text::Long(b"4too long".to_vec())]),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(split(body.as_bytes(), piece, 6), packets, "{body:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn of_a_long_text_only_the_beginning_is_kept() {
        let body = vec![b'x'; 1_000_000];
        for piece in [1000, 1_000_000] {
            let [Text::Long(head)] = &split(&body, piece, 100_000)[..] else { panic!("one long text") };
            assert!(head.len() == HEAD && head.capacity() < 2 * HEAD);
        }
    }
}
