//! How busy the machine is that this process runs on. In a container these are its machine's figures too, not the container's.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Reads the machine's figures.
pub struct Machine(System);

/// The figures at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// The part of the processors' time that was used since the last reading, in percent.
    pub cpu_percent: f64,
    /// How many processors there are.
    pub cpu_count: usize,
    /// The memory, in bytes.
    pub memory_total: u64,
    /// What of it can be had, in bytes.
    pub memory_available: u64,
}

impl Usage {
    /// The part of the memory that can't be had, in percent.
    pub fn memory_percent(&self) -> f64 {
        let used = self.memory_total.saturating_sub(self.memory_available);
        if self.memory_total == 0 { 0.0 } else { used as f64 * 100.0 / self.memory_total as f64 }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self(System::new_with_specifics(refreshed()))
    }
}

impl Machine {
    /// Reads the figures. Within a moment of the last reading, nothing is known of the processors.
    pub fn read(&mut self) -> Usage {
        let Self(system) = self;
        system.refresh_specifics(refreshed());
        Usage {
            cpu_percent: f64::from(system.global_cpu_usage()),
            cpu_count: system.cpus().len(),
            memory_total: system.total_memory(),
            memory_available: system.available_memory(),
        }
    }
}

fn refreshed() -> RefreshKind {
    RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_a_machines() {
        let mut machine = Machine::default();
        std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let usage = machine.read();
        assert!((0.0..=100.0).contains(&usage.cpu_percent) && usage.cpu_count > 0, "{usage:?}");
        assert!(usage.memory_total > usage.memory_available && usage.memory_available > 1024 * 1024, "{usage:?}");
        assert!(usage.memory_percent() > 0.0 && usage.memory_percent() < 100.0, "{usage:?}");
    }
}
