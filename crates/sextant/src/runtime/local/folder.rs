//! A run's folder: its files, and what they say of it.
//!
//! ```text
//!   task-3-run-7/  assigned                      when the server made the run, which tells it from others of its number
//!                  input  output  token  log     the algorithm's
//!                  pid                           the supervisor's process id and start time
//!                  exit                          written when the algorithm has ended
//! ```

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::io::{ReaderStream, StreamReader};
use vantage6::{RunId, RunStatus, TaskId};

use crate::core::assignment::Assignment;
use crate::core::situation::{Exit, Failure, Situation};
use crate::core::tail::{Bounds, Tail};
use crate::output;
use crate::processes;
use crate::runtime::{InputStream, Upload};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The run's task.
    pub task: TaskId,
    /// The run.
    pub run: RunId,
    path: PathBuf,
}

impl Folder {
    /// The folder of a run, whether it exists or not.
    pub fn new(root: &Path, task: TaskId, run: RunId) -> Self {
        Self { task, run, path: root.join(format!("task-{task}-run-{run}")) }
    }

    /// All that exist.
    pub fn all(root: &Path) -> Vec<Self> {
        let names = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| {
                let (task, run) = name.to_str()?.strip_prefix("task-")?.split_once("-run-")?;
                Some(Self::new(root, task.parse().ok()?, run.parse().ok()?))
            })
            .collect()
    }

    /// A run's folder, if it exists.
    pub fn of(root: &Path, run: RunId) -> Option<Self> {
        Self::all(root).into_iter().find(|folder| folder.run == run)
    }

    /// Whether it is this run's, and not that of one which had the number before: a server may use numbers of deleted runs again.
    pub fn is_of(&self, assignment: &Assignment) -> bool {
        // Those of earlier versions don't say.
        let same_time = || fs::read_to_string(self.assigned()).map_or(true, |time| time == assignment.assigned_at);
        self.run == assignment.run && self.task == assignment.task && same_time()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the server made the run.
    pub fn assigned(&self) -> PathBuf {
        self.path.join("assigned")
    }

    /// The algorithm's input.
    pub fn input(&self) -> PathBuf {
        self.path.join("input")
    }

    /// The algorithm's output.
    pub fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    /// The algorithm's token.
    pub fn token(&self) -> PathBuf {
        self.path.join("token")
    }

    /// What the algorithm writes to standard output and standard error.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The supervisor's process.
    pub fn pid(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// How the algorithm ended.
    pub fn exit(&self) -> PathBuf {
        self.path.join("exit")
    }

    /// Makes it, for the run that the server made at this time, with an empty output.
    pub fn make(&self, assigned_at: &str) -> io::Result<()> {
        private(&self.path)?;
        fs::write(self.assigned(), assigned_at)?;
        fs::write(self.output(), b"")
    }

    /// Writes the input as it arrives.
    pub async fn write_input(&self, input: InputStream) -> io::Result<()> {
        let mut reader = StreamReader::new(input.map_err(io::Error::other));
        let mut file = tokio::fs::File::create(self.input()).await?;
        tokio::io::copy(&mut reader, &mut file).await?;
        tokio::io::AsyncWriteExt::flush(&mut file).await
    }

    /// Writes the token.
    pub fn write_token(&self, token: &SecretString) -> io::Result<()> {
        fs::write(self.token(), token.expose_secret())?;
        fs::set_permissions(self.token(), Permissions::from_mode(0o600))
    }

    /// When the supervisor was started.
    pub fn started(&self) -> Option<Timestamp> {
        fs::metadata(self.pid()).ok()?.modified().ok()?.try_into().ok()
    }

    /// What the files say.
    pub fn situation(&self) -> Situation {
        if let Some(exit) = self.read_exit() {
            return exit;
        }
        match fs::read_to_string(self.pid()) {
            // Nothing was started: what may lie here is from a launch that was cut off, and is written anew.
            Err(_) => Situation::Absent,
            Ok(pid) if processes::is_alive(&pid) => Situation::Running { since: self.started() },
            // It may have written how it ended between the two looks.
            Ok(_) => self.read_exit().unwrap_or_else(|| {
                let detail = "the supervisor is gone and has left no word of how the algorithm ended";
                let message = "The algorithm's process was ended from outside.";
                Situation::Failed(Failure::new(RunStatus::Crashed, message, detail).started(true))
            }),
        }
    }

    fn read_exit(&self) -> Option<Situation> {
        let text = fs::read_to_string(self.exit()).ok()?;
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        Some(match (word, rest.trim().parse::<i32>()) {
            ("code", Ok(code)) => Situation::Ended(Exit::with_code(code)),
            ("signal", Ok(signal)) => Situation::Ended(Exit::with_code(128 + signal)),
            _ => Situation::Failed(Failure::new(
                RunStatus::StartFailed,
                "The algorithm's command could not be started. The node's log says why.",
                rest.trim(),
            )),
        })
    }

    /// The output, to be brought to the server.
    pub fn upload(&self) -> Upload {
        match output::open(&self.path, Path::new("output")) {
            Ok((file, length)) => {
                let bytes = ReaderStream::new(tokio::fs::File::from_std(file)).boxed();
                Upload { length, bytes, problem: None }
            }
            Err(error) => Upload {
                length: 0,
                bytes: futures::stream::empty().boxed(),
                problem: Some(format!("The algorithm's output could not be read: {error}.")),
            },
        }
    }

    /// The end of the log.
    pub fn read_log(&self) -> io::Result<Tail> {
        let mut file = fs::File::open(self.log())?;
        let kept = Bounds::LOG.kept() as u64;
        let skipped = file.metadata()?.len().saturating_sub(kept);
        file.seek(io::SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(kept).read_to_end(&mut bytes)?;
        let mut tail = if skipped > 0 { Tail::of_more(Bounds::LOG) } else { Tail::new(Bounds::LOG) };
        tail.push(&bytes);
        Ok(tail)
    }

    /// Removes it with all that is in it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// Makes a folder that only this user may look into.
pub fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Where the proxy for this folder's runs listens: always at the same port, since runs outlive the node and know it by that.
///
/// # Errors
/// If there is no port, or its number can't be kept.
pub fn proxys_place(root: &Path) -> io::Result<TcpListener> {
    let file = root.join("proxy-port");
    let known: Option<u16> = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match known.map(bind) {
        Some(Ok(listener)) => listener,
        _ => bind(0)?,
    };
    fs::write(&file, listener.local_addr()?.port().to_string())?;
    Ok(listener)
}
