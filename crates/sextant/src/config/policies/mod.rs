//! The policies of the node's owner: which algorithms may run, and for whom.

mod basics;
mod examples;
mod width;

use std::fmt;

use regex::Regex;

pub use self::basics::{is_basics, is_exempt_from_list};
use super::names;
use super::reader::{Field, Section, Unknown};
use super::scalar::Scalar;

/// Who may run what on this node. Empty lists restrict nothing, as on a regular node.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The images that may run; every image if empty.
    pub allowed_algorithms: Vec<AllowedAlgorithm>,
    /// The ids of the users who may start tasks. A task passes if its user or its organization is allowed; every task does if
    /// this and [`allowed_organizations`](Self::allowed_organizations) are both empty.
    pub allowed_users: Vec<i64>,
    /// The organizations that may start tasks: their ids or names.
    pub allowed_organizations: Vec<String>,
    /// Whether vantage6's own [basics](is_basics) algorithm may run; [some](is_exempt_from_list) of its names need not be on the list
    /// then. Default true.
    pub allow_basics_algorithm: bool,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            allowed_algorithms: Vec::new(),
            allowed_users: Vec::new(),
            allowed_organizations: Vec::new(),
            allow_basics_algorithm: true,
        }
    }
}

/// One entry of `policies.allowed_algorithms`.
#[derive(Clone)]
pub enum AllowedAlgorithm {
    /// This image and no other.
    Exact(String),
    /// Every image whose beginning matches.
    Pattern(Regex),
}

/// The characters that make an entry an expression instead of a name. A dot is none of them: `some.name` is a name.
const EXPRESSION: &[char] = &['*', '\\', '?', '$', '^', '[', ']', '(', ')', '{', '}', '|', '+'];

impl AllowedAlgorithm {
    /// Reads an entry: an expression if it has any of ``* \ ? $ ^ [ ] ( ) { } | +``, else a name.
    ///
    /// # Errors
    /// If it is an expression that can't be compiled.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        if text.contains(EXPRESSION) { Regex::new(text).map(Self::Pattern) } else { Ok(Self::Exact(text.to_owned())) }
    }

    /// Whether this entry allows the image: equal to it, or matching it from its beginning like Python's `re.match`
    /// (so `^example` also allows `example-evil/image`; end with `$` to bind the end too).
    #[must_use]
    pub fn allows(&self, image: &str) -> bool {
        match self {
            Self::Exact(name) => name == image,
            // The leftmost match is found: if it is not at the beginning, none is.
            Self::Pattern(regex) => regex.find(image).is_some_and(|found| found.start() == 0),
        }
    }

    /// The expression that allows the image in every version, where this entry names one without tag and digest. Nodes from 4.6 on take
    /// such an entry for all of them (vantage6-node 4.6.0, `is_docker_image_allowed`), 4.5.5 for itself only.
    fn in_every_version(&self) -> Option<String> {
        let Self::Exact(name) = self else { return None };
        let last = name.rsplit('/').next().unwrap_or_default();
        (!last.contains([':', '@'])).then(|| format!("^{}(@|:|$)", name.replace('.', r"\.")))
    }

    /// The entry as the file has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(name) => name,
            Self::Pattern(regex) => regex.as_str(),
        }
    }
}

impl fmt::Debug for AllowedAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.debug_tuple("Exact").field(name).finish(),
            Self::Pattern(regex) => f.debug_tuple("Pattern").field(&regex.as_str()).finish(),
        }
    }
}

/// Reads `policies`. Whatever would restrict more than Sextant can is a mistake: a node must never do more than its owner
/// allowed.
pub(super) fn read(file: &Section<'_>) -> Option<Policies> {
    let Some(field) = file.get("policies") else {
        return Some(Policies::default());
    };
    let section = field.section("a mapping like `allowed_algorithms: [...]`")?;
    // What runs locally has the names that its owner gave it, in the one way in which they are written there.
    let versions = !super::is_local(file);
    let algorithms = entries(&section, "allowed_algorithms", "a list of images or regular expressions", |field| {
        let algorithm = algorithm(field)?;
        if let Some(every) =
            algorithm.in_every_version().filter(|_| versions && !is_exempt_from_list(algorithm.as_str()))
        {
            field.warn(format!(
                "has no tag, and lets in only tasks that name the image without one, as on a node of 4.5.5. If every version may run, as nodes \
                 from 4.6 on understand it, write `{every}`; else `{}`.",
                every.replace("(@|:|$)", "$")
            ));
        }
        for wide in width::ways(&algorithm) {
            field.warn(wide.advice());
        }
        Some(algorithm)
    });
    let users = entries(&section, "allowed_users", "a list of user ids", user);
    let organizations = entries(&section, "allowed_organizations", "a list of organization ids or names", organization);
    let basics = section.given("allow_basics_algorithm").map_or(Some(true), |field| field.flag());
    // So it is on a regular node, too; but a list says "only these", and few know.
    let is_list = algorithms.as_ref().is_some_and(|algorithms| !algorithms.is_empty());
    if let Some(field) = section.get("allowed_algorithms").filter(|_| is_list)
        && section.get("allow_basics_algorithm").is_none()
    {
        field.warn(
            "vantage6's own basics algorithm (harbor2.vantage6.ai/algorithms/basics) may run besides. Say `allow_basics_algorithm: false`, \
             or `true` if it is meant to.",
        );
    }
    refuse_what_is_not_enforced(&section);
    section.finish(Unknown::Refuse);
    Some(Policies {
        allowed_algorithms: algorithms?,
        allowed_users: users?,
        allowed_organizations: organizations?,
        allow_basics_algorithm: basics?,
    })
}

