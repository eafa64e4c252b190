//! What the targets share: bytes in pieces, a runtime in which waiting takes no time, a key, and an end to memory.

use std::alloc::System;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cap::Cap;
use futures::{Stream, stream};
use vantage6::encryption::PrivateKey;

/// Who takes more than this for a few kilobytes of input is ended by it, which the fuzzer reports: its own limit looks once a second.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 64 << 20);

/// Cuts bytes into pieces of all sizes: the same ones each time, others for other bytes.
pub fn pieces(bytes: &[u8]) -> Vec<Bytes> {
    let mut chance = bytes.iter().fold(bytes.len() as u32 | 1, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte)) | 1;
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        // Xorshift.
        chance ^= chance << 13;
        chance ^= chance >> 17;
        chance ^= chance << 5;
        let longest = [1, 3, 16, 300][chance as usize % 4];
        let (piece, after) = rest.split_at(rest.len().min(1 + (chance >> 8) as usize % longest));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

/// The bytes in one piece.
pub fn whole(bytes: &[u8]) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(bytes)]
}

/// Pieces as they come.
pub fn coming<E: Send + 'static>(pieces: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, E>> + Send + 'static {
    stream::iter(pieces.into_iter().map(Ok))
}

/// Runs a future, on a clock that jumps as soon as everybody waits.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// An invented organization's key, the same for all targets and seeds.
pub static KEY: LazyLock<Arc<PrivateKey>> =
    LazyLock::new(|| Arc::new(PrivateKey::from_pem(include_bytes!("../key.pem")).unwrap()));

/// Base64 as the server has it.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64 as the server has it, if it is that.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
