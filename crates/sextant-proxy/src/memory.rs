//! Divides the process's memory, so that algorithms can't use more than there is. A connection holds a bounded amount, whatever is sent on
//! it and left unread. Whatever may hold more reserves it from a [`Budget`](super::budget::Budget).

/// The memory to assume without a limit: that of the measured proxy.
const USUAL: u64 = 128 << 20;
/// More memory than this is of no use.
const MOST: u64 = 1 << 30;
/// The most memory of a connection and its request: one request head and the next, data read from the server, data being rewritten, and
/// data that the algorithm has not read.
const CONNECTION: u64 = 320 * 1024;
/// A proxy with fewer connections would be useless.
const FEWEST: u64 = 16;

/// The parts of the memory, in bytes except for `connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// How many connections fit into half of it.
    pub connections: u64,
    /// For tasks that are being received.
    pub tasks: u64,
    /// For results that are held while they are decrypted.
    pub results: u64,
}

impl Memory {
    /// Divides this much memory. About a third remains for the process itself and for fragmentation.
    pub fn of(limit: Option<u64>) -> Self {
        let all = limit.unwrap_or(USUAL).min(MOST);
        Self {
            connections: (all / 2 / CONNECTION).max(FEWEST),
            tasks: (all / 8).clamp(4 << 20, 32 << 20),
            results: all / 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_less_than_the_whole() {
        for mebibytes in [64, 128, 256, 1024, 1 << 20] {
            let Memory { connections, tasks, results } = Memory::of(Some(mebibytes << 20));
            assert!(connections * CONNECTION + tasks + results <= (mebibytes << 20) / 10 * 7, "{mebibytes}");
        }
        assert_eq!(Memory::of(None), Memory { connections: 204, tasks: 16 << 20, results: 8 << 20 });
        assert_eq!(Memory::of(Some(1)).connections, FEWEST);
    }
}