fn entries<T>(
    section: &Section<'_>,
    key: &'static str,
    expected: &str,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(field) = section.given(key) else {
        return Some(Vec::new());
    };
    let items = if field.node.is_null() { Vec::new() } else { field.one_or_more(expected)? };
    if items.is_empty() {
        field.warn("is empty, which restricts nothing. Take it out, or write what is allowed.");
    }
    // All are read before any is given up on.
    let entries: Vec<Option<T>> = items.iter().map(read).collect();
    entries.into_iter().collect()
}

fn algorithm(field: &Field<'_>) -> Option<AllowedAlgorithm> {
    let expected = "an image or a regular expression";
    let text = field.word(expected)?;
    match AllowedAlgorithm::new(text) {
        // The beginning of any image is the empty text.
        Ok(AllowedAlgorithm::Pattern(_)) if examples::matches_empty(text) != Some(false) => {
            let advice = "This one matches the empty text, and so the beginning of every image: it would let in all. To let in all, take the \
                          list out.";
            field.wrong("an expression that needs something of an image", advice);
            None
        }
        Ok(algorithm) => Some(algorithm),
        Err(error) => {
            let reason = match &error {
                // Shows the expression over several lines; the last one says what is wrong.
                regex::Error::Syntax(text) => {
                    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
                }
                other => other.to_string(),
            };
            let advice =
                format!("It can't be read: {reason}. Look-around and back-references of Python are not supported.");
            field.wrong(expected, &advice);
            None
        }
    }
}

/// Refuses an id that is not written as people read it: to YAML, `010` is eight.
fn decimal(field: &Field<'_>, text: &str) -> Option<()> {
    let number = match field.node.scalar() {
        Some(Scalar::Int(number)) => Some(number),
        _ => text.parse().ok(),
    };
    let fine = number.is_none_or(|number: i128| number.to_string() == text.trim());
    fine.then_some(()).or_else(|| {
        field.wrong("an id in plain digits, without zeros before it", "YAML reads such numbers in ways of its own.");
        None
    })
}

fn user(field: &Field<'_>) -> Option<i64> {
    let expected = "a user's id, a number";
    let id = field.number(expected)?;
    decimal(field, field.text(expected)?)?;
    (id > 0).then_some(id).or_else(|| {
        field.wrong(expected, "");
        None
    })
}

fn organization(field: &Field<'_>) -> Option<String> {
    let entry = field.word("an organization's id or name")?;
    decimal(field, entry)?;
    if entry.parse::<i64>().is_err() {
        field.warn(format_args!(
            "`{}` is a name, which is weaker than a number: an organization that may edit itself may take any name that is free at the \
             server. Write its id.",
            names::shown(entry)
        ));
    }
    Some(entry.to_owned())
}

/// Policies of a regular node that Sextant does not know how to enforce yet.
fn refuse_what_is_not_enforced(section: &Section<'_>) {
    for (key, advice) in [
        ("allowed_algorithm_stores", "List what is allowed in `allowed_algorithms` instead."),
        ("allow_either_whitelist_or_store", "Take it out together with `allowed_algorithm_stores`."),
        (
            "require_algorithm_pull",
            "Take it out and set `kubernetes.algorithm_pull_policy: Always`, which does the same.",
        ),
    ] {
        if let Some(field) = section.get(key).filter(|field| field.node.asks()) {
            let message = format!("`{}`: this version of Sextant can't enforce this policy. {advice}", field.path);
            field.findings.error(field.key_at, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_allowed_as_by_a_regular_node() {
        let table = [
            // Names allow themselves only, even with dots.
            ("example.org/average", "example.org/average", true),
            ("example.org/average", "example.org/average:1.0", false),
            ("example.org/average", "exampleXorg/average", false),
            // Expressions match from the beginning, not to the end.
            (r"^example\.org/average$", "example.org/average", true),
            (r"^example\.org/average$", "example.org/average:1.0", false),
            (r"example\.org/.*", "example.org/any/thing", true),
            (r"example\.org", "example.org.evil.net/x", true),
            (r"average", "example.org/average", false),
            (r"average$", "example.org/average", false),
            (r"a|b/c", "b/c", true),
            (r"a|b/c", "xb/c", false),
            // Comments in an expression can't let anything else in.
            ("(?x)a # (", "a", true),
        ];
        for (entry, image, expected) in table {
            let allowed = AllowedAlgorithm::new(entry).unwrap();
            assert_eq!(allowed.allows(image), expected, "{entry} {image}");
            assert_eq!(allowed.as_str(), entry);
        }
    }

    #[test]
    fn an_entry_without_a_tag_has_an_expression_for_every_one() {
        for (entry, expected) in [
            ("example.org/v6-average", Some(r"^example\.org/v6-average(@|:|$)")),
            ("example.org:5000/average", Some(r"^example\.org:5000/average(@|:|$)")),
            ("average", Some("^average(@|:|$)")),
            ("example.org/average:1.0", None),
            ("example.org/average@sha256:0", None),
            (r"^example\.org/average$", None),
        ] {
            let every = AllowedAlgorithm::new(entry).unwrap().in_every_version();
            assert_eq!(every.as_deref(), expected, "{entry}");
            for version in every.iter().flat_map(|_| ["", ":1.0", "@sha256:0", ":1.0@sha256:0"]) {
                let allowed = AllowedAlgorithm::new(expected.unwrap()).unwrap();
                assert!(allowed.allows(&format!("{entry}{version}")), "{entry} {version}");
                assert!(!allowed.allows(&format!("{entry}-evil{version}")), "{entry} {version}");
            }
        }
    }
}
