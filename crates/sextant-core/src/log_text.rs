//! An algorithm's log as the node reports it. It can neither imitate nor hide the node's own lines below it.
//!
//! The node's lines begin with [`NODE`]. If an algorithm has printed that, or something that looks like it, the node puts [`QUOTE`] in
//! front of it. It does so anywhere in a line, because a terminal can be moved back to a line's beginning in many ways. Of all terminal
//! control sequences, only colours and tabs remain; a lone carriage return becomes a newline. Invisible characters, and those that change
//! the direction of text, are replaced: in a line from right to left, `]` looks like `[`.

use std::iter::Peekable;
use std::str::Chars;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::skeleton;

/// The beginning of each of the node's own lines.
pub const NODE: &str = "[sextant] ";
/// The prefix of any text of an algorithm that looks like [`NODE`].
pub const QUOTE: &str = "> ";

/// Resets all colours.
const NO_COLOUR: &str = "\u{1b}[0m";
/// The maximum length of a colour's parameters.
const PARAMETERS: usize = 32;
/// The letters of [`NODE`], each with the small capital to which Unicode's table of confusable characters maps some of its look-alikes.
const LETTERS: [(char, char); 7] = [('s', 'ꜱ'), ('e', 'ᴇ'), ('x', 'x'), ('t', 'ᴛ'), ('a', 'ᴀ'), ('n', 'ɴ'), ('t', 'ᴛ')];

/// Cleans an algorithm's log for the report.
pub fn of_algorithm(text: &str) -> String {
    quoted(&tamed(text))
}

/// Appends the node's own text to a log, on a line of its own that no earlier colour affects.
pub fn add(log: &mut String, words: &str) {
    if log.contains('\u{1b}') {
        let end = log.strip_suffix('\n').map_or(log.len(), str::len);
        log.insert_str(end, NO_COLOUR);
    }
    if !log.is_empty() && !log.ends_with('\n') {
        log.push('\n');
    }
    log.push_str(NODE);
    log.push_str(words);
}

/// Removes terminal control sequences except colours. Text that would overwrite a line goes on a line of its own; otherwise two harmless
/// texts could combine to look like the node's.
fn tamed(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character == '\r' && !rest.starts_with("\r\n") {
            tamed.push('\n');
            rest = &rest[1..];
            continue;
        }
        let kept = match character {
            '\u{1b}' => colour(rest),
            '\n' | '\r' | '\t' => Some(&rest[..1]),
            // This includes the joiners of some scripts and of emoji: readers can do without them, and they help to deceive.
            hidden if printable::is_deceptive(hidden) => None,
            other => Some(&rest[..other.len_utf8()]),
        };
        tamed.push_str(kept.unwrap_or(if character == '\u{1b}' { "␛" } else { "\u{fffd}" }));
        rest = &rest[kept.map_or(character.len_utf8(), str::len)..];
    }
    tamed
}

/// The colour sequence (SGR) at the beginning of a text; `None` for all other sequences, and for the one that hides text.
pub fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.bytes().take(PARAMETERS).position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'))?;
    let is_colour = parameters[length..].starts_with('m') && !hides(&parameters[..length]);
    is_colour.then(|| &text[..2 + length + 1])
}

/// Whether the parameters of a colour sequence hide text: an 8 that is not part of a colour's number (`38;5;8`, `38:5:8`).
fn hides(parameters: &str) -> bool {
    let mut rest = parameters.split(';').map(|each| each.trim_start_matches('0')).peekable();
    while let Some(parameter) = rest.next() {
        if parameter.split(':').next() == Some("8") {
            return true;
        }
        if matches!(parameter, "38" | "48" | "58") {
            let numbers = match rest.peek() {
                Some(&"5") => 2,
                Some(&"2") => 4,
                _ => 0,
            };
            rest.by_ref().take(numbers).for_each(drop);
        }
    }
    false
}

