//! Identifies processes. A process id and a start time together identify a process uniquely, even if the id is reused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Returns a process's identity, for [`is_alive`]. The start time is empty if there is no such process.
pub fn identity(pid: u32) -> String {
    format!("{pid} {}", started(pid).unwrap_or_default())
}

/// Whether the process with this identity is still alive.
pub fn is_alive(name: &str) -> bool {
    name.split_once(' ').and_then(|(pid, time)| Some(started(pid.parse().ok()?)? == time)).unwrap_or(false)
}

/// Identifies the set of processes that this one can see: the boot of this machine and the PID namespace. `None` if the kernel does not
/// provide them.
pub fn pid_scope() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), processes.display()))
}

/// A process, as the kernel identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its process group.
    pub group: u32,
    /// The start time in the kernel's ticks; together with the pid it identifies the process uniquely.
    started: String,
}

impl Process {
    /// Reads a process; `None` if there is none with this id, or it is a zombie.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain any character; the fields after it are plain (proc(5): 3 is the state, 5 the group,
        // 22 the start).
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid, group: fields.get(2)?.parse().ok()?, started: fields.get(19)?.to_string() })
    }

    /// Returns all live processes that are visible from here.
    pub fn all() -> Vec<Self> {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| Self::read(name.to_str()?.parse().ok()?)).collect()
    }

    /// Whether it was started with this variable, given as `NAME=value`. The environments of other users' processes can't be read.
    pub fn has_variable(&self, variable: &OsStr) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|each| each == variable.as_bytes())
    }

    /// Whether it is still alive.
    pub fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }
}

fn started(pid: u32) -> Option<String> {
    Some(Process::read(pid)?.started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let name = identity(child.id());
        assert!(is_alive(&name), "{name}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&name), "{name}");
        assert!(!is_alive(&format!("{} 1", std::process::id())), "another process had this id");
        assert!(pid_scope().is_some());
    }

    #[test]
    fn a_process_is_found_by_a_variable_of_its() {
        let mark = format!("SEXTANT_TEST=processes {}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let find =
            || Process::all().into_iter().filter(|each| each.has_variable(OsStr::new(&mark))).collect::<Vec<_>>();
        assert_eq!(find(), []);
        let mut command = std::process::Command::new("sleep");
        let mut child = command.arg("60").env(name, value).process_group(0).spawn().unwrap();
        let found = find();
        assert_eq!(found.iter().map(|each| (each.pid, each.group)).collect::<Vec<_>>(), [(child.id(), child.id())]);
        assert!(found[0].is_alive());
        assert!(!found[0].has_variable(OsStr::new("SEXTANT_TEST=processes")), "only the whole variable counts");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found[0].is_alive());
    }
}
