//! Which process one is: a process id and a start time name a process for good, however often the id is used again.

use std::fs;
use std::io;
use std::path::Path;

/// A process of this machine, in words that [`is_alive`] understands. Empty start when there is no such process.
pub fn name(pid: u32) -> String {
    format!("{pid} {}", started(pid).unwrap_or_default())
}

/// Writes down which process a run's supervisor is. Both sides do: the node must know at once, and may be killed before it does.
pub fn write(folder: &Path, pid: u32) -> io::Result<()> {
    let new = folder.join(format!("pid.{}", std::process::id()));
    fs::write(&new, name(pid))?;
    fs::rename(new, folder.join("pid"))
}

/// Whether the process of this name still is that process.
pub fn is_alive(name: &str) -> bool {
    name.split_once(' ').and_then(|(pid, time)| Some(started(pid.parse().ok()?)? == time)).unwrap_or(false)
}

/// What tells the processes that this one can see from all others: this start of this machine, and the namespace of its
/// processes. `None` where the kernel does not say.
pub fn realm() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), processes.display()))
}

/// When a process was started, in the kernel's ticks: together with the pid it names a process for good.
/// `None` when there is none, or it is a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields behind it are plain (proc(5): 3 is the state, 22 the start).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (!matches!(*fields.first()?, "Z" | "X")).then_some(fields.get(19)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let name = name(child.id());
        assert!(is_alive(&name), "{name}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&name), "{name}");
        assert!(!is_alive(&format!("{} 1", std::process::id())), "another process had this id");
        assert!(realm().is_some());
    }
}
