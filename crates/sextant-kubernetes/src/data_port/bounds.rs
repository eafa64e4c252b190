//! Limits how many connections the data port accepts, and for how long.
//!
//! Until a connection presents a run's key, it is unauthenticated and is closed after seconds. With a key, it counts for its run. So an
//! algorithm that floods the port takes no connection from another run, even if several pods share an address.

use std::time::Duration;

use sextant_process::connection_limits::ConnectionLimits;

/// The limits of the data port.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections there may be. Each belongs to a run.
    pub connections: ConnectionLimits,
    /// How long a handshake may take, and after it the head of a request.
    pub patience: Duration,
    /// How long an upload may make no progress.
    pub stalled: Duration,
}

impl Limits {
    /// The limits for a process that may open this many files. Half of them are left for everything else: the server, the cluster, the
    /// proxy.
    pub fn within(open_files: u64) -> Self {
        let all = usize::try_from(open_files.saturating_sub(128) / 2).unwrap_or(usize::MAX).clamp(32, 16 * 1024);
        // Each connection may make the node use about 100 KB.
        let unauthenticated = 512.min(all / 4);
        Self {
            connections: ConnectionLimits {
                unauthenticated,
                unauthenticated_per_source: 32.min(unauthenticated / 4),
                rate_per_source: 50,
                authenticated: all - unauthenticated,
                // `receive` and `return` each use one connection at a time, and a broken one still counts for a short time.
                authenticated_per_owner: 8,
            },
            patience: Duration::from_secs(10),
            stalled: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_lie_below_the_limit_of_open_files() {
        for open_files in [256, 1024, 4096, 65_536, 1 << 20] {
            let limits = Limits::within(open_files).connections;
            let all = limits.unauthenticated + limits.authenticated;
            assert!((all as u64) < open_files, "{open_files}: {limits:?}");
            assert!(limits.unauthenticated_per_source > 0, "{open_files}: {limits:?}");
        }
    }
}
