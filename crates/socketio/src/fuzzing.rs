//! For the fuzzer (`--cfg fuzzing`), which sees nothing private.

use bytes::Bytes;

use crate::assemble::Assembler;
use crate::error::Error;
use crate::packet::engine::Packet;
use crate::packet::socket::Body;

/// What one connection makes of these packets: bodies with their attachments and their size.
///
/// # Errors
/// That of the packet that ends the connection.
pub fn assemble(
    namespace: &str,
    max_bytes: usize,
    packets: impl IntoIterator<Item = Packet>,
) -> Result<Vec<(Body, Vec<Bytes>, usize)>, Error> {
    let mut assembler = Assembler::new(namespace.to_owned(), max_bytes);
    let mut all = Vec::new();
    for packet in packets {
        all.extend(assembler.push(packet)?.map(|whole| (whole.body, whole.attachments, whole.size)));
    }
    Ok(all)
}
