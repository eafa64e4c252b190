//! Generates short example matches of a regular expression from its syntax tree. Every branch is in at least one example.

use std::cell::Cell;
use std::collections::BTreeSet;

use regex_syntax::Parser;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// The characters of image references, in the order in which examples use them.
const CHARACTERS: &str = "xa0bcdefghijklmnopqrstuvwyz123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_-./:@";
/// The largest number of examples for an expression.
const MOST: usize = 256;
/// The largest length of an example.
const LONGEST: usize = 1000;

/// A text that an expression matches, if its assertions do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Example {
    pub text: String,
    /// For each character, what the expression also accepts in its place.
    pub places: Vec<Place>,
    /// Positions, counted in characters, at which an optional part of the expression was left out.
    pub left_out: Vec<usize>,
}

/// What an expression accepts at one position of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This character, in lower or upper case, or one of two or three.
    Fixed,
    /// Others too, but no dot or slash.
    Open,
    /// A dot or slash as well as others. Probably the dot or slash of a host name was meant, and the others make other names.
    DotOrOther,
}

/// Whether an expression matches the empty text, and so the beginning of any text. `None` if it can't be parsed.
pub(super) fn matches_empty(expression: &str) -> Option<bool> {
    let hir = Parser::new().parse(expression).ok()?;
    Some(hir.properties().minimum_len() == Some(0))
}

/// What a stranger may insert where an expression repeats a class of characters: an account, registries, and their endings.
const OF_STRANGERS: [&str; 12] = [
    "evil/x",
    "evil:5000/x",
    "evil.example/x",
    "[2001:db8::1]:5000/x",
    "EVIL/x",
    "0/0",
    "0:5000/0",
    "8.8.8.8/0",
    "8.8.8.8",
    "/x",
    "/0",
    ":5000/x",
];

/// Examples like those of [`of`], with strangers' names where they fit.
pub(super) fn of_strangers(expression: &str) -> Vec<Example> {
    let of = |text: &&'static str| {
        let hir = Parser::new().parse(expression).ok()?;
        let search = Search { stranger: Some(text), ..Search::default() };
        Some(search.examples(&hir).into_iter().take(MOST / 4).collect::<Vec<_>>())
    };
    OF_STRANGERS.iter().filter_map(of).flatten().collect()
}

/// Examples of what an expression matches. Assertions (`$`, `\b`) are ignored, so some examples may not match.
pub(super) fn of(expression: &str) -> Vec<Example> {
    Parser::new().parse(expression).map_or_else(|_| Vec::new(), |hir| Search::default().examples(&hir))
}

/// Examples like those of [`of`], with fixed characters repeated once more than needed where the expression allows it.
pub(super) fn of_repeats(expression: &str) -> Vec<Example> {
    let search = Search { repeats: true, ..Search::default() };
    Parser::new().parse(expression).map_or_else(|_| Vec::new(), |hir| search.examples(&hir))
}

/// Whether the examples don't cover the whole expression, because it has too many branches or too long ones.
pub(super) fn are_cut(expression: &str) -> bool {
    let search = Search::default();
    Parser::new().parse(expression).is_ok_and(|hir| {
        search.examples(&hir);
        search.cut.get()
    })
}

/// How to generate examples.
#[derive(Default)]
struct Search<'a> {
    /// A text to insert in place of a repeated character class, where it fits.
    stranger: Option<&'a str>,
    /// Whether to repeat fixed parts once more.
    repeats: bool,
    /// Whether a branch was left out.
    cut: Cell<bool>,
}

