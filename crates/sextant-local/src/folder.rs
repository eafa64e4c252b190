//! A run's folder: its files, and the run's state according to them.
//!
//! ```text
//!   task-3-run-7/  assigned                      when the server assigned the run, and the run's identity
//!                  input  output  token  log     the algorithm's
//!                  run_context.json              the algorithm's, with `run_context_file`
//!                  pid                           the supervisor's process id and start time
//!                  exit                          how the algorithm ended
//!                  stopped                       why this node stopped the run, until the server has the report
//! ```

use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sextant_core::assignment::Assignment;
use sextant_core::run_identity::RunIdentity;
use sextant_core::run_state::{Exit, Failure, RunState};
use sextant_core::runtime::{InputStream, Upload};
use sextant_core::stop_note::StopNote;
use sextant_core::tail::{Bounds, Tail};
use sextant_files::{run_context, safe_open};
use sextant_process::process_identity;
use tokio_util::io::{ReaderStream, StreamReader};
use vantage6_types::{RunId, RunStatus, TaskId};

use super::private::Dir;

/// When the server assigned the run; in the next line, the run's identity.
pub const ASSIGNED: &str = "assigned";
/// The algorithm's input.
pub const INPUT: &str = "input";
/// The algorithm's output.
pub const OUTPUT: &str = "output";
/// The algorithm's token.
pub const TOKEN: &str = "token";
/// The algorithm's standard output and standard error.
pub const LOG: &str = "log";
/// The identity of the supervisor's process.
pub const PID: &str = "pid";
/// How the algorithm ended.
pub const EXIT: &str = "exit";
/// Why this node stopped the run.
const STOPPED: &str = "stopped";

/// A run's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The run's task.
    pub task: TaskId,
    pub run: RunId,
    root: Arc<Dir>,
    name: String,
}

impl Folder {
    /// Names the folder of a run, whether it exists or not.
    pub fn new(root: &Arc<Dir>, task: TaskId, run: RunId) -> Self {
        Self { task, run, root: root.clone(), name: format!("task-{task}-run-{run}") }
    }

    /// Returns all existing folders of runs.
    pub fn all(root: &Arc<Dir>) -> Vec<Self> {
        let names = root.names().unwrap_or_default().into_iter();
        let read = |name: String| {
            let (task, run) = name.strip_prefix("task-")?.split_once("-run-")?;
            // Accept only names that this node would write: another spelling of an id is another name.
            Some(Self::new(root, task.parse().ok()?, run.parse().ok()?)).filter(|folder| folder.name == name)
        };
        names.filter_map(read).collect()
    }

    /// Returns a run's folder, if it exists.
    pub fn of(root: &Arc<Dir>, run: RunId) -> Option<Self> {
        Self::all(root).into_iter().find(|folder| folder.run == run)
    }

    /// Whether the folder belongs to this run, and not to an earlier one with the same id: a server may reuse the ids of deleted runs.
    pub fn is_of(&self, assignment: &Assignment) -> bool {
        let same = || match self.open().and_then(|folder| folder.read(ASSIGNED)) {
            Ok(text) => match text.split_once('\n') {
                Some((_, identity)) => {
                    identity.parse::<RunIdentity>().is_ok_and(|identity| identity == assignment.identity)
                }
                // 0.1.0 recorded only the time.
                None => text == assignment.assigned_at,
            },
            // Earlier versions recorded nothing.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        self.run == assignment.run && self.task == assignment.task && same()
    }

    /// The folder's path.
    pub fn path(&self) -> PathBuf {
        self.root.path().join(&self.name)
    }

    /// The path of one of its files, for algorithms.
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.path().join(file)
    }

    /// Opens it.
    pub fn open(&self) -> io::Result<Dir> {
        self.root.subfolder(&self.name)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.root.has(&self.name)
    }

    /// Creates the folder for a run, with an empty output. Anything with its name is put aside.
    pub fn make(&self, assignment: &Assignment) -> io::Result<()> {
        let Assignment { assigned_at, identity, .. } = assignment;
        let folder = self.root.make_subfolder(&self.name)?;
        folder.create(ASSIGNED)?.write_all(format!("{assigned_at}\n{identity}").as_bytes())?;
        folder.create(OUTPUT).map(|_| ())
    }

