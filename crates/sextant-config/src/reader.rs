//! How readers get expected values from the YAML tree. An unexpected value is reported with its position, and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Position};
use super::names;
use super::scalar::Scalar;
use super::yaml::{Entry, Node, Value};

/// A mapping whose keys are settings.
pub(super) struct Section<'a> {
    /// The full key of the mapping, for messages; empty for the whole file.
    pub path: String,
    pub at: Position,
    pub findings: &'a Diagnostics,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
    /// The keys that were read with [`get`](Self::get) and have no value.
    empty: RefCell<Vec<&'static str>>,
}

/// A value in the tree with its full key.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub path: String,
    /// The position of its key, or of the item in a list.
    pub key_at: Position,
    pub node: &'a Node,
    pub findings: &'a Diagnostics,
}

/// What to do about unknown keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// For a regular node's settings: a regular node ignores unknown keys too.
    Warn,
    /// For Sextant's own settings: a typo must not change what is run, and how.
    Refuse,
}

impl<'a> Section<'a> {
    /// The whole file; `None` (reported) if it is not a mapping.
    pub(super) fn root(node: &'a Node, findings: &'a Diagnostics) -> Option<Self> {
        let field = Field { path: String::new(), key_at: node.at, node, findings };
        field.section("settings, one `key: value` a line")
    }

