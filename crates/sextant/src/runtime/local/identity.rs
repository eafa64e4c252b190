//! Which process a run's supervisor is: a process id and a start time name a process for good, however often the id is used
//! again.

use std::fs;
use std::io;
use std::path::Path;

/// Writes down which process the supervisor is. Both sides do: the node must know at once, and may be killed before it does.
pub fn write(folder: &Path, pid: u32) -> io::Result<()> {
    let identity = format!("{pid} {}", started(pid).unwrap_or_default());
    let new = folder.join(format!("pid.{}", std::process::id()));
    fs::write(&new, identity)?;
    fs::rename(new, folder.join("pid"))
}

/// Whether the process that a `pid` file names still is that process.
pub fn is_alive(identity: &str) -> bool {
    identity.split_once(' ').and_then(|(pid, time)| Some(started(pid.parse().ok()?)? == time)).unwrap_or(false)
}

/// When a process was started, in the kernel's ticks: together with the pid it names a process for good.
/// `None` when there is none, or it is a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields behind it are plain (proc(5): 3 is the state, 22 the start).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (!matches!(*fields.first()?, "Z" | "X")).then_some(fields.get(19)?.to_string())
}
