//! Entry points for the fuzzer (`--cfg fuzzing`), which cannot reach private items: parsing of responses, without a server.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    Error, Incoming, NodeId, Run,
    client::runs::{input_text, read_page, read_run},
    encryption::{PrivateKey, PublicKey},
    http::{Answer, Call},
    input_filter::{InputFilter, Scope},
    time,
    token::{Session, TokenAnswer},
};

/// Makes a response with this status, whose body arrives in these pieces.
fn answer(status: u16, pieces: Vec<Bytes>, call: Call) -> Answer {
    let body = reqwest::Body::wrap_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    Answer::made(call, response.into(), std::time::Duration::from_secs(1))
}

fn good(pieces: Vec<Bytes>) -> Answer {
    answer(200, pieces, Call::get("run"))
}

/// Filters a text. Returns it without its inputs, the inputs, and whether the text was complete.
pub fn cut(pieces: &[Bytes], outermost: bool, keep: usize) -> (Bytes, Bytes, bool) {
    let of = if outermost { Scope::Outermost } else { Scope::All };
    let (mut cut, mut kept, mut input) = (InputFilter::new(of, keep), BytesMut::new(), BytesMut::new());
    for piece in pieces {
        cut.feed(piece, &mut kept, &mut input);
    }
    (kept.freeze(), input.freeze(), cut.is_whole())
}

/// Reads a page of runs. Returns the runs, the size of the page, and whether there is another page.
///
/// # Errors
/// Those of the client.
pub async fn page(pieces: Vec<Bytes>, keep: usize, limit: u64) -> Result<(Vec<Result<Run, Error>>, u64, bool), Error> {
    let (entries, bytes, has_next) = read_page(&mut good(pieces), keep, limit).await?;
    Ok((entries.collect(), bytes, has_next))
}

/// Reads one run.
///
/// # Errors
/// Those of the client.
pub async fn run(pieces: Vec<Bytes>, limit: u64) -> Result<Run, Error> {
    read_run(&mut good(pieces), limit).await
}

/// Reads the input from the text of one run.
///
/// # Errors
/// Those of the client.
pub async fn input(pieces: Vec<Bytes>, limit: u64) -> Result<Vec<u8>, Error> {
    let pieces: Vec<Bytes> = input_text(good(pieces), limit).boxed().try_collect().await?;
    Ok(pieces.concat())
}

/// Reads a login. Returns the node's id and whether the token is fresh.
///
/// # Errors
/// Those of the client.
pub async fn login(pieces: Vec<Bytes>, limit: u64) -> Result<(Option<NodeId>, bool), Error> {
    let answer: TokenAnswer = answer(200, pieces, Call::post("token/node").secret()).json(limit).await?;
    let session = Session::new(answer, Instant::now());
    // A fresh token is also valid.
    assert!(session.access.is_valid() || !session.access.is_fresh());
    Ok((session.node, session.access.is_fresh()))
}

/// Returns the error for a response that is not a success.
pub async fn refusal(status: u16, pieces: Vec<Bytes>) -> Error {
    answer(status, pieces, Call::patch("run/7")).refusal().await
}

/// Parses a date of the server.
pub fn date(text: &str) -> Option<Timestamp> {
    time::from_server(text).ok()
}

/// Returns roughly how much memory an event takes.
pub fn weight(event: &Incoming) -> usize {
    event.weight()
}

/// Encrypts a message's key, as for the head of each message.
pub fn seal(key: &PublicKey, secret: &[u8]) -> Option<Vec<u8>> {
    key.seal(secret)
}

/// Returns whether a key survives being written and read.
pub fn is_readable_again(key: &PrivateKey) -> bool {
    use secrecy::ExposeSecret as _;
    let again = key.to_pem().and_then(|pem| PrivateKey::from_pem(pem.expose_secret().as_bytes()));
    again.is_ok_and(|again| again.public() == key.public())
        && PublicKey::from_server(&key.public().to_server()).as_ref() == Ok(key.public())
}
