//! A run's processes, seen from the node: start their supervisor, see whether it lives, wait for its end, stop them all.

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

/// How long an algorithm has to end when it is stopped, as in a pod.
const GRACE: Duration = Duration::from_secs(10);
/// What a process gets from the node's own environment: enough to find and run programs.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// A variable that all processes of a run inherit, with the run's folder as its value. So they are found also when the supervisor
/// is gone: of orphans, the kernel tells nobody whose they were.
pub(super) const MARK: &str = sextant_core::environment::RUN_FOLDER;

/// Starts the supervisor of a run, in a process group of its own.
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
    // The child is waited for when it ends, so that it does not stay as a zombie.
    std::thread::Builder::new().name("supervisor".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    written
}

/// Waits until a supervisor is gone, which has this name ([`process_identity::identity`]).
pub async fn gone(supervisor: &str) {
    while let Some(pid) = alive(supervisor) {
        if exit_of(pid).await.is_err() {
            // Nothing is known of it: check again later.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Waits for a process's end on a thread of its own: the kernel signals it by a file descriptor that becomes readable.
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
/// which may have reasons not to hear: what counts is that all are gone.
pub async fn stop(folder: &Folder) {
    for signal in [Signal::TERM, Signal::KILL] {
        let ended = async {
            loop {
                // Looked for again, since they may have started others meanwhile.
                let found = members(folder);
                if found.is_empty() {
                    return;
                }
                for process in &found {
                    // An error means that it is gone.
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

/// A run's living processes: those that have its mark, and those of their process groups, which may have got another environment.
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

/// The group that a process leads.
fn group(leader: Pid) -> u32 {
    leader.as_raw_nonzero().get().unsigned_abs()
}

fn pid(folder: &Folder) -> Option<Pid> {
    alive(&folder.read_pid().ok()?)
}

/// The process of this name, if it lives.
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

    /// A shell in the place of `sextant supervise`.
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
        // One with an environment of its own, and one that has left the group.
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