impl Search<'_> {
    fn examples(&self, hir: &Hir) -> Vec<Example> {
        let found = match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => vec![Example::default()],
            HirKind::Literal(literal) => {
                let text = String::from_utf8_lossy(&literal.0).into_owned();
                let places = text.chars().map(|_| Place::Fixed).collect();
                vec![Example { text, places, left_out: Vec::new() }]
            }
            HirKind::Class(class) => character(class).into_iter().collect(),
            HirKind::Capture(capture) => self.examples(&capture.sub),
            HirKind::Repetition(repetition) => {
                if let Some(text) = self.stranger.filter(|text| fits(text, repetition)) {
                    let places = text.chars().map(|_| Place::Open).collect();
                    return vec![Example { text: text.to_owned(), places, left_out: Vec::new() }];
                }
                let mut once = self.examples(&repetition.sub);
                if !repeats(repetition, '.') {
                    // Among several repeated characters, none was meant to be the slash after a host.
                    let places = once.iter_mut().flat_map(|example| &mut example.places);
                    places.filter(|place| **place == Place::DotOrOther).for_each(|place| *place = Place::Open);
                }
                let least = usize::try_from(repetition.min).unwrap_or(LONGEST).min(LONGEST);
                let least_often = once.iter().filter_map(|example| example.times(least.max(1)));
                let least_often: Vec<Example> = least_often.collect();
                self.note(least_often.len() < once.len());
                let more = least.max(1) + 1;
                let has_more =
                    self.repeats && repetition.max.is_none_or(|max| usize::try_from(max).is_ok_and(|max| more <= max));
                let repeated = once.iter().filter(|example| has_more && example.is_fixed());
                let repeated = repeated.filter_map(|example| example.times(more));
                let without = (least == 0).then(Example::without);
                repeated.chain(without).chain(least_often.iter().cloned()).collect()
            }
            HirKind::Concat(parts) => self.sequence(parts),
            HirKind::Alternation(branches) => {
                // Each branch gets an equal share, so that the last one is covered too.
                let room = (MOST / branches.len()).max(1);
                let of_branch = |branch| {
                    let found = self.examples(branch);
                    self.note(found.len() > room);
                    found.into_iter().take(room)
                };
                branches.iter().flat_map(of_branch).collect::<Vec<_>>()
            }
        };
        self.note(found.len() > MOST);
        found.into_iter().take(MOST).collect()
    }

    /// Records whether a branch was left out.
    fn note(&self, is_left_out: bool) {
        self.cut.set(self.cut.get() || is_left_out);
    }

    /// The examples of a sequence: all combinations if these are few, else each example of each part at least once.
    fn sequence(&self, parts: &[Hir]) -> Vec<Example> {
        let parts: Vec<Vec<Example>> = parts.iter().map(|part| self.examples(part)).collect();
        if parts.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        let all = parts.iter().try_fold(1usize, |all, part| all.checked_mul(part.len()).filter(|all| *all <= MOST));
        if all.is_some() {
            return parts.iter().fold(vec![Example::default()], |before, part| {
                before.iter().flat_map(|before| part.iter().filter_map(|after| before.then(after))).collect()
            });
        }
        let chosen = |choice: &dyn Fn(usize, &[Example]) -> usize| {
            parts.iter().enumerate().try_fold(Example::default(), |before, (index, part)| {
                before.then(part.get(choice(index, part)).or_else(|| part.first())?)
            })
        };
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let alone = parts.iter().enumerate().flat_map(|(index, part)| (0..part.len()).map(move |one| (index, one)));
        let alone: Vec<(usize, usize)> = alone.collect();
        let one_other = alone.iter().filter_map(|(at, one)| chosen(&|index, _| if index == *at { *one } else { 0 }));
        let together = (0..longest).filter_map(|turn| chosen(&|_, part| turn % part.len()));
        let found: Vec<Example> = together.chain(one_other).take(MOST).collect();
        self.note(found.is_empty());
        found
    }
}

/// Whether a repeated character class accepts a text.
fn fits(text: &str, repetition: &Repetition) -> bool {
    let count = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let is_as_long = repetition.min <= count && repetition.max.is_none_or(|max| count <= max);
    is_as_long && class_of(repetition).is_some_and(|class| text.chars().all(|c| has(class, c)))
}

/// Whether a repeated character class contains a character. Repetitions of anything else count as if they do.
fn repeats(repetition: &Repetition, c: char) -> bool {
    class_of(repetition).is_none_or(|class| has(class, c))
}

fn class_of(repetition: &Repetition) -> Option<&Class> {
    let mut sub = &*repetition.sub;
    while let HirKind::Capture(capture) = sub.kind() {
        sub = &capture.sub;
    }
    match sub.kind() {
        HirKind::Class(class) => Some(class),
        _ => None,
    }
}

fn has(class: &Class, c: char) -> bool {
    match class {
        Class::Unicode(class) => class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => {
            u8::try_from(c).is_ok_and(|c| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c)))
        }
    }
}

/// A character of a class, preferably one that occurs in image references.
fn character(class: &Class) -> Option<Example> {
    let usual: Vec<char> = CHARACTERS.chars().filter(|c| has(class, *c)).collect();
    let Some(first) = usual.first() else {
        let other = match class {
            Class::Unicode(class) => class.ranges().first()?.start(),
            Class::Bytes(class) => char::from(class.ranges().first()?.start()),
        };
        return Some(Example { text: other.to_string(), places: vec![Place::Open], left_out: Vec::new() });
    };
    let choices: BTreeSet<char> = usual.iter().map(char::to_ascii_lowercase).collect();
    let place = match choices.len() {
        0 | 1 => Place::Fixed,
        _ if has(class, '.') || has(class, '/') => Place::DotOrOther,
        2 | 3 => Place::Fixed,
        _ => Place::Open,
    };
    Some(Example { text: first.to_string(), places: vec![place], left_out: Vec::new() })
}