    /// Writes the input as it arrives.
    pub async fn write_input(&self, input: InputStream) -> io::Result<()> {
        let mut reader = StreamReader::new(input.map_err(io::Error::other));
        let mut file = tokio::fs::File::from_std(self.open()?.create(INPUT)?);
        tokio::io::copy(&mut reader, &mut file).await?;
        tokio::io::AsyncWriteExt::flush(&mut file).await
    }

    /// Writes `run_context.json` from the input and from what the node says, if the node wants that file.
    pub async fn describe(&self, rest: Option<String>) -> io::Result<()> {
        let Some(rest) = rest else { return Ok(()) };
        let folder = self.open()?;
        let write = move || run_context::write(folder.open(INPUT)?, &rest, folder.create(run_context::RUN_CONTEXT)?);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    /// Writes the token.
    pub fn write_token(&self, token: &SecretString) -> io::Result<()> {
        self.open()?.create(TOKEN)?.write_all(token.expose_secret().as_bytes())
    }

    /// When the supervisor was started.
    pub fn started(&self) -> Option<Timestamp> {
        self.open().ok()?.open(PID).ok()?.metadata().ok()?.modified().ok()?.try_into().ok()
    }

    /// Returns the run's state according to the files.
    pub fn run_state(&self) -> RunState {
        // Checked before `exit`, because stopping the run caused the algorithm's end.
        if let Some(failure) = self.read_stopped() {
            return RunState::Failed(failure);
        }
        if let Some(exit) = self.read_exit() {
            return exit;
        }
        match self.read_pid() {
            // Nothing was started. Any files are from an interrupted launch and will be rewritten.
            Err(_) => RunState::Absent,
            Ok(pid) if process_identity::is_alive(&pid) => RunState::Running { since: self.started() },
            // The supervisor may have written `exit` between the two checks.
            Ok(_) => self.read_exit().unwrap_or_else(|| {
                let detail = "the supervisor has ended without recording how the algorithm ended";
                let message = "The algorithm's process was ended from outside.";
                RunState::Failed(Failure::new(RunStatus::Crashed, message, detail).started(true))
            }),
        }
    }

    /// Records why the run is being stopped, for the next process of this node.
    pub fn write_stopped(&self, why: &Failure) -> io::Result<()> {
        self.open()?.replace(STOPPED, &serde_json::to_string(&StopNote::new(why))?)
    }

    fn read_stopped(&self) -> Option<Failure> {
        let note = self.open().ok()?.read(STOPPED).ok()?;
        Some(serde_json::from_str::<StopNote>(&note).ok()?.failure())
    }

    fn read_exit(&self) -> Option<RunState> {
        let text = self.open().ok()?.read(EXIT).ok()?;
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        Some(match (word, rest.trim().parse::<i32>()) {
            ("code", Ok(code)) => RunState::Ended(Exit::with_code(code)),
            ("signal", Ok(signal)) => RunState::Ended(Exit::with_code(128i32.saturating_add(signal))),
            _ => RunState::Failed(Failure::new(
                RunStatus::StartFailed,
                "The algorithm's command could not be started. The node's log says why.",
                rest.trim(),
            )),
        })
    }

    /// Opens the output for the upload to the server.
    pub fn upload(&self) -> Upload {
        match self.open().and_then(|folder| safe_open::open_in(folder.as_fd(), Path::new(OUTPUT))) {
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

    /// Reads the end of the log.
    pub fn read_log(&self) -> io::Result<Tail> {
        let mut file = self.open()?.open(LOG)?;
        let kept = Bounds::LOG.kept() as u64;
        let skipped = file.metadata()?.len().saturating_sub(kept);
        file.seek(io::SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(kept).read_to_end(&mut bytes)?;
        let mut tail = if skipped > 0 { Tail::of_more(Bounds::LOG) } else { Tail::new(Bounds::LOG) };
        tail.push(&bytes);
        Ok(tail)
    }

    /// Reads the identity of the supervisor's process ([`process_identity::identity`]).
    pub fn read_pid(&self) -> io::Result<String> {
        self.open()?.read(PID)
    }

    /// Puts the folder aside with its content, for later removal.
    pub fn put_aside(&self) -> io::Result<()> {
        self.root.put_aside(&self.name)
    }
}

/// Records the supervisor's process in a run's folder. Both the node and the supervisor do this: the node must know it immediately, but may
/// be killed before it writes.
pub fn write_pid(folder: &Dir, pid: u32) -> io::Result<()> {
    folder.replace(PID, &process_identity::identity(pid))
}
