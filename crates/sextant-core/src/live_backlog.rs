//! Keeps the part of an algorithm's live log that the server does not have yet, in bounded memory. It also keeps the end of the whole
//! log, in case the server's copy must be replaced: after another process of this node has sent parts of it, after an event with an
//! unknown outcome, or when the copy has become too long.

use super::log_text::NODE;

/// The largest piece that is sent at a time, in bytes.
const PIECE: usize = 16 * 1024;
/// The largest amount of unsent text, in bytes.
const UNSENT: usize = 64 * 1024;
/// The largest size of the server's copy. The server rewrites all of it for each piece.
const AT_SERVER: usize = 512 * 1024;
/// The size to which a copy that is too long is reduced.
const KEPT: usize = 128 * 1024;

/// The escape sequence that resets all colours.
const NO_COLOUR: &str = "\u{1b}[0m";

const LEFT_OUT: &str = "Lines are left out here. The log at the end of the run has them, unless it is too long.";
const LONGER: &str = "The log was longer: this is its end so far.";

/// The next text to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Lines that the server appends to its copy.
    Piece(String),
    /// Text that replaces the server's copy.
    Whole(String),
}

/// The text to send to the server.
#[derive(Debug, Default)]
pub struct Backlog {
    /// The end of all text so far.
    kept: String,
    /// Whether earlier text was dropped.
    cut: bool,
    unsent: String,
    coloured: bool,
    at_server: usize,
    replace: bool,
}

impl Backlog {
    /// Adds lines.
    pub fn push(&mut self, text: &str) {
        self.coloured |= text.contains('\u{1b}');
        self.kept.push_str(text);
        if self.kept.len() > 2 * KEPT {
            drain_lines(&mut self.kept, KEPT);
            self.cut = true;
        }
        if self.replace {
            return;
        }
        self.unsent.push_str(text);
        if self.unsent.len() > UNSENT {
            drain_lines(&mut self.unsent, UNSENT / 2);
            self.unsent.insert_str(0, &self.line(LEFT_OUT));
        }
    }

    /// Marks missing output.
    pub fn gap(&mut self) {
        let line = self.line(LEFT_OUT);
        self.push(&line);
    }

    /// Discards the unsent text, because the server's copy may be wrong and must be replaced.
    pub fn replace(&mut self) {
        self.replace = true;
        self.unsent.clear();
    }

    /// Whether there is text to send.
    pub fn has_next(&self) -> bool {
        self.replace || !self.unsent.is_empty()
    }

    /// Takes the next text to send. The caller reports a failure with [`returned`](Self::returned) or [`replace`](Self::replace).
    pub fn take(&mut self) -> Option<Next> {
        if self.replace || self.at_server > AT_SERVER {
            self.replace = false;
            self.unsent.clear();
            if self.kept.len() > KEPT {
                drain_lines(&mut self.kept, KEPT);
                self.cut = true;
            }
            let whole = if self.cut { format!("{NODE}{LONGER}\n{}", self.kept) } else { self.kept.clone() };
            self.at_server = whole.len();
            return Some(Next::Whole(whole));
        }
        if self.unsent.is_empty() {
            return None;
        }
        let end = end_of_lines(&self.unsent, PIECE);
        let piece: String = self.unsent.drain(..end).collect();
        self.at_server += piece.len();
        Some(Next::Piece(piece))
    }

    /// Returns a piece that was not sent, to be sent again.
    pub fn returned(&mut self, piece: &str) {
        self.at_server = self.at_server.saturating_sub(piece.len());
        if !self.replace {
            self.unsent.insert_str(0, piece);
        }
    }

    /// A line of the node's own.
    fn line(&self, words: &str) -> String {
        format!("{}{NODE}{words}\n", if self.coloured { NO_COLOUR } else { "" })
    }
}

/// Keeps the last lines of a text, at most this many bytes, or the end of a single long line.
fn drain_lines(text: &mut String, bytes: usize) {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    if start > 0 && text.as_bytes()[start - 1] != b'\n' {
        start += text[start..].find('\n').map_or(0, |newline| newline + 1);
    }
    text.drain(..start);
}

/// The end of the last line within this many bytes, or of the last character if a single line is longer.
fn end_of_lines(text: &str, bytes: usize) -> usize {
    if text.len() <= bytes {
        return text.len();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].rfind('\n').map_or(end, |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(backlog: &mut Backlog) -> String {
        match backlog.take() {
            Some(Next::Piece(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn whole(backlog: &mut Backlog) -> String {
        match backlog.take() {
            Some(Next::Whole(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pieces_are_whole_lines_of_a_limited_size() {
        let mut backlog = Backlog::default();
        assert!(backlog.take().is_none() && !backlog.has_next());
        backlog.push("one\n");
        backlog.push("two\n");
        assert_eq!(next(&mut backlog), "one\ntwo\n");
        backlog.push(&"a line\n".repeat(4000));
        let first = next(&mut backlog);
        assert!(first.len() <= PIECE && first.ends_with("a line\n"));
        assert_eq!(first.len() + next(&mut backlog).len(), 28_000);
    }

    #[test]
    fn what_was_not_sent_is_sent_again() {
        let mut backlog = Backlog::default();
        backlog.push("one\n");
        let piece = next(&mut backlog);
        backlog.push("two\n");
        backlog.returned(&piece);
        assert_eq!(next(&mut backlog), "one\ntwo\n");
    }

    #[test]
    fn of_what_waits_for_long_the_oldest_lines_are_left_out() {
        let mut backlog = Backlog::default();
        for line in 0..100_000 {
            backlog.push(&format!("line {line}\n"));
            assert!(backlog.unsent.len() <= UNSENT && backlog.kept.len() <= 2 * KEPT);
        }
        let text: String = std::iter::from_fn(|| {
            backlog.take().map(|next| match next {
                Next::Piece(text) => text,
                Next::Whole(_) => panic!("nothing has to be replaced"),
            })
        })
        .collect();
        assert!(text.starts_with("[sextant] Lines are left out here. "), "{text}");
        assert!(text.ends_with("line 99999\n"));
        assert_eq!(text.matches("left out").count(), 1);
    }

    #[test]
    fn no_colour_reaches_the_nodes_lines() {
        let mut backlog = Backlog::default();
        backlog.push("\u{1b}[31mred\n");
        backlog.gap();
        assert!(next(&mut backlog).contains("red\n\u{1b}[0m[sextant] Lines"));
    }

    #[test]
    fn the_whole_is_what_was_sent_and_what_was_not() {
        let mut backlog = Backlog::default();
        backlog.push("one\n");
        next(&mut backlog);
        backlog.push("two\n");
        backlog.replace();
        backlog.push("three\n");
        assert_eq!(whole(&mut backlog), "one\ntwo\nthree\n");
        assert!(backlog.take().is_none());
        backlog.cut = true;
        backlog.replace();
        assert!(whole(&mut backlog).starts_with("[sextant] The log was longer: this is its end so far.\none\n"));
    }

    #[test]
    fn what_has_become_too_long_at_the_server_is_replaced_by_its_end() {
        let mut backlog = Backlog::default();
        let mut sent = 0;
        loop {
            backlog.push(&"a line\n".repeat(1000));
            match backlog.take().unwrap() {
                Next::Piece(piece) => sent += piece.len(),
                Next::Whole(text) => {
                    assert!(sent > AT_SERVER && sent < AT_SERVER + 2 * PIECE);
                    assert!(text.len() <= KEPT + 100 && text.starts_with("[sextant] The log was longer"));
                    break;
                }
            }
        }
        backlog.push("next\n");
        assert_eq!(next(&mut backlog), "next\n");
    }
}
