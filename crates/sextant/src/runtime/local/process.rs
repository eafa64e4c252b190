//! A run's supervisor process, seen from the node: start it, see whether it lives, wait for its end, stop it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group};
use tokio::time::timeout;

use super::folder::Folder;
use crate::config::LocalAlgorithm;
use crate::processes;

/// How long an algorithm has to end when it is stopped, as in a pod.
const GRACE: Duration = Duration::from_secs(10);
/// What a process gets from the node's own environment: enough to find and run programs.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// Starts the supervisor of a run, in a process group of its own.
pub fn start(folder: &Folder, algorithm: &LocalAlgorithm, environment: &BTreeMap<String, String>) -> io::Result<()> {
    let log = fs::File::create(folder.log())?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("supervise")
        .arg(folder.path())
        .arg("--")
        .args(&algorithm.command)
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(environment)
        .envs(algorithm.package.iter().map(|package| ("PKG_NAME", package)))
        .envs(&algorithm.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut child = command.spawn()?;
    let written = processes::write(folder.path(), child.id());
    if written.is_err() {
        child.kill()?;
    }
    // The child is waited for when it ends, so that it does not stay as a zombie.
    std::thread::Builder::new().name("supervisor".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    written
}

/// Waits until the supervisor is gone.
pub async fn gone(folder: &Folder) {
    while let Some(pid) = pid(folder) {
        if exit_of(pid).await.is_err() {
            // No word of it is to be had: look again in a while.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Waits for a process's end on a thread of its own: the kernel tells by a file descriptor that becomes readable.
async fn exit_of(pid: Pid) -> io::Result<()> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (ended, end) = tokio::sync::oneshot::channel();
    let wait = move || {
        let polled = poll(&mut [PollFd::new(&process, PollFlags::IN)], None);
        // Nobody may be waiting any more.
        let _ = ended.send(polled);
    };
    std::thread::Builder::new().name("pidfd".into()).stack_size(64 * 1024).spawn(wait)?;
    end.await.map_err(io::Error::other)?.map(|_| ()).map_err(Into::into)
}

/// Ends a run's processes: asks first, and ends them after a while. The supervisor may be gone before the algorithm,
/// which may have reasons not to hear: what counts is that the whole group is gone.
pub async fn stop(folder: &Folder) {
    let Some(group) = pid(folder) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        // An error means that the group is gone.
        let _ = kill_process_group(group, signal);
        let empty = async {
            while test_kill_process_group(group).is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(GRACE, empty).await.is_ok() {
            return;
        }
    }
}

fn pid(folder: &Folder) -> Option<Pid> {
    let process = fs::read_to_string(folder.pid()).ok()?;
    processes::is_alive(&process).then(|| Pid::from_raw(process.split_once(' ')?.0.parse().ok()?))?
}
