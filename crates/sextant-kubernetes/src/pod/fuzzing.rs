//! Entry points for the fuzzer (`--cfg fuzzing`), which can't use private items: how a pod reads the node's responses, without TLS.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::client::{Reply, exchange, interpret};
use super::receive::reader;
use super::upload;
use crate::data_port::protocol::Command;

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// The complete item.
    Item(Vec<u8>),
    /// The beginning of an item whose transfer broke off.
    Broken(Vec<u8>),
    /// The command for `return`; `None` if it can't be parsed.
    Command(Option<Command>),
    /// The node has no answer now.
    Later,
    /// The node's refusal.
    Refused(String),
}

/// Requests an item, or a command, over this stream.
pub async fn ask(stream: DuplexStream, command: bool) -> Got {
    let Ok(response) = exchange(stream, Request::new(Empty::<Bytes>::new())).await else { return Got::Later };
    match interpret(response, "node").await {
        Err(error) => Got::Refused(error.to_string()),
        Ok(Reply::Later(_)) => Got::Later,
        Ok(Reply::Body(body)) if command => Got::Command(upload::command(body).await),
        Ok(Reply::Body(body)) => {
            let mut item = Vec::new();
            match reader(body).read_to_end(&mut item).await {
                Ok(_) => Got::Item(item),
                Err(_) => Got::Broken(item),
            }
        }
    }
}
