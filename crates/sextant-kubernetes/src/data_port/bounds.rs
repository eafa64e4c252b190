//! How many may be connected to the data port, and for how long.
//!
//! Until it has shown a run's key, a connection is unauthenticated, and stays for seconds. With a key it counts for its run: so an
//! algorithm that floods the port takes no place that another run needs, also where several pods share an address.

use std::time::Duration;

use sextant_process::connection_limits::ConnectionLimits;

/// The bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections there may be. Their owners are runs.
    pub connections: ConnectionLimits,
    /// How long a handshake may take, and then a request's head.
    pub patience: Duration,
    /// How long an upload may stand still.
    pub stalled: Duration,
}

impl Limits {
    /// The bounds for a process that may have this many files open. Half of these are for everything else: the server, the
    /// cluster, the proxy.
    pub fn within(open_files: u64) -> Self {
        let all = usize::try_from(open_files.saturating_sub(128) / 2).unwrap_or(usize::MAX).clamp(32, 16 * 1024);
        // Each may make the node hold some 100 KB.
        let unauthenticated = 512.min(all / 4);
        Self {
            connections: ConnectionLimits {
                unauthenticated,
                unauthenticated_per_source: 32.min(unauthenticated / 4),
                rate_per_source: 50,
                authenticated: all - unauthenticated,
                // `receive` has one at a time, and `return`, and what of theirs has broken lasts a little.
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
