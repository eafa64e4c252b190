//! Makes text from other parties safe to read. Text from a server, a registry, a kubelet, a researcher or an algorithm passes
//! through here before it gets to a terminal, a log, a report or an Event. Characters that control a terminal, change the
//! direction of text or are invisible become escapes, and excerpts are bounded.
//!
//! | function | line ends | length |
//! | --- | --- | --- |
//! | [`excerpt`], [`excerpt_of`] | escaped | bounded, escapes included |
//! | [`line`] | escaped | as it is |
//! | [`lines`] | kept | as it is |

use std::borrow::Cow;

/// The most characters in an [`excerpt`]: enough for any honest name.
pub const EXCERPT: usize = 200;

/// Returns the beginning of a text on one line, in at most [`EXCERPT`] characters.
#[must_use]
pub fn excerpt(text: &str) -> String {
    excerpt_of(text, EXCERPT)
}

/// Returns the beginning of a text on one line, in at most `most` characters. It ends with `…` if the text is longer.
#[must_use]
pub fn excerpt_of(text: &str, most: usize) -> String {
    let mut shown = String::new();
    let (mut length, mut room_for_mark) = (0, 0);
    for character in text.chars() {
        let before = shown.len();
        if is_deceptive(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        length += shown[before..].chars().count();
        if length > most {
            shown.truncate(room_for_mark);
            if most > 0 {
                shown.push('…');
            }
            break;
        }
        if length < most {
            room_for_mark = shown.len();
        }
    }
    shown
}

/// Escapes a text so that it stays on one line and cannot control the terminal.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_deceptive)
}

/// Like [`line`], but keeps line ends.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\n' && is_deceptive(character))
}

fn escaped(text: &str, deceptive: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&deceptive) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if deceptive(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character has another effect than being visible: Unicode's controls (Cc), formats (Cf: bidirectional marks, zero
/// widths, tags, …), line and paragraph separators (Zl, Zp), and default-ignorable characters. The variation selectors that
/// choose between the two looks of an emoji are exempt.
///
/// The list is spelled out because the standard library lacks these categories; a test compares it with the tables of `regex`.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_shown_as_an_escape() {
        for (text, shown) in [
            ("Mean age: a study (2024)", "Mean age: a study (2024)"),
            ("", ""),
            ("a\r\nb\tc", r"a\r\nb\tc"),
            ("\u{1b}[2J\u{1b}]0;owned\u{7}", r"\u{1b}[2J\u{1b}]0;owned\u{7}"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("ab\u{202e}dc", r"ab\u{202e}dc"),
            ("\u{2066}\u{2028}\u{feff}\u{200f}\u{61c}\u{e0041}", r"\u{2066}\u{2028}\u{feff}\u{200f}\u{61c}\u{e0041}"),
            // Names of people and places, in any script, and emoji in colour.
            (
                "Universität Köln, e\u{301}, 医院, अस्पताल, مستشفى, ❤\u{fe0f}",
                "Universität Köln, e\u{301}, 医院, अस्पताल, مستشفى, ❤\u{fe0f}",
            ),
            (r"C:\data", r"C:\data"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(excerpt(text), shown);
        }
        assert_eq!(lines("a\nb\r\u{1b}c\n"), "a\nb\\r\\u{1b}c\n");
    }

    #[test]
    fn an_excerpt_says_that_it_is_one() {
        for (text, most, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ab\u{1b}", 5, "ab…"),
            ("ab\u{1b}", 8, r"ab\u{1b}"),
            ("a\n", 2, "a…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(excerpt_of(text, most), shown, "{text:?}");
        }
        assert_eq!(excerpt(&"é".repeat(1_400_000)).chars().count(), EXCERPT);
    }

    #[test]
    fn it_is_unicodes_own_list() {
        let unicode =
            regex::Regex::new(r"[[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]--[\x{fe00}-\x{fe0f}]]")
                .unwrap();
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let text: &str = character.encode_utf8(&mut buffer);
            assert_eq!(is_deceptive(character), unicode.is_match(text), "{character:?}");
        }
    }

    proptest! {
        #[test]
        fn no_excerpt_exceeds_its_bound_or_steers_a_terminal(
            text in prop_oneof![".*", "[\\x00-\\x20\\u{7f}-\\u{a0}\\u{2000}-\\u{2070}a]{0,300}", "(?s).{150,400}"],
            most in 0usize..300,
        ) {
            for (shown, most) in [(excerpt_of(&text, most), most), (excerpt(&text), EXCERPT)] {
                prop_assert!(shown.chars().count() <= most);
                prop_assert!(!shown.chars().any(is_deceptive), "{shown:?}");
                prop_assert!(shown.ends_with('…') || most == 0 || shown == line(&text));
            }
            prop_assert!(!line(&text).chars().any(is_deceptive));
            prop_assert!(!lines(&text).replace('\n', "").chars().any(is_deceptive));
            prop_assert_eq!(lines(&text).matches('\n').count(), text.matches('\n').count());
        }
    }
}
