//! Whether an expression in `allowed_algorithms` lets in more than it seems to: judged by what it does with examples of its own, whatever
//! its spelling.

use sextant_core::policies::AllowedAlgorithm;

use super::examples::{self, Example, Place};

/// A registry that nobody means.
const STRANGER: &str = "stranger.example";

/// In which way an expression is wider than it seems, with an image that it also lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wide {
    /// The registry isn't bound: a stranger's image may have the rest.
    AnyRegistry(String),
    /// The domain that the registry is in isn't bound: a stranger may have another one.
    AnyDomain(String),
    /// The registry may be left out, and then it is an account at docker.io.
    NoRegistry {
        /// The example with its registry.
        meant: String,
        /// The image without.
        also: String,
    },
    /// A place in the registry's name takes a dot as well as others.
    AnyCharacter(String),
    /// Something may follow the name.
    OpenEnd {
        /// The example.
        meant: String,
        /// The image with something appended.
        also: String,
    },
    /// No example was found that it lets in.
    Unknown,
}

/// All ways in which an expression is wide, each once; none for a name.
pub(super) fn ways(algorithm: &AllowedAlgorithm) -> Vec<Wide> {
    let AllowedAlgorithm::Pattern(regex) = algorithm else { return Vec::new() };
    let allows = |image: &str| algorithm.allows(image);
    let examples: Vec<Example> =
        examples::of(regex.as_str()).into_iter().filter(|example| allows(&example.text)).collect();
    if examples.is_empty() {
        return vec![Wide::Unknown];
    }
    // One of each kind is enough; an expression for every image needs no other word.
    if let Some(wide) = examples.iter().find_map(|example| any_registry(example, &allows)) {
        return vec![wide];
    }
    if let Some(wide) = examples.iter().find_map(any_domain) {
        return vec![wide];
    }
    let none = no_registry(&examples);
    let character = examples.iter().find_map(|example| any_character(example, &allows));
    let end = examples.iter().find_map(|example| open_end(example, &allows));
    none.into_iter().chain(character).chain(end).collect()
}

/// Whether the beginning of an example may be a stranger's.
fn any_registry(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let before = |prefix: &str| format!("{prefix}{text}");
    let strangers = [before(&format!("{STRANGER}/")), before(STRANGER), before(&format!("{STRANGER}/x"))];
    if let Some(image) = strangers.into_iter().find(|image| allows(image)) {
        return Some(Wide::AnyRegistry(image));
    }
    // Nothing of the registry, or of the account at the one that is meant where none is named, is fixed.
    let host = host(text).unwrap_or(text).split([':', '@']).next().map_or(0, str::len);
    let fixed = text.char_indices().zip(&example.places).any(|((at, _), place)| at < host && *place == Place::Fixed);
    (!fixed).then(|| Wide::AnyRegistry(text.clone()))
}

/// Whether the domain in which the registry is, its last two parts, has a place that others may be put into.
fn any_domain(example: &Example) -> Option<Wide> {
    let host = registry(&example.text)?.split(':').next()?;
    let parts: Vec<&str> = host.split('.').collect();
    let is_address = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit()));
    if parts.len() < 2 || is_address || host.starts_with('[') {
        return None;
    }
    let domain: usize = parts.iter().rev().take(2).map(|part| part.chars().count() + 1).sum();
    let end = host.chars().count();
    let places = example.places.get((end + 1).saturating_sub(domain)..end)?;
    places.contains(&Place::Open).then(|| Wide::AnyDomain(example.text.clone()))
}

/// Whether the same is let in with a registry and without one.
fn no_registry(examples: &[Example]) -> Option<Wide> {
    examples.iter().find_map(|with| {
        let registry = registry(&with.text)?;
        let also = with.text.strip_prefix(registry)?.strip_prefix('/')?;
        let is_let_in = examples.iter().any(|without| without.text == also);
        is_let_in.then(|| Wide::NoRegistry { meant: with.text.clone(), also: also.to_owned() })
    })
}

/// The registry of an image, if it names one.
fn registry(image: &str) -> Option<&str> {
    host(image).filter(|host| host.contains(['.', ':']) || *host == "localhost")
}

/// Whether the name of the registry has a place for a dot that takes others too.
fn any_character(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let host = host(&example.text)?;
    let chars: Vec<char> = example.text.chars().collect();
    let count = host.chars().count();
    let at = example.places.iter().take(count).position(|place| *place == Place::DotOrOther)?;
    let others = ['X', 'x', '-', '0', '/'].into_iter();
    let with = |other: char| -> String {
        let mut chars = chars.clone();
        if let Some(place) = chars.get_mut(at) {
            *place = other;
        }
        chars.into_iter().collect()
    };
    others.map(with).find(|image| allows(image)).map(Wide::AnyCharacter)
}

/// The registry of an image, or the account: what is before the first slash.
fn host(image: &str) -> Option<&str> {
    image.split_once('/').map(|(host, _)| host)
}

/// Whether something may follow an example that makes another image of it.
fn open_end(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let part = text.rsplit('/').next().unwrap_or_default();
    let part_places = example.places.get(example.places.len().saturating_sub(part.chars().count())..)?;
    let last = text.chars().next_back()?;
    let last_is_fixed = part_places.last() == Some(&Place::Fixed);
    let suffixes: &[&str] = if part.contains('@') || last == '/' {
        // A digest has its length; and a folder is what it says.
        &[]
    } else if last == ':' {
        // Any version; but a host may have a port at this place.
        if text.contains('/') || !text.contains('.') { &[] } else { &["5000/evil"] }
    } else if part.contains(':') {
        // Another version of what is meant, where the version is said.
        // What looks like one may be a port, and then what is before it is a host.
        let port = !text.contains('/') && part.rsplit(':').next()?.chars().all(|c| c.is_ascii_digit());
        match (last_is_fixed, port) {
            (true, _) => &["-evil", "0"],
            (false, true) => &["/evil"],
            (false, false) => &[],
        }
    } else if last_is_fixed {
        &["-evil", "/evil", "evil", ".evil"]
    } else if part_places.contains(&Place::Fixed) {
        // The end of the name is open, and meant so; but not what is below it.
        &["/evil"]
    } else {
        &[]
    };
    let also = suffixes.iter().map(|suffix| format!("{text}{suffix}")).find(|image| allows(image))?;
    Some(Wide::OpenEnd { meant: text.clone(), also })
}

impl Wide {
    /// What is to be said of it.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::AnyRegistry(image) => format!(
                "lets in images of any registry or account, for example `{image}`. Begin it with the registry that you trust, like \
                 `^registry\\.example\\.org/`."
            ),
            Self::AnyDomain(image) => format!(
                "lets in images of any registry in other domains, for example `{image}`: whoever has such a domain. Write out the registry's \
                 domain, like `^registry\\.example\\.org/`."
            ),
            Self::NoRegistry { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: without a registry, the same name is at docker.io, for whoever has that account. Let the \
                 registry be needed, or write `docker\\.io/`."
            ),
            Self::AnyCharacter(image) => format!(
                "lets in other registries, for example `{image}`: in an expression, a dot stands for any character. Write `\\.` for a dot."
            ),
            Self::OpenEnd { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: nothing in the expression ends the name there. End it with `$`, with `(@|:|$)` for \
                 every version, or with `/` for a whole folder."
            ),
            Self::Unknown => "seems to let in nothing: no image was found that it matches from its beginning. Try it with one that is meant."
                .to_owned(),
        }
    }
}