/// Quotes everything that looks like the beginning of one of the node's lines.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let mut from = 0;
    for (at, character) in text.char_indices() {
        if is_bracket(character) && looks_like_the_node(&text[at + character.len_utf8()..]) {
            quoted.push_str(&text[from..at]);
            quoted.push_str(QUOTE);
            from = at;
        }
    }
    quoted.push_str(&text[from..]);
    quoted
}

/// Whether a character may look like a bracket: the brackets of ASCII, and every other character that is not a letter. Closing brackets
/// count too, because a line from right to left mirrors them.
fn is_bracket(character: char) -> bool {
    match character {
        '[' | '(' | '{' | '<' | '|' | ']' | ')' | '}' | '>' => true,
        ascii if ascii.is_ascii() => false,
        other => !other.is_alphanumeric() && !is_gap(other),
    }
}

/// Whether a text begins with something that looks like the node's name, ignoring invisible characters between its letters.
fn looks_like_the_node(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    LETTERS.iter().all(|&letter| {
        skip_gaps(&mut rest);
        rest.next().is_some_and(|character| looks_like(character, letter))
    })
}

fn skip_gaps(rest: &mut Peekable<Chars<'_>>) {
    while let Some(character) = rest.next_if(|&character| is_gap(character)) {
        // Colours are the only remaining sequences.
        if character == '\u{1b}' {
            while rest.next_if(|&character| character != 'm').is_some() {}
            rest.next();
        }
    }
}

/// Whether a character takes no space between letters, or is only space (like the Braille pattern without dots).
fn is_gap(character: char) -> bool {
    let space = character.is_whitespace() || character == '\u{2800}' || printable::is_deceptive(character);
    character != '\n' && (space || (!character.is_ascii() && is_combining_mark(character)))
}

fn looks_like(character: char, (letter, small_capital): (char, char)) -> bool {
    if character.is_ascii() {
        return character.eq_ignore_ascii_case(&letter);
    }
    let character = out_of_its_box(character);
    if !character.is_alphanumeric() {
        return false;
    }
    let whole: String = std::iter::once(character).nfkd().filter(|&each| !is_combining_mark(each)).collect();
    // Check both cases: only the capital of the Greek Ν looks like an N, and only the small Cyrillic т is in the table.
    [whole.to_lowercase(), whole].iter().any(|form| {
        let seen = skeleton(form).find(|&each| !is_combining_mark(each));
        seen.into_iter().flat_map(char::to_lowercase).any(|seen| seen == letter || seen == small_capital)
    })
}

