//! The policies of the node's owner: which algorithms may run, and for whom.

mod basics;
mod registry;
mod stores;

use std::fmt;

use regex::Regex;

pub use self::basics::{BASICS, is_basics};
pub use self::stores::{AllowedStore, Combination};
use crate::image_reference::ImageReference;

/// Who may run what on this node. Empty lists restrict nothing, as on a regular node.
#[derive(Clone, Debug)]
pub struct Policies {
    /// The images that may run; every image if empty.
    pub allowed_algorithms: Vec<AllowedAlgorithm>,
    /// The algorithm stores whose approved algorithms may run; if empty, no store is asked for.
    pub allowed_stores: Vec<AllowedStore>,
    /// What must let an image in where both lists are set.
    pub combination: Combination,
    /// The ids of the users who may start tasks. A task passes if its user or its organization is allowed; every task does if
    /// this and [`allowed_organizations`](Self::allowed_organizations) are both empty.
    pub allowed_users: Vec<i64>,
    /// The organizations that may start tasks: their ids or names.
    pub allowed_organizations: Vec<String>,
    /// Whether vantage6's own [basics](is_basics) algorithm may run, as far as the lists let it in. Default true.
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
    /// This image, all tags of it where the entry has none, and what has the same content in the same repository.
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

    /// Whether this entry allows the image by its name: equal to it, or matching it from its beginning like Python's `re.match`
    /// (so `^example` also allows `example-evil/image`; end with `$` to bind the end too). An expression that means a repository and its
    /// tags does not allow a registry of that name and its port.
    #[must_use]
    pub fn allows(&self, image: &str) -> bool {
        match self {
            Self::Exact(name) => name == image || self.reference().is_some_and(|own| own.has_in_every_version(image)),
            Self::Pattern(regex) => begins(regex, image) && registry::is_meant(image, &|image| begins(regex, image)),
        }
    }

    /// The image that this entry names, if it names one.
    #[must_use]
    pub fn reference(&self) -> Option<ImageReference> {
        match self {
            Self::Exact(name) => ImageReference::parse(name).ok(),
            Self::Pattern(_) => None,
        }
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

/// Whether an expression matches the beginning of an image. The leftmost match is found: if it is not at the beginning, none is.
fn begins(regex: &Regex, image: &str) -> bool {
    regex.find(image).is_some_and(|found| found.start() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_allowed_as_by_a_regular_node() {
        let table = [
            // Names allow themselves only, even with dots.
            ("example.org/average", "example.org/average", true),
            ("example.org/average:1", "example.org/average:1.0", false),
            // Without tag and digest they allow every one.
            ("example.org/average", "example.org/average:1.0", true),
            ("example.org/average", "example.org/average-evil:1.0", false),
            ("example.org/average", "example.org/average/evil", false),
            ("example.org", "example.org:5000/evil", false),
            ("average", "docker.io/library/average:1", true),
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
}
