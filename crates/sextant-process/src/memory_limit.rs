//! Finds this process's memory limit. Buffers must stay below it, or the kernel kills the process.

use std::fs;
use std::path::{Path, PathBuf};

/// A value from here on means no limit: cgroup v1 then reports the largest number of whole pages.
const NONE: u64 = 1 << 60;

/// Returns the memory limit of this process's cgroups, if they have one.
pub fn of_this_process() -> Option<u64> {
    limit(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new("/sys/fs/cgroup"))
}

/// Returns the lowest limit of these cgroups (`/proc/self/cgroup`) and their ancestors.
fn limit(groups: &str, root: &Path) -> Option<u64> {
    groups.lines().filter_map(|line| group(line, root)).filter_map(|(folder, file)| least(&folder, file, root)).min()
}

/// Returns a cgroup's folder and the name of the file with its limit; `None` for a hierarchy without the memory controller.
fn group(line: &str, root: &Path) -> Option<(PathBuf, &'static str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    match controllers {
        "" => Some((root.join(path), "memory.max")),
        _ if controllers.split(',').any(|each| each == "memory") => {
            Some((root.join("memory").join(path), "memory.limit_in_bytes"))
        }
        _ => None,
    }
}

/// Returns the lowest limit from this folder up. In a container the path may be the host's and not exist; the container's own cgroup is
/// then at the root.
fn least(folder: &Path, file: &str, root: &Path) -> Option<u64> {
    let above = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let read = |folder: &Path| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    above.filter_map(read).filter(|limit| *limit < NONE).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(limits: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("sextant-groups-{}-{}", std::process::id(), limits.len()));
        for (file, text) in limits {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn the_least_limit_counts() {
        let root = groups(&[
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "300\n"),
            ("memory/c/memory.limit_in_bytes", "200\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        for (groups, expected) in [
            ("0::/a/b\n", Some(300)),
            ("0::/not/there\n", None),
            ("1:cpu:/c\n4:cpu,memory:/c\n", Some(200)),
            ("4:memory:/c\n0::/a\n", Some(200)),
            ("4:memory:/\n", None),
            ("nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(limit(groups, &root), expected, "{groups}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    /// In a container the root of the hierarchy is the container's own cgroup.
    #[test]
    fn a_path_of_the_machine_leads_to_the_containers_own_limit() {
        let root = groups(&[("memory.max", "134217728\n")]);
        assert_eq!(limit("0::/kubepods/pod1/container\n", &root), Some(128 << 20));
        fs::remove_dir_all(root).unwrap();
    }
}
