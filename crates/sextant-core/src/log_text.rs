//! An algorithm's log as the node reports it: it can't imitate the node's own lines below it, nor hide them.
//!
//! The node's lines begin with [`NODE`]. If an algorithm has printed that, or something that looks like it, the node quotes it with
//! [`QUOTE`] in front: anywhere in a line, because a terminal can be led back to a line's beginning in many ways. Of all terminal
//! sequences only colours and tabs remain; a carriage return begins a new line. Characters that change the direction of a text or are
//! invisible are replaced: in a line that runs from right to left, `]` looks like `[`.

use std::iter::Peekable;
use std::str::Chars;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::skeleton;

/// How each line begins that is the node's own.
pub const NODE: &str = "[sextant] ";
/// What stands before whatever an algorithm has printed that looks like [`NODE`].
pub const QUOTE: &str = "> ";

/// Ends all colours.
const NO_COLOUR: &str = "\u{1b}[0m";
/// How long a colour's parameters may be.
const PARAMETERS: usize = 32;
/// The letters of [`NODE`], and the small capitals that Unicode's table of confusable characters leads the look-alikes of some to.
const LETTERS: [(char, char); 7] = [('s', 'ꜱ'), ('e', 'ᴇ'), ('x', 'x'), ('t', 'ᴛ'), ('a', 'ᴀ'), ('n', 'ɴ'), ('t', 'ᴛ')];

/// What an algorithm has printed, as it may be reported.
pub fn of_algorithm(text: &str) -> String {
    quoted(&tamed(text))
}

/// Puts below a log what the node has to say, on a line of its own that no colour reaches.
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

/// The text without what steers a terminal, but for colours and the like. What would be printed over a line is a line of its own: else
/// two harmless texts could make the node's words.
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
            // Also the joiners that some scripts and emoji use: a reader can do without them, a deceiver can't.
            hidden if printable::is_deceptive(hidden) => None,
            other => Some(&rest[..other.len_utf8()]),
        };
        tamed.push_str(kept.unwrap_or(if character == '\u{1b}' { "␛" } else { "\u{fffd}" }));
        rest = &rest[kept.map_or(character.len_utf8(), str::len)..];
    }
    tamed
}

/// The colour sequence (SGR) that a text begins with; `None` for all other sequences, and for the one that hides text.
pub fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.bytes().take(PARAMETERS).position(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'))?;
    let is_colour = parameters[length..].starts_with('m') && !hides(&parameters[..length]);
    is_colour.then(|| &text[..2 + length + 1])
}

/// Whether the parameters of a colour sequence hide text: an 8 that is no part of a colour's number (`38;5;8`, `38:5:8`).
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

/// The text with everything quoted that looks like the node's own beginning of a line.
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

/// Whether a character may be taken for a bracket: of ASCII the brackets, of all others what is no letter. Closing ones too: a line
/// that runs from right to left mirrors them.
fn is_bracket(character: char) -> bool {
    match character {
        '[' | '(' | '{' | '<' | '|' | ']' | ')' | '}' | '>' => true,
        ascii if ascii.is_ascii() => false,
        other => !other.is_alphanumeric() && !is_gap(other),
    }
}

/// Whether a text begins with what looks like the node's name, whatever can't be seen between its letters.
fn looks_like_the_node(text: &str) -> bool {
    let mut rest = text.chars().peekable();
    LETTERS.iter().all(|&letter| {
        skip_gaps(&mut rest);
        rest.next().is_some_and(|character| looks_like(character, letter))
    })
}

fn skip_gaps(rest: &mut Peekable<Chars<'_>>) {
    while let Some(character) = rest.next_if(|&character| is_gap(character)) {
        // Only colours are left of the sequences.
        if character == '\u{1b}' {
            while rest.next_if(|&character| character != 'm').is_some() {}
            rest.next();
        }
    }
}

/// What takes no room between letters, or only room (as Braille's pattern without dots).
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
    // Of a Greek Ν only the capital looks like an N, of a Cyrillic т only the small letter is in the table.
    [whole.to_lowercase(), whole].iter().any(|form| {
        let seen = skeleton(form).find(|&each| !is_combining_mark(each));
        seen.into_iter().flat_map(char::to_lowercase).any(|seen| seen == letter || seen == small_capital)
    })
}

/// The letter in a coloured circle, in a box, or of a flag.
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
            // Mirrored, these are brackets that open.
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
            // What is not meant is left as it is.
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
            // Printed over each other, these would be the node's words.
            ("[zextant] Killed.\r[s\n", "[zextant] Killed.\n[s\n"),
            (" sextant] Killed.\r[\n[z\u{8}sextant]", " sextant] Killed.\n[\n[z> \u{fffd}sextant]"),
            // Moving, clearing, titles, keys, other alphabets, and what swallows all that follows.
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
            // Turned round: ]tnatxes[ would be read as the node's.
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