impl Example {
    /// Whether the expression spells the example out.
    fn is_fixed(&self) -> bool {
        !self.places.is_empty() && self.places.iter().all(|place| *place == Place::Fixed)
    }

    /// The empty example of an optional part.
    fn without() -> Self {
        Self { left_out: vec![0], ..Self::default() }
    }

    fn then(&self, after: &Self) -> Option<Self> {
        let fits = self.places.len() + after.places.len() <= LONGEST;
        fits.then(|| Self {
            text: format!("{}{}", self.text, after.text),
            places: [self.places.as_slice(), &after.places].concat(),
            left_out: self
                .left_out
                .iter()
                .copied()
                .chain(after.left_out.iter().map(|at| self.places.len() + at))
                .collect(),
        })
    }

    fn times(&self, count: usize) -> Option<Self> {
        let fits = self.places.len().checked_mul(count).is_some_and(|length| length <= LONGEST);
        let left_out = self.left_out.clone();
        fits.then(|| Self { text: self.text.repeat(count), places: self.places.repeat(count), left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_is_in_an_example() {
        for (expression, expected) in [
            ("a", vec!["a"]),
            ("a|b", vec!["x", "a"]),
            ("^(ab|cd)?/e+$", vec!["/e", "ab/e", "cd/e"]),
            ("a{3}", vec!["aaa"]),
            ("a*", vec!["", "a"]),
            (".", vec!["x"]),
            ("(?i)ab", vec!["ab"]),
        ] {
            let found: Vec<String> = of(expression).into_iter().map(|example| example.text.to_lowercase()).collect();
            // An alternation of single characters is parsed as a class.
            let expected = if expression == "a|b" { vec!["a"] } else { expected };
            assert_eq!(found, expected, "{expression}");
        }
        let many = "(a0|b0|c0|d0|e0|f0|g0|h0)".repeat(6) + "(x|y0)";
        let found = of(&many);
        assert!(found.len() <= MOST && found.iter().any(|example| example.text.ends_with("y0")), "{found:?}");
    }

    #[test]
    fn what_is_left_out_is_told() {
        let branches = |count: usize| (0..count).map(|number| format!("r/a{number}")).collect::<Vec<_>>().join("|");
        for (expression, expected) in [
            (branches(MOST), false),
            (branches(MOST + 1), true),
            (format!("^({})(@|:|$)", branches(200)), false),
            (format!("^(({})|x)$", branches(MOST)), true),
            ("^r/a(@|:|$)".into(), false),
            ("a{900}".into(), false),
        ] {
            assert_eq!(are_cut(&expression), expected, "{expression:.40}");
        }
    }

    #[test]
    fn what_is_fixed_may_be_repeated() {
        for (expression, expected) in
            [("ab+", vec!["abb", "ab"]), ("ab?", vec!["a", "ab"]), ("a{2}", vec!["aa"]), ("[a-z]+", vec!["x"])]
        {
            let found: Vec<String> = of_repeats(expression).into_iter().map(|example| example.text).collect();
            assert_eq!(found, expected, "{expression}");
        }
    }

    #[test]
    fn what_may_stand_at_a_place() {
        for (expression, expected) in [
            ("a", Place::Fixed),
            ("(?i)k", Place::Fixed),
            ("[ab]", Place::Fixed),
            ("[a-d]", Place::Open),
            (r"\d", Place::Open),
            (".", Place::DotOrOther),
            ("[^/]", Place::DotOrOther),
            (r"\S", Place::DotOrOther),
            (r"[.\-]", Place::DotOrOther),
            (r"\W", Place::DotOrOther),
        ] {
            let places: Vec<Place> = of(expression).into_iter().flat_map(|example| example.places).collect();
            assert_eq!(places, [expected], "{expression}");
        }
    }

    #[test]
    fn large_expressions_have_bounds() {
        for expression in ["a{900}{2}", "((a|b){10}|(c|d){10}){20}", "(a?b?c?d?e?f?g?h?i?j?k?l?m?n?o?p?){3}"] {
            let found = of(expression);
            assert!(found.len() <= MOST && found.iter().all(|example| example.places.len() <= LONGEST), "{expression}");
        }
    }
}
