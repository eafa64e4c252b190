//! Parses YAML into a tree whose nodes know their positions, so that every error can be shown in its place.
//!
//! It is a tree rather than serde's data model, because serde stops at the first error and an operator needs all of them. It accepts what
//! the regular node's YAML library accepts: one document, including anchors and merge keys.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use secrecy::zeroize::Zeroizing;

use super::diagnostics::{Diagnostics, Position};
use super::names;

/// The largest size of a configuration file.
const MAX_BYTES: usize = 1 << 20;
/// The largest number of nodes. Aliases can repeat a lot of text with a few characters.
const MAX_NODES: usize = 100_000;
/// The deepest nesting: more than a configuration needs, but safe for recursion.
const MAX_DEPTH: usize = 64;

/// A value with its position.
#[derive(Clone)]
pub(super) struct Node {
    pub at: Position,
    pub value: Value,
}

/// What a node holds.
#[derive(Clone)]
pub(super) enum Value {
    /// A single value. Its type is resolved when it is used. Wiped when dropped, since it may be a key.
    Scalar {
        text: Zeroizing<String>,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file. Every key occurs once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub at: Position,
    pub value: Node,
    /// The first few values for this key that merge keys (`<<`) would have brought in without this entry, with the positions of their
    /// keys. Shared, since aliases repeat them.
    pub overridden: Vec<(Position, Arc<Node>)>,
}

impl Entry {
    /// The positions of the entries that this one replaces.
    pub(super) fn replaced(&self) -> impl Iterator<Item = Position> {
        self.overridden.iter().map(|(at, _)| *at)
    }

    /// Records that this entry replaces another one, and those that the other one replaced.
    fn replaces(&mut self, other: Self) {
        // Aliases of aliases could repeat them endlessly.
        const MOST: usize = 16;
        for (at, value) in std::iter::once((other.at, Arc::new(other.value))).chain(other.overridden) {
            if at != self.at && self.overridden.len() < MOST && self.replaced().all(|known| known != at) {
                self.overridden.push((at, value));
            }
        }
    }
}

impl Node {
    /// The entry that a mapping has for a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// The value that a mapping has for a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }
}

/// Reads one document. `None` if the text is empty or not YAML, which has been reported then.
pub(super) fn read(text: &str, findings: &Diagnostics) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let (found, limit) = (text.len(), MAX_BYTES);
        findings.error(None, format!("found {found} bytes, expected at most {limit}. Is this the right file?"));
        return None;
    }
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    let mut builder = Builder::new(findings);
    let mut quoted = Vec::new();
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if let Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) = event {
                    quoted.push(span.start.index()..span.end.index());
                }
                builder.take(event, span)?;
            }
            Err(error) => {
                let message = format!("this is not YAML: {}. Correct it here or shortly before.", error.info());
                findings.error(position(*error.marker()), message);
                return None;
            }
        }
    }
    refuse_other_ends_of_lines(text, &quoted, findings);
    if builder.root.is_none() {
        findings.error(
            None,
            "the file is empty, expected a node's configuration. Write at least `server_url` and `api_key`.",
        );
    }
    builder.root
}

/// Reports characters outside of quotes at which only the regular node's library ends a line. After one in a comment or a text, that
/// library would read settings that Sextant doesn't.
fn refuse_other_ends_of_lines(text: &str, quoted: &[Range<usize>], findings: &Diagnostics) {
    let mut at = Position { line: 1, column: 1 };
    let mut chars = text.chars().enumerate().peekable();
    while let Some((index, char)) = chars.next() {
        let after = quoted.partition_point(|range| range.end <= index);
        let is_quoted = || quoted.get(after).is_some_and(|range| range.contains(&index));
        if matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}') && !is_quoted() {
            let code = u32::from(char);
            let message = format!(
                "found the character U+{code:04X}, expected none such outside of quotes: a regular node ends the line there. Take it out, or \
                 begin a new line."
            );
            findings.error(at, message);
        }
        let ends = char == '\n' || (char == '\r' && chars.peek().is_none_or(|(_, next)| *next != '\n'));
        at = if ends { Position { line: at.line + 1, column: 1 } } else { Position { column: at.column + 1, ..at } };
    }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// A collection that is still being read.
