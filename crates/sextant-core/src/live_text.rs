//! Converts an algorithm's log to text while it is being written. The text that comes out needs no more context. All pieces together
//! equal the result of [`Tail::into_text`](super::tail::Tail::into_text) for the whole log, however the bytes were split.
//!
//! A piece ends at the end of a line, and never within a secret: a possible beginning of a secret is held back until the rest is known. A
//! long line without an end is split where masking and quoting can't depend on what follows.

use std::ops::Range;
use std::sync::Arc;

use super::log_text::of_algorithm;
use super::mask::{Mask, readable};

/// Longer lines are split into pieces.
const LONG_LINE: usize = 16 * 1024;
/// The largest number of bytes held back, besides the length of the longest secret.
const HELD: usize = 64 * 1024;

/// A piece of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Whether text before it is missing: a line in which secrets can't be told from other text.
    pub after_gap: bool,
    /// Whole lines, or parts of a long one. May be empty.
    pub text: String,
}

/// The state between two pieces.
pub struct LiveText {
    mask: Arc<Mask>,
    held: Vec<u8>,
    /// How many of the held bytes are omitted from the text. They are kept only because a secret may begin in them.
    left_out: usize,
    /// How many of the next bytes are omitted as well.
    skipped: usize,
}

impl LiveText {
    /// Creates the state for the beginning of a log.
    pub fn new(mask: Arc<Mask>) -> Self {
        Self { mask, held: Vec::new(), left_out: 0, skipped: 0 }
    }

    /// Creates the state for a line in the middle of a log. Omits as much as may be the end of a secret.
    pub fn after_gap(mask: Arc<Mask>) -> Self {
        Self { skipped: mask.longest_of_lines(), ..Self::new(mask) }
    }

