//! Encrypts and decrypts the given number of megabytes with a new key, and prints the speed and the memory used:
//! `cargo run --release --example encrypt -- 1000`. Used by `make bench-encryption`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example that fails, panics")]
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use vantage6::{
    encoding::Payload,
    encryption::{PrivateKey, decrypt, encrypt},
};

/// The size of the pieces in which outputs and inputs arrive.
const PIECE: usize = 64 * 1024;

fn plain(pieces: usize) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    // Not base64, so that it is not mistaken for a text of the web interface.
    let piece = Bytes::from(vec![b'{'; PIECE]);
    stream::iter((0..pieces).map(move |_| Ok(piece.clone())))
}

async fn count<E: std::fmt::Debug>(stream: impl Stream<Item = Result<Bytes, E>>) -> usize {
    stream.fold(0, |sum, piece| std::future::ready(sum + piece.unwrap().len())).await
}

/// The most memory that this process ever used, in bytes.
fn peak() -> u64 {
    memory_testing::peak_kib() as u64 * 1024
}

/// The processor's time that this process took, in seconds; the kernel counts hundredths.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let megabytes: usize = std::env::args().nth(1).expect("how many megabytes?").parse().unwrap();
    let pieces = megabytes * 1_000_000 / PIECE;
    let bytes = pieces * PIECE;
    let key = Arc::new(PrivateKey::generate().unwrap());

    let (begin, worked) = (Instant::now(), processor());
    let public = key.public().clone();
    // In a task, as in the node.
    let encrypted = tokio::spawn(async move {
        let message = encrypt(Payload::new(bytes as u64, plain(pieces)), &public).unwrap();
        count(message.into_stream()).await
    });
    assert!(encrypted.await.unwrap() > bytes / 3 * 4);
    let (encrypting, worked, encrypting_peak) = (begin.elapsed(), processor() - worked, peak());

    // Three pieces of a message, again and again: what they say is of no matter, but how fast they become bytes.
    let message = encrypt(Payload::new(3 * PIECE as u64, plain(3)), key.public()).unwrap();
    let text: Vec<Bytes> = message.into_stream().try_collect().await.unwrap();
    let (head, body) = (text[0].clone(), Bytes::from(text[1..].concat()));
    let begin = Instant::now();
    let decrypted = tokio::spawn(async move {
        let body = (0..pieces / 3 * 4).map(move |number| body.slice(number % 4 * PIECE..(number % 4 + 1) * PIECE));
        count(decrypt(stream::iter([head].into_iter().chain(body).map(Ok)), key)).await
    });
    assert_eq!(decrypted.await.unwrap(), pieces / 3 * 3 * PIECE);
    let decrypting = begin.elapsed();

    let figures = json!({
        "bytes": bytes,
        "encrypted_per_second": bytes as f64 / encrypting.as_secs_f64(),
        "encrypted_per_second_of_one_core": bytes as f64 / worked,
        "encrypting_peak": encrypting_peak,
        "decrypted_per_second": bytes as f64 / decrypting.as_secs_f64(),
        "peak": peak(),
    });
    println!("{figures}");
}
