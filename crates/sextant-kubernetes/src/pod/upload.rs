//! `sextant return` waits beside the algorithm until the node asks for the output, uploads it, and exits when the server has it. The output
//! is kept in the pod while this container runs.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use sextant_files::safe_open;
use sextant_files::shared_dirs;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::PodError;
use super::client::{Client, Reply, Retries};
use super::settings::{self, Settings};
use crate::data_port::protocol::{Command, Item};
use crate::decisions::job::env;

/// How many bytes of the output are read at once.
const CHUNK: usize = 64 * 1024;

/// Follows the node's commands until the server has the output.
///
/// # Errors
/// If the settings are wrong, or the node refuses the run.
pub async fn run() -> Result<(), PodError> {
    let client = Client::new(Settings::from_env()?)?;
    let output = client.settings().task_dir.join("output");
    remove_old_folders();
    let mut retries = Retries::default();
    loop {
        let command = match client.fetch(Item::Next).await {
            Ok(body) => command(body).await,
            Err(refused) => return Err(refused),
        };
        match command {
            Some(Command::Wait) => retries.reset(),
            Some(Command::Exit) => return Ok(()),
            Some(Command::Upload) => match send(&client, &output).await? {
                Reply::Body(_) => return Ok(()),
                Reply::Later(reason) => retries.wait(&reason).await,
            },
            None => retries.wait("the node's answer was cut off").await,
        }
    }
}

/// Removes folders that earlier jobs have left, in the background. Nothing depends on its success or duration; the next run removes what is
/// left when the process ends. Earlier versions of the node don't set the variables.
fn remove_old_folders() {
    let keep = settings::optional(env::SHARED_KEEP).and_then(|keep| keep.parse().ok());
    if let Some((shared, keep)) = settings::optional(env::SHARED_DIR).zip(keep) {
        shared_dirs::sweep_beside(shared.into(), Duration::from_secs(keep));
    }
}

/// Parses the command; `None` if the answer was cut off, or is not a command.
pub(super) async fn command(body: Incoming) -> Option<Command> {
    Limited::new(body, 64).collect().await.ok().and_then(|all| Command::read(&all.to_bytes()))
}

async fn send(client: &Client, path: &Path) -> Result<Reply, PodError> {
    // The parent of the run's folder belongs to the node. The algorithm may have created anything in the run's folder.
    let (folder, relative) = split(path);
    match safe_open::open(folder, relative) {
        Ok((file, length)) => {
            client.ask(Method::PUT, Item::Output, Output::new(File::from_std(file), length), None).await
        }
        Err(error) => {
            let problem = format!("The algorithm's output could not be read: {error}.");
            client.ask(Method::PUT, Item::Output, http_body_util::Full::<Bytes>::default(), Some(&problem)).await
        }
    }
}

/// The parent of the run's folder, and the path relative to it.
fn split(path: &Path) -> (&Path, &Path) {
    let folder = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    (folder, path.strip_prefix(folder).unwrap_or(path))
}

/// A file as a request body whose length is known in advance.
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
