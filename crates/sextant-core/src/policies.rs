//! The policies of the node's owner: which algorithms may run, and for whom.

mod basics;
mod registry;
mod stores;

use std::fmt;

use regex::Regex;

pub use self::basics::{BASICS, is_basics};
pub use self::stores::{AllowedStore, Combination};
use crate::image_reference::ImageReference;

/// Who may run what on this node. Empty lists restrict nothing, as in vantage6's own node.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The images that may run; every image if empty.
    pub allowed_algorithms: Vec<AllowedAlgorithm>,
    /// The algorithm stores whose approved algorithms may run; if empty, no store is required.
    pub allowed_stores: Vec<AllowedStore>,
    /// Which of the two lists must allow an image if both are set.
    pub combination: Combination,
    /// The IDs of the users who may start tasks. A task is allowed if its user or its organization is. Every task is allowed if this and
    /// [`allowed_organizations`](Self::allowed_organizations) are both empty.
    pub allowed_users: Vec<i64>,
    /// The organizations that may start tasks, by ID or name.
    pub allowed_organizations: Vec<String>,
    /// Whether vantage6's own [basics](is_basics) algorithm may run, if the lists allow it. True by default.
    pub allow_basics_algorithm: bool,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            allowed_algorithms: Vec::new(),
            allowed_stores: Vec::new(),
            combination: Combination::Both,
            allowed_users: Vec::new(),
            allowed_organizations: Vec::new(),
            allow_basics_algorithm: true,
        }
    }
}

/// One entry of `policies.allowed_algorithms`.
#[derive(Clone)]
pub enum AllowedAlgorithm {
    /// This image, with any tag if the entry has none, and any image with the same content in the same repository.
    Exact(String),
    /// Every image that the expression matches from its beginning.
    Pattern(Regex),
}

/// The characters that make an entry an expression instead of a name. A dot is not one of them: `some.name` is a name.
const EXPRESSION: &[char] = &['*', '\\', '?', '$', '^', '[', ']', '(', ')', '{', '}', '|', '+'];

impl AllowedAlgorithm {
    /// Parses an entry: an expression if it contains any of ``* \ ? $ ^ [ ] ( ) { } | +``, else a name.
    ///
    /// # Errors
    /// If it is an expression that can't be compiled.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        if text.contains(EXPRESSION) { Regex::new(text).map(Self::Pattern) } else { Ok(Self::Exact(text.to_owned())) }
    }

    /// Whether this entry allows the image by its name: equal to it, or matching it from its beginning like Python's `re.match`
    /// (so `^example` also allows `example-evil/image`; end it with `$` to match the whole name). An expression for a repository and its
    /// tags does not allow a registry with that name and a port.
    #[must_use]
    pub fn allows(&self, image: &str) -> bool {
        match self {
            Self::Exact(name) => name == image || self.reference().is_some_and(|own| own.has_in_every_version(image)),
            Self::Pattern(regex) => begins(regex, image) && registry::is_meant(image, &|image| begins(regex, image)),
        }
    }

    /// The image that this entry names; `None` for an expression.
    #[must_use]
    pub fn reference(&self) -> Option<ImageReference> {
        match self {
            Self::Exact(name) => ImageReference::parse(name).ok(),
            Self::Pattern(_) => None,
        }
    }

    /// The entry as written in the configuration.
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

/// Whether an expression matches the beginning of an image. `find` returns the leftmost match, so no other match can begin earlier.
fn begins(regex: &Regex, image: &str) -> bool {
    regex.find(image).is_some_and(|found| found.start() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_allowed_as_by_a_regular_node() {
        let table = [
            // A name allows only itself, even with dots.
            ("example.org/average", "example.org/average", true),
            ("example.org/average:1", "example.org/average:1.0", false),
            // Without tag and digest, a name allows every tag and digest.
            ("example.org/average", "example.org/average:1.0", true),
            ("example.org/average", "example.org/average-evil:1.0", false),
            ("example.org/average", "example.org/average/evil", false),
            ("example.org", "example.org:5000/evil", false),
            ("average", "docker.io/library/average:1", true),
            ("example.org/average", "exampleXorg/average", false),
            // Expressions match from the beginning, but need not match to the end.
            (r"^example\.org/average$", "example.org/average", true),
            (r"^example\.org/average$", "example.org/average:1.0", false),
            (r"example\.org/.*", "example.org/any/thing", true),
            (r"example\.org", "example.org.evil.net/x", true),
            (r"average", "example.org/average", false),
            (r"average$", "example.org/average", false),
            (r"a|b/c", "b/c", true),
            (r"a|b/c", "xb/c", false),
            // Comments in an expression can't allow anything else.
            ("(?x)a # (", "a", true),
        ];
        for (entry, image, expected) in table {
            let allowed = AllowedAlgorithm::new(entry).unwrap();
            assert_eq!(allowed.allows(image), expected, "{entry} {image}");
            assert_eq!(allowed.as_str(), entry);
        }
    }
}
