//! A run's processes, from the node's side: starts the supervisor, checks whether it is alive, waits for its end, and stops all processes.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, kill_process, pidfd_open};
use sextant_config::LocalAlgorithm;
use sextant_process::process_identity::{self, Process};
use tokio::time::timeout;

use super::folder::{Folder, LOG, write_pid};

/// How long an algorithm may take to end after SIGTERM, as in a pod.
const GRACE: Duration = Duration::from_secs(10);
/// The variables that a process inherits from the node's own environment: enough to find and run programs.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// A variable with the run's folder, which all processes of a run inherit. The node finds them by it even if the supervisor is gone, since
/// the kernel does not record which run an orphan belonged to.
pub(super) const MARK: &str = sextant_core::environment::RUN_FOLDER;

/// Starts the supervisor of a run in its own process group.
pub fn start(folder: &Folder, algorithm: &LocalAlgorithm, environment: &BTreeMap<String, String>) -> io::Result<()> {
    let own = folder.open()?;
    let log = own.create(LOG)?;
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
        .env(MARK, folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut child = command.spawn()?;
    let written = write_pid(&own, child.id());
    if written.is_err() {
        child.kill()?;
    }
    // A thread waits for the child, so that it does not remain as a zombie.
    std::thread::Builder::new().name("supervisor".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    written
}

/// Waits until the supervisor with this identity ([`process_identity::identity`]) is gone.
pub async fn gone(supervisor: &str) {
    while let Some(pid) = alive(supervisor) {
        if exit_of(pid).await.is_err() {
            // Waiting failed, so check again later.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Waits for a process's end on a separate thread: the kernel signals it by a file descriptor that becomes readable.
async fn exit_of(pid: Pid) -> io::Result<()> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (ended, end) = tokio::sync::oneshot::channel();
    let wait = move || {
        let polled = poll(&mut [PollFd::new(&process, PollFlags::IN)], None);
        // The receiver may be gone.
        let _ = ended.send(polled);
    };
    std::thread::Builder::new().name("pidfd".into()).stack_size(64 * 1024).spawn(wait)?;
    end.await.map_err(io::Error::other)?.map(|_| ()).map_err(Into::into)
}

/// Stops a run's processes: sends SIGTERM, and SIGKILL after a while. The supervisor may end before the algorithm, which may ignore
/// SIGTERM, so this waits until all of them are gone.
pub async fn stop(folder: &Folder) {
    for signal in [Signal::TERM, Signal::KILL] {
        let ended = async {
            loop {
                // Searched again each time, because they may have started further processes.
                let found = members(folder);
                if found.is_empty() {
                    return;
                }
                for process in &found {
                    // An error means that the process is gone.
                    let _ = raw(process.pid).map(|pid| kill_process(pid, signal));
                }
                while found.iter().any(Process::is_alive) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        if timeout(GRACE, ended).await.is_ok() {
            return;
        }
    }
}

/// Returns a run's live processes: those with its variable, and the others in their process groups, whose environment may differ.
fn members(folder: &Folder) -> Vec<Process> {
    let mut mark = OsString::from(format!("{MARK}="));
    mark.push(folder.path());
    let all = Process::all();
    let supervisor = pid(folder).map(group);
    let marked = all.iter().filter(|process| process.has_variable(&mark)).map(|process| process.group);
    let mut groups: HashSet<u32> = marked.chain(supervisor).collect();
    // Never this process, whatever environment it was started with.
    groups.remove(&group(getpgrp()));
    all.into_iter().filter(|process| groups.contains(&process.group)).collect()
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

/// The group of a group leader.
fn group(leader: Pid) -> u32 {
    leader.as_raw_nonzero().get().unsigned_abs()
}

fn pid(folder: &Folder) -> Option<Pid> {
    alive(&folder.read_pid().ok()?)
}

/// Returns the process with this identity, if it is alive.
fn alive(name: &str) -> Option<Pid> {
    process_identity::is_alive(name).then(|| Pid::from_raw(name.split_once(' ')?.0.parse().ok()?))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::{Dir, Missing};
    use std::process::Child;
    use std::sync::Arc;
    use vantage6_types::{RunId, TaskId};

    /// Starts a shell in place of `sextant supervise`.
    fn supervisor(folder: &Folder, script: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env(MARK, folder.path()).process_group(0).stdout(Stdio::null());
        let child = shell.spawn().unwrap();
        write_pid(&folder.open().unwrap(), child.id()).unwrap();
        child
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("after 10 s still not so: {what}");
    }

    #[tokio::test]
    async fn an_algorithm_is_found_when_its_supervisor_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let root = Arc::new(Dir::at(&root.path().join("node"), Missing::Create).unwrap().unwrap());
        let folder = Folder::new(&root, TaskId(1), RunId(1));
        let other = Folder::new(&root, TaskId(1), RunId(11));
        folder.make(&sextant_core::assignment::sample::assignment(1, 1, "today")).unwrap();
        other.make(&sextant_core::assignment::sample::assignment(1, 11, "today")).unwrap();
        // One process has a different environment, and one has left the process group.
        let mut supervisor_of_it = supervisor(&folder, "env -i sleep 600 & setsid sleep 600 & sleep 600 & wait");
        let mut supervisor_of_other = supervisor(&other, "sleep 600 & wait");
        until("all have started", || members(&folder).len() == 4 && members(&other).len() == 2).await;
        supervisor_of_it.kill().unwrap();
        supervisor_of_it.wait().unwrap();
        gone(&folder.read_pid().unwrap()).await;
        assert_eq!(members(&folder).len(), 3, "they outlive it");
        stop(&folder).await;
        assert_eq!(members(&folder), []);
        assert_eq!(members(&other).len(), 2, "another run's are left alone");
        stop(&other).await;
        supervisor_of_other.wait().unwrap();
    }
}
