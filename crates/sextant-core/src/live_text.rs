//! An algorithm's log while it is being written: bytes go in as they come, and text comes out that needs no more context. All pieces
//! together are what [`Tail::into_text`](super::tail::Tail::into_text) makes of the whole log, however the bytes were cut.
//!
//! A piece ends where a line ends, and nowhere within a secret: what may become one is held back until that is known. Of a line that does
//! not end for long, pieces are cut where masking and quoting can't depend on what follows.

use std::ops::Range;
use std::sync::Arc;

use super::log_text::of_algorithm;
use super::mask::{Mask, readable};

/// A line that is longer comes in pieces.
const LONG_LINE: usize = 16 * 1024;
/// How many bytes are held back at most, besides the length of the longest secret.
const HELD: usize = 64 * 1024;

/// A piece of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Whether something before it is left out: a line of which no part can be told from a secret.
    pub after_gap: bool,
    /// Whole lines, or parts of one that is long. May be empty.
    pub text: String,
}

/// The state between two pieces.
pub struct LiveText {
    mask: Arc<Mask>,
    held: Vec<u8>,
    /// How many of the held bytes are left out, and only kept because a secret may begin in them.
    left_out: usize,
    /// How many of the next bytes are left out as well.
    skipped: usize,
}

impl LiveText {
    /// At the beginning of a log.
    pub fn new(mask: Arc<Mask>) -> Self {
        Self { mask, held: Vec::new(), left_out: 0, skipped: 0 }
    }

    /// At a line somewhere in a log: as much is left out as may be the end of a secret.
    pub fn after_gap(mask: Arc<Mask>) -> Self {
        Self { skipped: mask.longest_of_lines(), ..Self::new(mask) }
    }

    /// Takes the next bytes, and gives the text that is complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Piece {
        let mut piece = Piece::default();
        // In parts, so that what is held stays small.
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
        // From here on there may be the beginning of a secret.
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
            // Also where no secret can begin in it.
            self.skipped = self.skipped.max(usize::from(self.held.is_empty()));
        }
    }

    /// The text of a part of what is held.
    fn text(&self, places: &[Range<usize>], from: usize, to: usize) -> String {
        let end = places.partition_point(|place| place.end <= to);
        of_algorithm(&readable(&self.held[..to], &places[..end], from))
    }

    /// Where lines have ended that are known to have: from `least` on, and in order.
    fn line_ends(&self, least: usize) -> impl Iterator<Item = usize> {
        let held = &self.held;
        let begin = least.saturating_sub(1).min(held.len());
        memchr::memchr2_iter(b'\n', b'\r', &held[begin..]).map(move |at| begin + at).filter_map(move |at| {
            let ends = held[at] == b'\n' || held.get(at + 1).is_some_and(|&next| next != b'\n');
            ends.then_some(at + 1)
        })
    }

    /// The places up to `last` where what is left and right of them can be read apart: there is no part of a token or a colour, and nothing
    /// that looks like the node's own words can reach across it.
    fn plain_places(&self, last: usize) -> Vec<usize> {
        let held = &self.held[..];
        let (mut token, mut sequence) = (false, false);
        let mut places = Vec::new();
        for at in 1..=last {
            let (before, next) = (held[at - 1], held[at]);
            // A token has no other characters than these, so it can't have begun before the last one of the others.
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

    /// The text of a whole log that comes in these pieces, the unfinished end included; `None` if something was left out.
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
        // Within a token there is no place to cut at.
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
