//! The kernel's metrics of this process, with the names that all Prometheus clients use. This is our own code because the metrics library
//! lacks them, and they take only a few lines for Linux, the only system that Sextant supports.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::reading::{counter, gauge};

/// Reads the metrics at each scrape.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        counter(&mut encoder, "process_cpu_seconds", "User and system CPU time spent.", cpu)?;
        let max_files = getrlimit(Resource::Nofile).current.map(|limit| limit as f64);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory.", resident_bytes()),
            ("process_open_fds", "Open file descriptors.", open_files()),
            ("process_max_fds", "File descriptors that may be open.", max_files),
            ("process_start_time_seconds", "Start of the process, in seconds since 1970.", start_time()),
        ] {
            gauge(&mut encoder, name, help, value.map(|value| ([], value)).into_iter().collect())?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

fn open_files() -> Option<f64> {
    // Listing them opens one more.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)) as f64)
}

fn start_time() -> Option<f64> {
    // The 20th field after the command's name, which may contain any character: ticks since the machine's start.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let of_machine = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = of_machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}
