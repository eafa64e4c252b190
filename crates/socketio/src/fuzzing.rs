//! Entry points for the fuzzer (`--cfg fuzzing`), which cannot reach private items.

use bytes::Bytes;

use crate::assemble::{Assembled, Assembler, Throttles};
use crate::packet::engine::Packet;
use crate::packet::socket::Body;
use crate::transport::{Received, split_all};

/// Assembles the packets of one connection: bodies with their attachments and size, or the names of the events that
/// were left out.
pub fn assemble(
    namespace: &str,
    max_bytes: usize,
    packets: impl IntoIterator<Item = Packet>,
) -> Vec<Result<(Body, Vec<Bytes>, usize), String>> {
    let throttles = Throttles::default();
    let mut assembler = Assembler::new(namespace.to_owned(), max_bytes, &throttles);
    let mut all = Vec::new();
    for packet in packets {
        let received = match packet {
            Packet::Message(text) if text.len() > max_bytes => Received::LongMessage(text),
            Packet::Message(text) => Received::Message(text),
            Packet::Binary(data) if data.len() > max_bytes => Received::LongBinary,
            Packet::Binary(data) => Received::Binary(data),
            _ => continue,
        };
        all.extend(assembler.push(received).map(|heard| match heard {
            Assembled::Whole(whole) => Ok((whole.body, whole.attachments, whole.size)),
            Assembled::LeftOut { event } => Err(event),
        }));
    }
    all
}

/// Splits a long-polling body that arrives in these pieces into its packets' texts. `Err` has the beginning of a text that
/// is longer than the limit.
pub fn split(pieces: &[Bytes], limit: usize) -> Vec<Result<Vec<u8>, Vec<u8>>> {
    split_all(pieces, limit)
}