    /// The value of a setting, if it is set and not null.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'a>> {
        let field = self.given(key)?;
        if field.node.is_null() {
            self.empty.borrow_mut().push(key);
            return None;
        }
        Some(field)
    }

    /// The value of a setting, even if it is null.
    pub(super) fn given(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.field(entry))
    }

    /// The value of a required setting. If it is missing, that is reported with what is expected.
    pub(super) fn require(&self, key: &'static str, expected: &str) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            let message = format!("`{}` is missing, expected {expected}.", self.path_of(key));
            let at = (!self.path.is_empty()).then_some(self.at);
            self.findings.error(at, message);
            self.empty.borrow_mut().retain(|empty| *empty != key);
        }
        field
    }

    /// All entries in the order of the file.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field(entry)))
    }

    /// The keys that have been read.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.asked.borrow().clone()
    }

    /// The keys that have not been read.
    pub(super) fn rest(&self) -> Vec<(&'a str, Field<'a>)> {
        let asked = self.asked.borrow();
        self.fields().filter(|(key, _)| !asked.contains(key)).collect()
    }

    /// Reports the unknown keys. Call it after all settings have been read.
    pub(super) fn finish(&self, unknown: Unknown) {
        for (key, field) in self.rest() {
            field.unknown(key, &self.asked.borrow(), unknown);
        }
    }

    /// Like [`finish`](Self::finish), for Sextant's own settings, which must also have a value. `pod_security: $X` with an unset variable
    /// must not fall back to the default, which may be less strict.
    pub(super) fn finish_own(&self) {
        self.refuse_empty();
        self.finish(Unknown::Refuse);
    }

    /// Reports the keys that were read and have no value.
    pub(super) fn refuse_empty(&self) {
        let mut keys = self.empty.take();
        keys.sort_unstable();
        keys.dedup();
        for entry in self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            self.field(entry).refuse_empty();
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        Field { path: self.path_of(&entry.key), key_at: entry.at, node: &entry.value, findings: self.findings }
    }

    fn path_of(&self, key: &str) -> String {
        let key = names::shown_key(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

impl<'a> Field<'a> {
    /// Reports that the value is not what is expected. `advice` says what to do and may be empty.
    pub(super) fn wrong(&self, expected: impl Display, advice: &str) {
        self.mistake(&self.found(), expected, advice);
    }

    /// Like [`wrong`](Self::wrong) for values that must not be shown.
    pub(super) fn wrong_secret(&self, expected: impl Display, advice: &str) {
        self.mistake("something else (not shown)", expected, advice);
    }

    /// Like [`wrong`](Self::wrong) for numbers and fixed words. A text that looks like neither is not shown, since it may be a password.
    pub(super) fn wrong_form(&self, expected: impl Display, advice: &str) {
        match &self.node.value {
            Value::Scalar { text, .. } if !names::is_of_numbers_or_flags(text) => {
                self.mistake("a text (not shown)", expected, advice);
            }
            _ => self.wrong(expected, advice),
        }
    }

    fn mistake(&self, found: &str, expected: impl Display, advice: &str) {
        let name = if self.path.is_empty() { String::new() } else { format!("`{}`: ", self.path) };
        let space = if advice.is_empty() { "" } else { " " };
        self.findings.error(self.node.at, format!("{name}found {found}, expected {expected}.{space}{advice}"));
    }

    /// Reports that the setting has no value.
    pub(super) fn refuse_empty(&self) {
        let message = format!("`{}`: has no value. Give it one, or take it out for the default.", self.path);
        self.findings.error(self.key_at, message);
    }

    /// Reports a warning about the setting, at its key.
    pub(super) fn warn(&self, message: impl Display) {
        self.findings.warn(self.key_at, format!("`{}`: {message}", self.path));
    }

    /// Reports that there is no setting with this name here.
    pub(super) fn unknown(&self, key: &str, known: &[&str], unknown: Unknown) {
        let advice = match names::nearest(key, known.iter().copied()) {
            Some(near) => format!("Did you mean `{near}`?"),
            None if unknown == Unknown::Refuse => {
                let mut known: Vec<&str> = known.to_vec();
                known.sort_unstable();
                known.dedup();
                format!("The settings here are {}.", names::listed(&known, "and"))
            }
            None => "Take it out, or check its spelling.".to_owned(),
        };
        match unknown {
            Unknown::Warn => self.warn(format!("there is no such setting, it has no effect. {advice}")),
            Unknown::Refuse => {
                self.findings.error(self.key_at, format!("`{}`: there is no such setting. {advice}", self.path));
            }
        }
    }

    fn found(&self) -> String {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => format!("`{}`", names::shown(text)),
            _ => self.kind().to_owned(),
        }
    }

    /// The kind of the value, without its text: where a list or mapping is expected, a text may be a password.
    fn kind(&self) -> &'static str {
        match &self.node.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar { .. } if self.node.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
        }
    }

    /// Any single value as written: `0123` stays `0123`.
    pub(super) fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Some(text),
            _ => {
                self.wrong(expected, "");
                None
            }
        }
    }

    /// Like [`text`](Self::text), but neither empty nor surrounded by white space.
    pub(super) fn word(&self, expected: &str) -> Option<&'a str> {
        let text = self.text(expected)?;
        if text.is_empty() || text.trim() != text {
            self.wrong(expected, "");
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        if let Some(Scalar::Bool(value)) = self.node.scalar() {
            return Some(value);
        }
        self.wrong_form("true or false", "Write it without quotes.");
        None
    }

    /// A flag whose default is true. A regular node takes null for false, so null is refused here.
    pub(super) fn flag(&self) -> Option<bool> {
        if !self.node.is_null() {
            return self.boolean();
        }
        self.wrong("true or false", "A regular node takes nothing for false here: write which one is meant.");
        None
    }

    /// A whole number, in quotes or not.
    pub(super) fn integer(&self, expected: &str) -> Option<i128> {
        let number = match self.node.scalar() {
            Some(Scalar::Int(number)) => Some(number),
            Some(Scalar::Text(text)) => text.trim().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong_form(expected, "");
        }
        number
    }

    /// A whole number within a type's range.
    pub(super) fn number<N: TryFrom<i128>>(&self, expected: &str) -> Option<N> {
        let number = self.integer(expected)?;
        let fitting = N::try_from(number).ok();
        if fitting.is_none() {
            self.wrong(expected, "");
        }
        fitting
    }

    /// A maximum count: a whole number from 1 on.
    pub(super) fn count(&self) -> Option<NonZeroUsize> {
        let expected = "a whole number from 1 on";
        let count = NonZeroUsize::new(self.number(expected)?);
        if count.is_none() {
            self.wrong(expected, "Take it out if there should be no limit.");
        }
        count
    }

    pub(super) fn list(&self, expected: &str) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.mistake(self.kind(), expected, "");
            return None;
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            path: format!("{}[{index}]", self.path),
            key_at: node.at,
            node,
            findings: self.findings,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or a single value as a list of one.
    pub(super) fn one_or_more(&self, expected: &str) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Value::Scalar { .. } if !self.node.is_null() => Some(vec![self.clone()]),
            _ => self.list(expected),
        }
    }

    pub(super) fn section(&self, expected: &str) -> Option<Section<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.mistake(self.kind(), expected, "");
            return None;
        };
        Some(Section {
            path: self.path.clone(),
            at: self.key_at,
            findings: self.findings,
            entries,
            asked: RefCell::default(),
            empty: RefCell::default(),
        })
    }

    /// A time like `30s`, `10m` or `7d`: at least a second or, if `zero` is set, zero.
    pub(super) fn duration(&self, zero: bool) -> Option<Duration> {
        let least = if zero { "`0s`" } else { "`1s`" };
        let expected = format!("a time like `30s`, `10m` or `7d`, from {least} to `3650d`");
        let text = self.text(&expected)?;
        let longest = Duration::from_secs(3650 * 24 * 60 * 60);
        // This refuses numbers without a unit, and units without a fixed length.
        let span: Option<jiff::Span> = text.parse().ok();
        let time = span
            .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok())
            .and_then(|time| Duration::try_from(time).ok())
            .filter(|&time| time <= longest && (zero && time.is_zero() || time >= Duration::from_secs(1)));
        if time.is_none() {
            self.wrong_form(expected, "Write a number with its unit: s, m, h or d.");
        }
        time
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, all: &[T], word: impl Fn(T) -> &'static str) -> Option<T> {
        let words: Vec<&str> = all.iter().map(|&one| word(one)).collect();
        let expected = format!("one of {}", names::listed(&words, "or"));
        let text = self.text(&expected)?;
        let choice = all.iter().copied().find(|&one| word(one) == text);
        if choice.is_none() {
            match names::nearest(text, words.iter().copied()) {
                Some(near) => self.wrong(expected, &format!("Did you mean `{near}`?")),
                None => self.wrong_form(expected, ""),
            }
        }
        choice
    }

    /// A mapping of names to values, each checked by `check`.
    pub(super) fn map_of<T>(
        &self,
        expected: &str,
        check: impl Fn(&str, &Field<'a>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let Some(section) = self.section(expected) else {
            return BTreeMap::new();
        };
        section.fields().filter_map(|(key, field)| Some((key.to_owned(), check(key, &field)?))).collect()
    }
}
