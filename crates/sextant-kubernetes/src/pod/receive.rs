//! `sextant receive`, the init container. It fetches the input and the token before the algorithm starts, and creates the
//! files and folders that vantage6's own node creates.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use sextant_files::{run_context, shared_dirs};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio_util::io::StreamReader;

use super::PodError;
use super::client::{Client, Retries, STALLED};
use super::settings::{self, Settings};
use crate::data_port::protocol::Item;
use crate::decisions::job::env;
use crate::decisions::scratch;

/// Creates all files and folders, and downloads the input and the token.
///
/// # Errors
/// If the node refuses the run, or a file can't be written.
pub async fn run() -> Result<(), PodError> {
    let token_dir = PathBuf::from(settings::required(env::TOKEN_DIR)?);
    let client = Client::new(Settings::from_env()?)?;
    let task_dir = client.settings().task_dir.clone();

    if let Some(scratch) = settings::optional(env::SCRATCH_DIR) {
        prepare(Path::new(&scratch)).await?;
    }
    // Images may run as any user, so every user in this pod must be able to write here.
    folder(&task_dir, 0o777).await?;
    if let Some(shared) = settings::optional(env::SHARED_DIR) {
        // `return` removes what other jobs have left, since it waits anyway. This removes it only if there is no space otherwise.
        let keep = settings::optional(env::SHARED_KEEP).and_then(|keep| keep.parse().ok()).map(Duration::from_secs);
        let made = tokio::task::spawn_blocking(move || {
            shared_dirs::make(Path::new(&shared), keep).map_err(|source| (shared, source))
        });
        made.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())).map_err(|(shared, source)| {
            let what = format!(
                "the folder {shared} could not be created in the volume that runs share as /mnt/tmp (`kubernetes.tmp` or `task_dir`)"
            );
            PodError::File { what, source }
        })?;
    }
    download(&client, Item::Input, &task_dir.join("input"), 0o644).await?;
    if let Some(rest) = settings::optional(env::RUN_CONTEXT) {
        describe(&task_dir, rest).await?;
    }
    write(&task_dir.join("output"), 0o666, &b""[..]).await?;
    // The token's path in the task folder is a mount of this file.
    download(&client, Item::Token, &token_dir.join("token"), 0o644).await
}

/// Creates what the algorithm finds in the run's own volume ([`crate::decisions::scratch`]).
async fn prepare(volume: &Path) -> Result<(), PodError> {
    folder(&volume.join(scratch::DATA), 0o777).await?;
    for name in scratch::TEMPORARY.map(|(name, _)| name).into_iter().chain([scratch::OWN_TMP]) {
        folder(&volume.join(name), 0o1777).await?;
    }
    // All containers of the pod share this file, so that the algorithm sees what the kubelet wrote to this container's hosts file.
    let hosts = fs::read(scratch::HOSTS_FILE).await.unwrap_or_default();
    // After a restart of this container the file may exist and be read-only.
    let _ = fs::remove_file(volume.join(scratch::HOSTS)).await;
    write(&volume.join(scratch::HOSTS), 0o444, hosts.as_slice()).await?;
    let closed = volume.join(scratch::CLOSED);
    folder(&closed, 0o700).await?;
    write(&closed.join(scratch::MESSAGE), 0o666, &b""[..]).await?;
    folder(&closed, 0o000).await
}

/// Writes `run_context.json` from the downloaded input and from what the node says.
async fn describe(task_dir: &Path, rest: String) -> Result<(), PodError> {
    let (input, path) = (task_dir.join("input"), task_dir.join(run_context::RUN_CONTEXT));
    let failed = |source| PodError::File { what: format!("the file {} could not be written", path.display()), source };
    let to = path.clone();
    let made = tokio::task::spawn_blocking(move || {
        run_context::write(std::fs::File::open(input)?, &rest, std::fs::File::create(to)?)
    });
    made.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644)).await.map_err(failed)
}

/// Fetches an item into a file, and starts over if the connection breaks.
async fn download(client: &Client, item: Item, path: &Path, mode: u32) -> Result<(), PodError> {
    let mut retries = Retries::default();
    loop {
        match write(path, mode, reader(client.fetch(item).await?)).await {
            Err(PodError::File { source, .. }) if Broken::is(&source) => {
                retries.wait(&format!("the connection broke: {source}")).await;
            }
            result => return result,
        }
    }
}

/// Reads an item as a stream, which fails if it makes no progress.
pub(super) fn reader(body: Incoming) -> impl AsyncRead + Unpin {
    let pieces = tokio_stream::StreamExt::timeout(BodyDataStream::new(body), STALLED).map(|piece| match piece {
        Ok(piece) => piece.map_err(|error| std::io::Error::from(Broken(error.to_string()))),
        Err(_) => Err(Broken("it makes no progress".into()).into()),
    });
    StreamReader::new(Box::pin(pieces))
}

/// Distinguishes an error of the connection from an error of the disk.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

impl From<Broken> for std::io::Error {
    fn from(broken: Broken) -> Self {
        Self::other(broken)
    }
}

impl Broken {
    fn is(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }
}

async fn folder(path: &Path, mode: u32) -> Result<(), PodError> {
    let failed = |source| not_made(path, source);
    fs::create_dir_all(path).await.map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).await.map_err(failed)
}

fn not_made(path: &Path, source: std::io::Error) -> PodError {
    PodError::File { what: format!("the folder {} could not be created", path.display()), source }
}

async fn write(path: &Path, mode: u32, mut from: impl AsyncRead + Unpin) -> Result<(), PodError> {
    let failed = |source| PodError::File { what: format!("the file {} could not be written", path.display()), source };
    let mut file = fs::File::create(path).await.map_err(failed)?;
    tokio::io::copy(&mut from, &mut file).await.map_err(failed)?;
    file.flush().await.map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).await.map_err(failed)
}
