//! The algorithm stores that the node's owner trusts.

use std::fmt;

use regex::Regex;

use super::{EXPRESSION, begins};

/// One entry of `policies.allowed_algorithm_stores`.
#[derive(Clone)]
pub enum AllowedStore {
    /// The store at this address, without a trailing slash.
    Exact(String),
    /// Every store whose address begins with a match of the expression.
    Pattern(Regex),
}

/// Which lists must allow an image if both algorithms and stores are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combination {
    /// Both the list of algorithms and a store.
    #[default]
    Both,
    /// Either of them.
    Either,
}

impl AllowedStore {
    /// Reads an entry, by the rules for algorithms: an expression if it contains any of their special characters, else an address.
    ///
    /// # Errors
    /// If the expression can't be compiled.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        if text.contains(EXPRESSION) {
            Regex::new(text).map(Self::Pattern)
        } else {
            Ok(Self::Exact(text.trim_end_matches('/').to_owned()))
        }
    }

    /// Whether this entry allows the store at an address, as the server reports it: with the path of its API.
    #[must_use]
    pub fn allows(&self, url: &str) -> bool {
        match self {
            Self::Exact(own) => own == url.trim_end_matches('/'),
            Self::Pattern(regex) => begins(regex, url),
        }
    }

    /// The entry as written, for messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(url) => url,
            Self::Pattern(regex) => regex.as_str(),
        }
    }
}

impl fmt::Debug for AllowedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AllowedStore({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_allowed_as_by_a_regular_node() {
        for (entry, url, expected) in [
            ("https://store.example.org/api", "https://store.example.org/api", true),
            ("https://store.example.org/api/", "https://store.example.org/api", true),
            ("https://store.example.org", "https://store.example.org/api", false),
            ("https://store.example.org/api", "http://store.example.org/api", false),
            ("https://store.example.org/api", "https://storeXexample.org/api", false),
            (r"^https://store\.example\.org/", "https://store.example.org/api", true),
            (r"store\.example\.org", "https://store.example.org/api", false),
            (r"https://store\.example\.org", "https://store.example.org.evil.example/api", true),
        ] {
            assert_eq!(AllowedStore::new(entry).unwrap().allows(url), expected, "{entry} {url}");
        }
    }
}
