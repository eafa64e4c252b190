//! The position up to which an algorithm's log has been read. The API server ends each connection eventually, and a new one starts at a
//! whole second. Lines that were read before are recognized by their times and skipped.

use jiff::Timestamp;

/// The largest length of a time that the kubelet writes.
const LONGEST_TIME: usize = 64;

/// Parses a log whose lines begin with their times, over any number of connections.
#[derive(Debug, Default)]
pub struct LogCursor {
    /// The time of the last complete line, and how many lines with that time there were.
    done: Option<(Timestamp, u64)>,
    /// The line that is being read: its time, and how many of its bytes have been read.
    open: Option<(Timestamp, usize)>,
    /// Whether the next lines may have been read over an earlier connection.
    resumed: bool,
    /// How many lines with the last time this connection has brought.
    seen: u64,
    /// The time of the current line, as far as it has been read.
    time: Vec<u8>,
    line: Line,
}

/// The position within a line.
#[derive(Debug, Default, Clone, Copy)]
enum Line {
    #[default]
    Time,
    Text {
        at: Timestamp,
        passed: usize,
        skipped: usize,
    },
    Skipped,
}

impl LogCursor {
    /// Must be called when a new connection begins.
    pub fn resume(&mut self) {
        self.resumed = true;
        self.seen = 0;
        self.time.clear();
        self.line = Line::Time;
    }

    /// The time from which to request the log; `None`: from its beginning.
    pub fn since(&self) -> Option<Timestamp> {
        self.done.map(|(at, _)| at)
    }

    /// Parses received bytes, and appends the new output to `text`. Returns the time of the last line in it.
    pub fn feed(&mut self, mut bytes: &[u8], text: &mut Vec<u8>) -> Option<Timestamp> {
        let mut last = None;
        while !bytes.is_empty() {
            match self.line {
                Line::Time => {
                    let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
                    let taken = end.unwrap_or(bytes.len());
                    self.time.extend_from_slice(&bytes[..taken.min(LONGEST_TIME)]);
                    let is_line_end = end.is_some_and(|end| bytes[end] == b'\n');
                    bytes = &bytes[end.map_or(taken, |end| end + 1)..];
                    if is_line_end {
                        self.time.clear();
                    } else if end.is_some() || self.time.len() > LONGEST_TIME {
                        self.line = self.begin();
                        self.time.clear();
                    }
                }
                Line::Skipped => match bytes.iter().position(|&byte| byte == b'\n') {
                    Some(end) => {
                        self.line = Line::Time;
                        bytes = &bytes[end + 1..];
                    }
                    None => return last,
                },
                Line::Text { at, passed, skipped } => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    text.extend_from_slice(&part[skipped.saturating_sub(passed).min(part.len())..]);
                    bytes = rest;
                    let passed = passed + part.len();
                    last = Some(at);
                    if end.is_some() {
                        self.complete(at);
                    } else {
                        self.open = Some((at, passed.max(skipped)));
                        self.line = Line::Text { at, passed, skipped };
                    }
                }
            }
        }
        last
    }

    /// Begins a line whose time has been read.
    fn begin(&mut self) -> Line {
        let time = std::str::from_utf8(&self.time).ok();
        // A message of the kubelet itself has no time.
        let Some(at) = time.and_then(|time| time.parse::<Timestamp>().ok()) else { return Line::Skipped };
        if let Some((last, lines)) = self.done {
            if at == last {
                self.seen += 1;
                if self.seen <= lines && self.resumed {
                    return Line::Skipped;
                }
            } else if at > last {
                self.seen = 1;
            } else if self.resumed {
                return Line::Skipped;
            }
        } else {
            self.seen = 1;
        }
        self.resumed = false;
        self.open = self.open.filter(|(open, _)| *open == at);
        let skipped = self.open.map_or(0, |(_, bytes)| bytes);
        Line::Text { at, passed: 0, skipped }
    }

    fn complete(&mut self, at: Timestamp) {
        self.line = Line::Time;
        self.open = None;
        self.done = Some(match self.done {
            Some((last, lines)) if last == at => (last, lines + 1),
            Some((last, lines)) if last > at => (last, lines),
            _ => (at, 1),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(cursor: &mut LogCursor, bytes: &[u8]) -> String {
        let mut text = Vec::new();
        cursor.feed(bytes, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// The log as the kubelet sends it from a given second on.
    fn from(log: &[(i64, String)], since: Option<Timestamp>) -> Vec<u8> {
        let second = since.map_or(0, Timestamp::as_second);
        let lines = log.iter().filter(|(millis, _)| millis / 1000 >= second);
        lines
            .flat_map(|(millis, text)| format!("{} {text}", Timestamp::from_millisecond(*millis).unwrap()).into_bytes())
            .collect()
    }

    #[test]
    fn times_are_left_out_and_what_has_none() {
        let mut cursor = LogCursor::default();
        cursor.resume();
        let log = b"2026-01-02T03:04:05.1Z one\nunable to retrieve container logs for x\n2026-01-02T03:04:05.123456789Z two \n\
            2026-01-02T03:04:05.1Z earlier\n2026-01-02T03:04:06Z thr";
        assert_eq!(fed(&mut cursor, log), "one\ntwo \nearlier\nthr");
        assert_eq!(cursor.since(), Some("2026-01-02T03:04:05.123456789Z".parse().unwrap()));
        cursor.resume();
        assert_eq!(fed(&mut cursor, b"2026-01-02T03:04:06Z three\n2026-01-02T03:04:06Z four\n"), "ee\nfour\n");
    }

    proptest! {
        #[test]
        fn nothing_comes_twice_or_is_lost_however_the_connections_end(
            lines in prop::collection::vec((0i64..700, "[a-z ]{0,9}\n"), 0..20),
            ends in prop::collection::vec((any::<prop::sample::Index>(), 1usize..20), 0..6),
        ) {
            let mut at = 0;
            let log: Vec<(i64, String)> = lines.into_iter().map(|(after, text)| {
                at += after / 200 * 200;
                (at, text)
            }).collect();
            let expected: String = log.iter().map(|(_, text)| text.as_str()).collect();
            let mut cursor = LogCursor::default();
            let mut text = String::new();
            for (end, chunk) in ends {
                cursor.resume();
                let sent = from(&log, cursor.since());
                let end = end.index(sent.len() + 1);
                for bytes in sent[..end].chunks(chunk) {
                    text += &fed(&mut cursor, bytes);
                }
            }
            cursor.resume();
            let sent = from(&log, cursor.since());
            text += &fed(&mut cursor, &sent);
            prop_assert_eq!(text, expected);
        }
    }
}