    /// Adds bytes, and returns the text that is complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Piece {
        let mut piece = Piece::default();
        // In parts, so that few bytes are held at a time.
        for part in bytes.chunks(LONG_LINE) {
            let skipped = self.skipped.min(part.len());
            self.skipped -= skipped;
            self.held.extend_from_slice(part);
            if skipped > 0 {
                self.left_out = self.held.len() - (part.len() - skipped);
            }
            self.take(&mut piece);
        }
        piece
    }

    fn take(&mut self, piece: &mut Piece) {
        let places = self.mask.places(&self.held);
        // A secret may begin at this position or later.
        let open = self.mask.open_from(&self.held);
        let may_cut = |at: usize| {
            let place = places.get(places.partition_point(|place| place.end < at));
            at <= open && place.is_none_or(|place| place.start >= at)
        };
        let from = match self.left_out {
            0 => Some(0),
            left_out => self.line_ends(left_out).next(),
        };
        let line_end = from.and_then(|from| self.line_ends(from + 1).filter(|&at| may_cut(at)).last());
        let within_line = || {
            let last = self.held.len().checked_sub(LONG_LINE / 2).filter(|_| self.held.len() > LONG_LINE)?;
            self.plain_places(last).into_iter().rev().find(|&at| may_cut(at)).filter(|_| self.left_out == 0)
        };
        if let (Some(from), Some(cut)) = (from, line_end.or_else(within_line)) {
            piece.after_gap |= self.left_out > 0;
            piece.text.push_str(&self.text(&places, from, cut));
            self.held.drain(..cut);
            self.left_out = 0;
        } else if self.held.len() > HELD + self.mask.longest() {
            self.held.drain(..self.held.len() - self.mask.longest());
            self.left_out = self.held.len();
            // Even if no secret can begin in it.
            self.skipped = self.skipped.max(usize::from(self.held.is_empty()));
        }
    }

    /// The text of a part of the held bytes.
    fn text(&self, places: &[Range<usize>], from: usize, to: usize) -> String {
        let end = places.partition_point(|place| place.end <= to);
        of_algorithm(&readable(&self.held[..to], &places[..end], from))
    }

    /// The certain ends of lines from `least` on, in order.
    fn line_ends(&self, least: usize) -> impl Iterator<Item = usize> {
        let held = &self.held;
        let begin = least.saturating_sub(1).min(held.len());
        memchr::memchr2_iter(b'\n', b'\r', &held[begin..]).map(move |at| begin + at).filter_map(move |at| {
            let ends = held[at] == b'\n' || held.get(at + 1).is_some_and(|&next| next != b'\n');
            ends.then_some(at + 1)
        })
    }

    /// The positions up to `last` at which the text can be split: no token or colour code crosses them, and nothing that looks like the
    /// node's own words can.
    fn plain_places(&self, last: usize) -> Vec<usize> {
        let held = &self.held[..];
        let (mut token, mut sequence) = (false, false);
        let mut places = Vec::new();
        for at in 1..=last {
            let (before, next) = (held[at - 1], held[at]);
            // A token contains only these characters, so it can't have begun before the last other character.
            let of_token = before.is_ascii_alphanumeric() || b"-_.".contains(&before);
            token = of_token && (token || held[at - 1..].starts_with(b"eyJ"));
            sequence = before == 0x1b || (sequence && matches!(before, b'[' | b'0'..=b'9' | b';' | b':'));
            let plain = next.is_ascii_alphanumeric() && !b"sextan".contains(&next.to_ascii_lowercase());
            // Within the beginning of a token.
            let begins = before == b'e' && held[at..].starts_with(b"yJ");
            let goes_on = before == b'y' && next == b'J';
            if plain && !token && !sequence && !begins && !goes_on {
                places.push(at);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::{Bounds, Tail};
    use proptest::prelude::*;

    fn mask(secrets: &[&str]) -> Arc<Mask> {
        Arc::new(Mask::new(secrets.iter().map(|&secret| secret.to_owned())).unwrap())
    }

    /// The text of a whole log that arrives in these pieces, including its unfinished end; and the text after each piece.
    fn live(mask: &Arc<Mask>, pieces: &[&[u8]]) -> (String, Vec<String>) {
        let mut live = LiveText::new(mask.clone());
        let mut given = Vec::new();
        for piece in pieces {
            let piece = live.push(piece);
            assert!(!piece.after_gap);
            given.push(piece.text);
            assert!(live.held.len() <= HELD + LONG_LINE + mask.longest());
        }
        let rest = live.text(&mask.places(&live.held), live.left_out, live.held.len());
        (given.concat() + &rest, given)
    }

    fn whole(mask: &Mask, log: &[u8]) -> String {
        let mut tail = Tail::new(Bounds::LOG);
        tail.push(log);
        tail.into_text(mask)
    }

    #[test]
    fn lines_come_when_they_are_whole() {
        let (_, given) = live(&mask(&[]), &[b"one\ntw", b"o\nthree\r", b"\nfour\r5", b"\r", b"x"]);
        assert_eq!(given, ["one\n", "two\n", "three\r\nfour\n", "", "5\n"]);
    }

    #[test]
    fn what_may_become_a_secret_is_held_back() {
        let secret = "-----BEGIN-----\nabc\nefg\n-----END-----";
        let mask = mask(&[secret, "word\n"]);
        let log = format!("a\n{secret}\nb\nword\nc\n-----BEGIN-----\nabc\nother\n");
        for cut in 0..log.len() {
            let (text, given) = live(&mask, &[&log.as_bytes()[..cut], &log.as_bytes()[cut..]]);
            assert_eq!(text, "a\n***\nb\n***c\n-----BEGIN-----\nabc\nother\n");
            assert!(!given[0].contains("BEGIN") || given[0].contains("***"), "{given:?}");
        }
    }

    #[test]
    fn of_a_line_without_an_end_pieces_come_all_the_same() {
        let mask = mask(&["hunter-2"]);
        for (line, count) in
            [("0123456789 hunter-2, ", 20_000), ("[ \u{1b}[31m5sextan\u{e9}\0 ", 20_000), ("..5", 90_000)]
        {
            let log = line.repeat(count);
            let pieces: Vec<&[u8]> = log.as_bytes().chunks(1000).collect();
            let (text, given) = live(&mask, &pieces);
            assert!(given.iter().filter(|piece| !piece.is_empty()).count() > 5);
            let all = of_algorithm(&readable(log.as_bytes(), &mask.places(log.as_bytes()), 0));
            assert!(text == all);
        }
    }

    #[test]
    fn where_nothing_can_be_told_the_line_is_left_out_in_bounded_memory() {
        let mask = mask(&["hunter-2\nsecond line of it"]);
        // A token can't be split.
        let log = format!("begin\neyJ{}\nnext hunter-2\nsecond line of it\nlast\n", "eyJa".repeat(100_000));
        let mut live = LiveText::new(mask);
        let (mut text, mut gaps) = (String::new(), 0);
        for bytes in log.as_bytes().chunks(999) {
            let piece = live.push(bytes);
            gaps += usize::from(piece.after_gap);
            text += &piece.text;
            assert!(live.held.len() < 100_000, "{}", live.held.len());
        }
        assert_eq!((text.as_str(), gaps), ("begin\nnext ***\nlast\n", 1));
    }

    #[test]
    fn a_secret_that_begins_in_what_is_left_out_stays_hidden() {
        let mask = mask(&["hunter-2\nsecond line of it"]);
        let log = format!("eyJ{}hunter-2\nsecond line of it\nlast\n", "eyJa".repeat(100_000));
        let mut live = LiveText::new(mask);
        let text: String = log.as_bytes().chunks(999).map(|bytes| live.push(bytes).text).collect();
        assert_eq!(text, "***\nlast\n");
    }

    proptest! {
        #[test]
        fn all_pieces_are_the_whole_text(
            parts in prop::collection::vec(prop_oneof![
                Just("\n".to_owned()), Just("\r".into()), Just("\r\n".into()), Just("ses\n".into()), Just("ses".into()), Just("s".into()),
                Just("x\ny\r".into()), Just("[sextant]".into()), Just("[ sext".into()), Just("\u{1b}[1m".into()), Just("\u{1b}".into()),
                Just("eyJhbGciOiJIUzI1NiJ9.eyJmcmVzaCI6ZmFsc2UsImlhdCI6.c2lnbmF0dXJlLW9mLWl0".into()), "\\PC{0,3}", ".{0,3}",
            ], 0..30),
            junk in prop::collection::vec(any::<u8>(), 0..10),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mask = mask(&["ses\nx", "ses", "\nx\ny", "ess\n", "\ny"]);
            let log = [parts.concat().as_bytes(), &junk[..], parts.concat().as_bytes()].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([log.len()]) {
                pieces.push(&log[from..cut]);
                from = cut;
            }
            prop_assert_eq!(live(&mask, &pieces).0, whole(&mask, &log));
        }
    }
}
