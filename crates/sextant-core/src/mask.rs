//! Hides secrets in text that leaves the organization. An algorithm's log can contain everything that the algorithm was given, by mistake
//! or because an exception prints all variables.
//!
//! This helps against mistakes only. An algorithm that reveals a secret on purpose can spell it backwards; policies decide which
//! algorithms may run.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;

/// Replaces a secret.
pub const STARS: &str = "***";

/// A JSON Web Token: `{"…` in base64url, twice, and a signature. An algorithm's token is one. It is recognized by its form, since a
/// restarted node does not know the tokens that its predecessor handed out.
const TOKEN: &str = r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}";

/// Finds secrets. Has no `Debug`, since it consists of secrets.
pub struct Mask {
    secrets: AhoCorasick,
    token: Regex,
    texts: Vec<String>,
    /// Whether a secret begins with this byte.
    begins: [bool; 256],
}

/// The mask can't be built from these secrets.
#[derive(Debug, thiserror::Error)]
#[error("secrets can't be hidden in logs: {0}")]
pub struct MaskError(String);

impl Mask {
    /// Creates a mask for these texts, which must not be empty, and for tokens.
    ///
    /// # Errors
    /// If the secrets are too large for the search automaton, by gigabytes.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Result<Self, MaskError> {
        let texts: Vec<String> = secrets.into_iter().collect();
        let mut begins = [false; 256];
        for first in texts.iter().filter_map(|text| text.bytes().next()) {
            begins[usize::from(first)] = true;
        }
        Ok(Self {
            secrets: AhoCorasick::new(&texts).map_err(|error| MaskError(error.to_string()))?,
            token: Regex::new(TOKEN).map_err(|error| MaskError(error.to_string()))?,
            texts,
            begins,
        })
    }

    /// The length of the longest secret, tokens excepted.
    pub fn longest(&self) -> usize {
        self.texts.iter().map(String::len).max().unwrap_or_default()
    }

    /// The length of the longest secret with several lines.
    pub fn longest_of_lines(&self) -> usize {
        self.texts.iter().filter(|text| text.contains(['\n', '\r'])).map(String::len).max().unwrap_or_default()
    }

    /// Where the first secret may begin that is still incomplete, tokens excepted. The length of `bytes` if there is none.
    pub fn open_from(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest().saturating_sub(1));
        let opens = |&at: &usize| {
            let rest = &bytes[at..];
            self.begins[usize::from(rest[0])]
                && self.texts.iter().any(|text| text.len() > rest.len() && text.as_bytes().starts_with(rest))
        };
        (first..bytes.len()).find(opens).unwrap_or(bytes.len())
    }

    /// The places of secrets in order. Adjacent or overlapping ones are merged.
    pub fn places(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let secrets = self.secrets.find_overlapping_iter(bytes).map(|found| found.range());
        let mut found: Vec<_> = secrets.chain(self.token.find_iter(bytes).map(|found| found.range())).collect();
        found.sort_unstable_by_key(|place| place.start);
        let mut places: Vec<Range<usize>> = Vec::new();
        for place in found {
            match places.last_mut() {
                Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
                _ => places.push(place),
            }
        }
        places
    }

    /// The text with secrets hidden.
    pub fn text(&self, text: &str) -> String {
        readable(text.as_bytes(), &self.places(text.as_bytes()), 0)
    }
}

/// Converts the bytes from `start` on to text. Invalid UTF-8 becomes U+FFFD, as does NUL, which some servers' databases refuse. `places`
/// become stars, including one that lies across `start`.
pub fn readable(bytes: &[u8], places: &[Range<usize>], start: usize) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_sub(start));
    let mut at = start;
    for place in places.iter().filter(|place| place.end > start) {
        text += &plain(&bytes[at..place.start.max(at)]);
        text += STARS;
        at = place.end;
    }
    text + &plain(&bytes[at..])
}

fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::new(secrets.iter().map(|&secret| secret.to_owned())).unwrap()
    }

    #[test]
    fn secrets_become_stars() {
        let mask = mask(&["hunter-2", "ter-2-end", "x\ny\nz"]);
        for (text, masked) in [
            ("nothing here", "nothing here"),
            ("password=hunter-2;", "password=***;"),
            ("hunter-2hunter-2 hunter-", "*** hunter-"),
            // Overlapping secrets are both hidden.
            ("hunter-2-end.", "***."),
            ("a x\ny\nz b", "a *** b"),
            ("", ""),
        ] {
            assert_eq!(mask.text(text), masked, "{text}");
        }
    }

    #[test]
    fn tokens_are_known_by_their_form() {
        let mask = mask(&[]);
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJmcmVzaCI6ZmFsc2UsImlhdCI6MTcxfQ.c2lnbmF0dXJlLW9mLWl0";
        assert_eq!(mask.text(&format!("Authorization: Bearer {token}\n")), "Authorization: Bearer ***\n");
        for text in ["eyJ.eyJ.x", "a.b.c", "eyJhbGciOiJIUzI1NiJ9"] {
            assert_eq!(mask.text(text), text);
        }
    }

    #[test]
    fn a_secret_across_the_start_is_hidden() {
        let places = mask(&["secret"]).places(b"a secret b");
        for start in 3..8 {
            assert_eq!(readable(b"a secret b", &places, start), "*** b");
        }
        assert_eq!(readable(b"a secret b", &places, 8), " b");
    }

    #[test]
    fn a_secret_that_is_not_complete_is_known_by_its_beginning() {
        let mask = mask(&["abab", "b\nc"]);
        for (text, open) in [("", 0), ("xaba", 1), ("xabab", 3), ("xab\n", 2), ("x\n", 2), ("xb", 1)] {
            assert_eq!(mask.open_from(text.as_bytes()), open, "{text:?}");
        }
        assert_eq!((mask.longest(), mask.longest_of_lines()), (4, 3));
    }

    proptest! {
        #[test]
        fn nothing_of_them_is_left(
            secrets in prop::collection::vec("[ab]{2,5}", 1..4),
            pieces in prop::collection::vec("[abc\u{e9}\n]{0,12}", 0..6),
        ) {
            let mask = Mask::new(secrets.clone()).unwrap();
            let text = pieces.concat();
            let masked = mask.text(&text);
            for secret in &secrets {
                prop_assert!(!masked.contains(secret.as_str()), "{secret} in {masked}");
            }
            // And what is no secret stays.
            let others = |text: &str| text.chars().filter(|letter| !"ab*".contains(*letter)).collect::<String>();
            prop_assert_eq!(others(&masked), others(&text));
        }
    }
}
