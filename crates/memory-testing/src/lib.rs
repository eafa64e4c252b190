//! For tests of how much memory a process takes: the kernel's figures for this process, and the reading of HTTP messages of any size
//! without keeping them. Everything here panics on failure, because only tests use it. Linux only.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that fails, panics")]

pub mod http;

/// The peak memory of this process since its start or [`reset_peak`], in KiB.
pub fn peak_kib() -> usize {
    status("VmHWM:")
}

/// The same in MiB.
pub fn peak() -> usize {
    peak_kib() / 1024
}

/// The memory of this process now, in MiB.
pub fn now() -> usize {
    status("VmRSS:") / 1024
}

/// Makes the present memory the peak.
pub fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