struct Open {
    at: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    /// `key` is the key of the next value.
    Map {
        entries: Vec<Entry>,
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

/// A key in a mapping. A key that is not a text has been reported as an error; its value is read and dropped.
enum Key {
    Text { text: String, at: Position },
    Merge,
    Wrong,
}

struct Builder<'a> {
    findings: &'a Diagnostics,
    open: Vec<Open>,
    /// Anchored nodes with their sizes.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl<'a> Builder<'a> {
    fn new(findings: &'a Diagnostics) -> Self {
        Self { findings, open: Vec::new(), anchors: HashMap::new(), nodes: 0, documents: 0, root: None }
    }

    /// Processes the next event. Returns `None` if reading can't go on.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let at = position(span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "found a second document, expected one. Take out this `---` and what does not belong to the node.";
                    self.findings.error(at, message);
                    return None;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = &tag {
                    plain = self.untag(tag, at)?;
                }
                let value = Value::Scalar { text: Zeroizing::new(text.into_owned()), plain };
                self.put(Node { at, value }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.count(1, at)?;
                tag.map_or(Some(true), |tag| self.untag(&tag, at))?;
                self.open.push(Open { at, anchor, kind: Kind::List(Vec::new()) });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.count(1, at)?;
                tag.map_or(Some(true), |tag| self.untag(&tag, at))?;
                let kind = Kind::Map { entries: Vec::new(), merged: Vec::new(), key: None };
                self.open.push(Open { at, anchor, kind });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    self.findings
                        .error(at, "found an alias of something that contains it, expected one of an earlier value.");
                    return None;
                };
                self.count(size, at)?;
                self.put(node, 0);
            }
            _ => {}
        }
        (self.open.len() <= MAX_DEPTH).then_some(()).or_else(|| {
            self.findings.error(at, format!("found more than {MAX_DEPTH} levels, expected a configuration."));
            None
        })
    }

    fn count(&mut self, nodes: usize, at: Position) -> Option<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            self.findings.error(at, format!("found more than {MAX_NODES} values, expected fewer. Use fewer aliases."));
            return None;
        }
        Some(())
    }

    /// Whether a tagged value's type must still be resolved from its text. `None` for unsupported tags.
    fn untag(&self, tag: &Tag, at: Position) -> Option<bool> {
        match (tag.handle(), tag.suffix()) {
            ("tag:yaml.org,2002:", "str") | ("!" | "", "") => Some(false),
            ("tag:yaml.org,2002:", "null" | "bool" | "int" | "float" | "map" | "seq") => Some(true),
            (handle, suffix) => {
                // A password may begin with `!`.
                let known = handle == "tag:yaml.org,2002:";
                let tag = if known {
                    format!("the tag `{handle}{}`", names::shown(suffix))
                } else {
                    "a tag, which begins with `!`".into()
                };
                let or = if known { "" } else { ", or put it in quotes if it is a text" };
                let message = format!("found {tag}, expected none. Take it out{or}.");
                self.findings.error(at, message);
                None
            }
        }
    }

    fn close(&mut self) {
        let Some(Open { at, anchor, kind }) = self.open.pop() else {
            return;
        };
        let value = match kind {
            Kind::List(items) => Value::List(items),
            Kind::Map { mut entries, merged, .. } => {
                for entry in merged.into_iter().flat_map(|node| self.merged(node)) {
                    match entries.iter_mut().find(|own| own.key == entry.key) {
                        Some(own) => own.replaces(entry),
                        None => entries.push(entry),
                    }
                }
                Value::Map(entries)
            }
        };
        self.put(Node { at, value }, anchor);
    }

    /// The entries that a merge key (`<<`) brings in.
    fn merged(&self, node: Node) -> Vec<Entry> {
        match node.value {
            Value::Map(entries) => entries,
            Value::List(nodes) => nodes.into_iter().flat_map(|node| self.merged(node)).collect(),
            Value::Scalar { .. } => {
                self.findings.error(node.at, "`<<`: found a single value, expected an alias of a mapping.");
                Vec::new()
            }
        }
    }

    fn put(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let findings = self.findings;
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, merged, key }) => match key.take() {
                None => *key = Some(as_key(node, findings)),
                Some(Key::Wrong) => {}
                Some(Key::Merge) => merged.push(node),
                Some(Key::Text { text, at }) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == text) {
                        let line = first.at.line;
                        let text = names::shown_key(&text);
                        findings.error(at, format!("`{text}`: found a second time, expected once. The first is in line {line}; keep one of them."));
                    } else {
                        entries.push(Entry { key: text, at, value: node, overridden: Vec::new() });
                    }
                }
            },
        }
    }
}

fn as_key(node: Node, findings: &Diagnostics) -> Key {
    match node.value {
        Value::Scalar { text, plain } if plain && *text == "<<" => Key::Merge,
        Value::Scalar { text, .. } => Key::Text { text: text.to_string(), at: node.at },
        Value::List(_) | Value::Map(_) => {
            findings.error(node.at, "found a list or mapping as a key, expected a name.");
            Key::Wrong
        }
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}
