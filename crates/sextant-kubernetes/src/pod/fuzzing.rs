//! For the fuzzer (`--cfg fuzzing`), which sees nothing private: what the pod reads of the node's answers, behind TLS.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::client::{Reply, exchange, interpret};
use super::receive::reader;
use super::upload;
use crate::data_port::protocol::Command;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// The item, whole.
    Item(Vec<u8>),
    /// The beginning of one that broke off.
    Broken(Vec<u8>),
    /// What `return` is to do; `None` if that can't be read.
    Command(Option<Command>),
    /// Nothing now.
    Later,
    /// The node's refusal.
    Refused(String),
}

/// Asks for an item, or for a command, where the answer is on this stream.
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
