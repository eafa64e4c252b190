//! `sextant return`: waits beside the algorithm until the node wants the output, and then until the server has
//! it. As long as this container runs, the output is safe in the pod.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::PodError;
use super::client::{Client, Pauses, Said};
use super::settings::Settings;
use crate::data_port::protocol::{Item, Order};

/// How much is read from the output at once.
const CHUNK: usize = 64 * 1024;

/// Waits, sends, and ends when the node says so.
///
/// # Errors
/// If the settings are wrong, or the node refuses the run.
pub async fn run() -> Result<(), PodError> {
    let client = Client::new(Settings::from_env()?)?;
    let output = client.settings().task_dir.join("output");
    let mut pauses = Pauses::default();
    loop {
        let order = match client.fetch(Item::Next).await {
            Ok(body) => Limited::new(body, 64).collect().await.ok().and_then(|all| Order::read(&all.to_bytes())),
            Err(refused) => return Err(refused),
        };
        match order {
            Some(Order::Wait) => pauses.reset(),
            Some(Order::Go) => return Ok(()),
            Some(Order::Send) => match send(&client, &output).await? {
                Said::Body(_) => return Ok(()),
                Said::Later(reason) => pauses.wait(&reason).await,
            },
            None => pauses.wait("the node's answer was cut off").await,
        }
    }
}

async fn send(client: &Client, path: &Path) -> Result<Said, PodError> {
    match open(path).await {
        Ok((file, length)) => client.ask(Method::PUT, Item::Output, Output::new(file, length), None).await,
        Err(error) => {
            let problem = format!("The algorithm's output could not be read: {error}.");
            client.ask(Method::PUT, Item::Output, http_body_util::Full::<Bytes>::default(), Some(&problem)).await
        }
    }
}

/// Opens the output, and nothing that an algorithm may have put in its place: no link out of the task's folder, no
/// pipe that never answers.
async fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let file = File::from_std(file.into());
    let metadata = file.metadata().await?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(io::Error::other("it is not a file")) }
}

/// A file as a request's body, with its length known beforehand.
struct Output {
    stream: futures::stream::BoxStream<'static, io::Result<Bytes>>,
    left: u64,
}

impl Output {
    fn new(file: File, length: u64) -> Self {
        Self { stream: ReaderStream::with_capacity(file.take(length), CHUNK).boxed(), left: length }
    }
}

impl Body for Output {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.stream.try_poll_next_unpin(context).map(|chunk| {
            chunk.map(|chunk| {
                chunk.map(|bytes| {
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    Frame::data(bytes)
                })
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
