//! The end of a stream of text in bounded memory: an algorithm's log can be of any size, and its end is
//! what a researcher needs.

use std::collections::VecDeque;

/// Keeps the last bytes that were pushed.
#[derive(Debug)]
pub struct Tail {
    kept: VecDeque<u8>,
    limit: usize,
    dropped: u64,
}

impl Tail {
    /// A tail of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit, dropped: 0 }
    }

    /// The end of something whose first `skipped` bytes were never read.
    pub fn after(skipped: u64, bytes: &[u8]) -> Self {
        Self { kept: bytes.iter().copied().collect(), limit: bytes.len(), dropped: skipped }
    }

    /// Adds bytes; the oldest go when there are too many.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().saturating_sub(self.limit);
        let bytes = &bytes[skipped..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.kept.extend(bytes);
        self.dropped += (skipped + excess) as u64;
    }

    /// The kept text, beginning at a whole line when something was dropped, and saying so. What is not
    /// UTF-8 becomes U+FFFD; NUL, which databases behind a server refuse in text, too.
    pub fn into_text(self) -> String {
        let bytes = Vec::from(self.kept);
        if self.dropped == 0 {
            return readable(&bytes);
        }
        let start = bytes.iter().position(|&b| b == b'\n').map_or(0, |n| n + 1);
        format!(
            "[sextant] The log was longer: its first {} bytes are left out.\n{}",
            self.dropped + start as u64,
            readable(&bytes[start..])
        )
    }
}

fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_text_is_kept_whole() {
        let mut tail = Tail::new(100);
        tail.push(b"one\n");
        tail.push(b"two\n");
        assert_eq!(tail.into_text(), "one\ntwo\n");
    }

    #[test]
    fn long_text_keeps_its_last_whole_lines_and_says_so() {
        let mut tail = Tail::new(10);
        tail.push(b"first line\nsecond\nlast\n");
        assert_eq!(tail.into_text(), "[sextant] The log was longer: its first 18 bytes are left out.\nlast\n");
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let mut tail = Tail::new(10);
        tail.push(b"a\0\xffb");
        assert_eq!(tail.into_text(), "a\u{fffd}\u{fffd}b");
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), limit in 1usize..64) {
            let mut tail = Tail::new(limit);
            for piece in &pieces {
                tail.push(piece);
                prop_assert!(tail.kept.len() <= limit);
            }
            let all: Vec<u8> = pieces.concat();
            let end = &all[all.len() - tail.kept.len()..];
            prop_assert_eq!(Vec::from(tail.kept), end);
            prop_assert_eq!(tail.dropped, (all.len().saturating_sub(limit)) as u64);
        }
    }
}