/// The plain letter of a letter in a circle or box, or of a flag.
fn out_of_its_box(character: char) -> char {
    let letter = match character {
        '\u{1f130}'..='\u{1f149}' => u32::from(character) - 0x1f130,
        '\u{1f150}'..='\u{1f169}' => u32::from(character) - 0x1f150,
        '\u{1f170}'..='\u{1f189}' => u32::from(character) - 0x1f170,
        '\u{1f1e6}'..='\u{1f1ff}' => u32::from(character) - 0x1f1e6,
        _ => return character,
    };
    char::from_u32(u32::from('a') + letter).unwrap_or(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_looks_like_the_node_is_quoted() {
        for (printed, reported) in [
            ("[sextant] The run was killed.\n", "> [sextant] The run was killed.\n"),
            ("fine\n[sextant] a\n[sextant] b", "fine\n> [sextant] a\n> [sextant] b"),
            ("50 %\r[sextant] a", "50 %\n> [sextant] a"),
            ("x\u{8}[sextant] a", "x\u{fffd}> [sextant] a"),
            ("   [sextant] a", "   > [sextant] a"),
            ("\u{a0}\u{2003}[sextant] a", "\u{a0}\u{2003}> [sextant] a"),
            ("\u{1b}[31m[sextant]\u{1b}[0m a", "\u{1b}[31m> [sextant]\u{1b}[0m a"),
            ("[\u{1b}[1ms\u{1b}[0mextant] a", "> [\u{1b}[1ms\u{1b}[0mextant] a"),
            ("[SEXTANT] a", "> [SEXTANT] a"),
            ("[s\u{fe0f}e\u{301}xtant] a", "> [s\u{fe0f}e\u{301}xtant] a"),
            ("[\u{2800}s\u{2800}extant] a", "> [\u{2800}s\u{2800}extant] a"),
            // Mirrored, these are opening brackets.
            ("]sextant[ a", "> ]sextant[ a"),
            (")sextant( a", "> )sextant( a"),
            ("} sextant{ a", "> } sextant{ a"),
            (">sextant< a", "> >sextant< a"),
            ("⟧sextant⟦ a", "> ⟧sextant⟦ a"),
            ("אב ]sextant[ a", "אב > ]sextant[ a"),
            ("[ s e x t a n t ] a", "> [ s e x t a n t ] a"),
            ("[séx̧tant] a", "> [séx̧tant] a"),
            ("［ｓｅｘｔａｎｔ］ a", "> ［ｓｅｘｔａｎｔ］ a"),
            ("[ѕехтаnt] a", "> [ѕехтаnt] a"),
            ("[ЅЕХТАΝТ] a", "> [ЅЕХТАΝТ] a"),
            ("[𝐬𝐞𝐱𝐭𝐚𝐧𝐭] a", "> [𝐬𝐞𝐱𝐭𝐚𝐧𝐭] a"),
            ("[ⓢⓔⓧⓣⓐⓝⓣ] a", "> [ⓢⓔⓧⓣⓐⓝⓣ] a"),
            ("[🅂🄴🅇🅃🄰🄽🅃] a", "> [🅂🄴🅇🅃🄰🄽🅃] a"),
            ("[ˢᵉˣᵗᵃⁿᵗ] a", "> [ˢᵉˣᵗᵃⁿᵗ] a"),
            ("[ꜱᴇxᴛᴀɴᴛ] a", "> [ꜱᴇxᴛᴀɴᴛ] a"),
            ("【sextant】 a", "> 【sextant】 a"),
            ("⟦sextant⟧ a", "> ⟦sextant⟧ a"),
            // Text that does not look like the node's stays as it is.
            ("a sextant measures angles [INFO] [sextan] [s]", "a sextant measures angles [INFO] [sextan] [s]"),
            ("[\nsextant]", "[\nsextant]"),
            ("━━━━ 100 % 医院「患者」", "━━━━ 100 % 医院「患者」"),
            ("https://example.org/sextant", "https://example.org/sextant"),
            ("", ""),
        ] {
            assert_eq!(of_algorithm(printed), reported);
        }
    }

    #[test]
    fn nothing_stays_that_turns_a_line_round_or_cannot_be_seen() {
        for hidden in [
            '\u{200e}',
            '\u{200f}',
            '\u{61c}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{2060}',
            '\u{feff}',
            '\u{ad}',
            '\u{3164}',
            '\u{e0001}',
            '\u{e0073}',
            '\u{e0100}',
        ] {
            assert_eq!(of_algorithm(&format!("a{hidden}b")), "a\u{fffd}b");
            for printed in [
                format!("{hidden}]{hidden}sextant] Killed."),
                format!("[{hidden}sextant] Killed."),
                format!("[s{hidden}extant] Killed."),
            ] {
                let reported = of_algorithm(&printed);
                assert!(!reported.contains(hidden) && reported.contains('\u{fffd}'), "{reported:?}");
            }
        }
        let printed = "\u{200f}]\u{200f}sextant] The run was killed.\n\u{61c})\u{61c}sextant) x";
        let reported = "\u{fffd}]> \u{fffd}sextant] The run was killed.\n\u{fffd})> \u{fffd}sextant) x";
        assert_eq!(of_algorithm(printed), reported);
    }

    #[test]
    fn of_what_steers_a_terminal_colours_are_left() {
        for (printed, reported) in [
            (
                "\u{1b}[31mred\u{1b}[0m \u{1b}[38;5;200mpink\u{1b}[m",
                "\u{1b}[31mred\u{1b}[0m \u{1b}[38;5;200mpink\u{1b}[m",
            ),
            ("1 %\r2 %\t3\u{8}4\r\n", "1 %\n2 %\t3\u{fffd}4\r\n"),
            // Printed over each other, these would look like the node's text.
            ("[zextant] Killed.\r[s\n", "[zextant] Killed.\n[s\n"),
            (" sextant] Killed.\r[\n[z\u{8}sextant]", " sextant] Killed.\n[\n[z> \u{fffd}sextant]"),
            // Cursor movement, clearing, titles, keys, other alphabets, and sequences that swallow everything after them.
            ("\u{1b}[2J\u{1b}[1;1H\u{1b}[1A", "␛[2J␛[1;1H␛[1A"),
            ("\u{1b}]0;owned\u{7}", "␛]0;owned\u{fffd}"),
            ("\u{1b}P\u{1b}(0\u{1b}c\u{1b}[?1049h\u{1b}[", "␛P␛(0␛c␛[?1049h␛["),
            ("\u{9b}2J\u{90}\u{e}\u{5}\u{7f}", "\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            // Hidden letters.
            ("\u{1b}[8m\u{1b}[1;08mhidden", "␛[8m␛[1;08mhidden"),
            (
                "\u{1b}[38;5;8m\u{1b}[48:5:8m\u{1b}[38;2;8;8;8mgrey",
                "\u{1b}[38;5;8m\u{1b}[48:5:8m\u{1b}[38;2;8;8;8mgrey",
            ),
            ("\u{1b}[38;5;8;8m\u{1b}[38;8m\u{1b}[8:1mhidden", "␛[38;5;8;8m␛[38;8m␛[8:1mhidden"),
            // Reversed: ]tnatxes[ would look like the node's.
            ("\u{202e}]tnatxes[", "\u{fffd}]tnatxes["),
            (&format!("\u{1b}[{}m", "1;".repeat(40)), &format!("␛[{}m", "1;".repeat(40))),
        ] {
            assert_eq!(of_algorithm(printed), reported, "{printed:?}");
        }
    }

    #[test]
    fn what_the_node_says_is_on_a_line_of_its_own_that_no_colour_reaches() {
        for (log, whole) in [
            ("", "[sextant] Killed."),
            ("working", "working\n[sextant] Killed."),
            ("working\n", "working\n[sextant] Killed."),
            ("\u{1b}[30;40mworking", "\u{1b}[30;40mworking\u{1b}[0m\n[sextant] Killed."),
            ("\u{1b}[30;40mworking\n", "\u{1b}[30;40mworking\u{1b}[0m\n[sextant] Killed."),
        ] {
            let mut text = log.to_owned();
            add(&mut text, "Killed.");
            assert_eq!(text, whole);
        }
    }

    proptest! {
        #[test]
        fn nothing_of_it_begins_as_the_node_does(
            pieces in prop::collection::vec(prop_oneof![Just("[sextant] ".to_owned()), Just("[".into()), Just("sex".into()), Just("tant".into()), Just("\u{1b}[1m".into()), Just("\u{1b}".into()), Just("\n".into()), Just("> ".into()), "[\\u{200b}-\\u{200f}\\u{61c}\\u{e0041}\\])]", "\\PC{0,3}", ".{0,3}"], 0..12),
        ) {
            let reported = of_algorithm(&pieces.concat());
            for (at, _) in reported.match_indices("[sextant]") {
                prop_assert!(reported[..at].ends_with(QUOTE), "{reported:?}");
            }
            prop_assert!(!reported.replace(['\n', '\r', '\t', '\u{1b}'], "").contains(printable::is_deceptive), "{reported:?}");
            for (at, _) in reported.match_indices('\u{1b}') {
                prop_assert!(colour(&reported[at..]).is_some(), "{reported:?}");
            }
            prop_assert!(reported.len() <= 3 * pieces.concat().len());
        }
    }
}
