//! How the memory that the process may have is divided, so that algorithms can't take more of it than there is: a connection holds so
//! much at worst, whatever is sent on it and left unread; what may hold more takes of a [`Budget`](super::budget::Budget).

/// Where there is no limit: what the proxy had as its limit when it was measured.
const USUAL: u64 = 128 << 20;
/// More than this does not help.
const MOST: u64 = 1 << 30;
/// What a connection and its request hold at worst: a head and the next one, what is read of the server, what is changed on its way, and
/// what the algorithm does not read.
const CONNECTION: u64 = 320 * 1024;
/// With fewer connections there is no point in a proxy.
const FEWEST: u64 = 16;

/// The parts of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// How many connections half of it is enough for.
    pub connections: u64,
    /// For tasks on their way.
    pub tasks: u64,
    /// For results that are decrypted as a whole.
    pub results: u64,
}

impl Memory {
    /// The parts of so much memory. A third is left for the process itself, and for what lies between what is in use.
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
