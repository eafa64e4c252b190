//! Whether an expression in `allowed_algorithms` allows more than it seems to. It is judged by what it does with generated examples, not
//! by its spelling.

use sextant_core::image_reference::ImageReference;
use sextant_core::policies::AllowedAlgorithm;

use super::examples::{self, Example, Place};
use super::owners::{domain, reference};
use super::{owners, shared};

/// A registry that no owner intends to allow.
const STRANGER: &str = "stranger.example";

/// The warning about an expression that is not tested in full.
pub(super) const TOO_LARGE: &str = "has more alternatives, or longer ones, than are tried here, so what it lets in besides what is meant is \
                                    not known. Write it as several entries.";

/// How an expression is wider than it seems, with an image that it also allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wide {
    /// The registry is not fixed, so a stranger's image may have the rest.
    AnyRegistry(String),
    /// The registry's domain is not fixed, so a stranger may have another one.
    AnyDomain(String),
    /// The registry is optional. Without it, the name is an account at docker.io.
    NoRegistry {
        /// The example with its registry.
        meant: String,
        /// The image without its registry.
        also: String,
    },
    /// A place in the registry's name accepts a dot as well as others.
    AnyCharacter(String),
    /// If a part of the name is left out, the registry is in another domain.
    OtherDomain {
        /// The example with that part.
        meant: String,
        /// The image without that part.
        also: String,
    },
    /// If a part of the name is left out, the image is in another account of a registry that is open to everybody.
    OtherAccount {
        /// The example with that part.
        meant: String,
        /// The image without that part.
        also: String,
    },
    /// Something may follow the name.
    OpenEnd {
        /// The example.
        meant: String,
        /// The image with something appended.
        also: String,
    },
    /// The account is not fixed, at a registry that is open to everybody.
    AnyAccount(String),
    /// In upper case, an account is the host of a registry.
    Capitals {
        /// The example.
        meant: String,
        /// The image at that host.
        also: String,
    },
    /// The digest is incomplete. An image can be made so that its digest has a given beginning.
    Digest {
        /// The example.
        meant: String,
        /// An image with another digest.
        also: String,
    },
    /// If the image has a digest, the tag that the expression requires is ignored.
    AnyContent {
        /// The example.
        meant: String,
        /// The image with any digest.
        also: String,
    },
    /// If a character or a part is repeated, the image is in another domain or account.
    Repeated {
        /// The example.
        meant: String,
        /// The image with the repetition.
        also: String,
    },
    /// The expression has more branches than there are examples.
    TooLarge,
    /// No example was found that the expression allows.
    Unknown,
}

/// All ways in which an expression is too wide, each once; none for a name.
pub(super) fn ways(algorithm: &AllowedAlgorithm) -> Vec<Wide> {
    let AllowedAlgorithm::Pattern(regex) = algorithm else { return Vec::new() };
    let allows = |image: &str| algorithm.allows(image);
    let examples: Vec<Example> =
        examples::of(regex.as_str()).into_iter().filter(|example| allows(&example.text)).collect();
    let cut = examples::are_cut(regex.as_str()).then_some(Wide::TooLarge);
    if examples.is_empty() {
        return vec![cut.unwrap_or(Wide::Unknown)];
    }
    // One of each kind is enough. An expression that allows every image needs no other warning.
    if let Some(wide) = examples.iter().find_map(|example| any_registry(example, &allows)) {
        return vec![wide];
    }
    if let Some(wide) = examples.iter().find_map(any_domain) {
        return vec![wide];
    }
    let is_new = |example: &Example| examples.iter().all(|known| known.text != example.text);
    let strangers = examples::of_strangers(regex.as_str()).into_iter().filter(is_new);
    let strangers = strangers.filter(|example| allows(&example.text) && reference(&example.text).is_some());
    let strange = strangers.into_iter().find_map(|example| stranger(&example, &allows));
    let none = no_registry(&examples).or_else(|| other_domain(&examples)).or_else(|| owners::other_account(&examples));
    let character = examples.iter().find_map(|example| any_character(example, &allows));
    let port = examples.iter().find_map(|example| port(example, &examples, &allows));
    let end = port.or_else(|| examples.iter().find_map(|example| open_end(example, &examples, &allows)));
    let account = examples.iter().find_map(|example| any_account(example, &allows));
    let capitals = examples.iter().find_map(|example| capitals(example, &allows));
    let digest = examples.iter().find_map(|example| digest(example, &allows));
    let content = examples.iter().find_map(|example| any_content(example, &allows));
    let repeated = repeated(regex.as_str(), &examples, &allows);
    let of_name = strange.into_iter().chain(none).chain(repeated).chain(character).chain(end);
    of_name.chain(account).chain(capitals).chain(digest).chain(content).chain(cut).collect()
}

/// Whether a stranger may choose the beginning of an example.
fn any_registry(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let before = |prefix: &str| format!("{prefix}{text}");
    let strangers = [before(&format!("{STRANGER}/")), before(STRANGER), before(&format!("{STRANGER}/x"))];
    if let Some(image) = strangers.into_iter().find(|image| allows(image)) {
        return Some(Wide::AnyRegistry(image));
    }
    // Nothing of the registry is fixed, nor of the account at the default registry if none is named.
    let whole = host(text).unwrap_or(text);
    let host = whole.split([':', '@']).next().map_or(0, str::len);
    if !owners::begin_of_address_is_fixed(whole, example) {
        return Some(Wide::AnyRegistry(text.clone()));
    }
    let fixed = text.char_indices().zip(&example.places).any(|((at, _), place)| at < host && *place == Place::Fixed);
    (!fixed).then(|| Wide::AnyRegistry(text.clone()))
}

/// Whether the open parts of an expression allow a registry or account of a stranger.
fn stranger(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let slash = text.chars().position(|c| c == '/');
    let is_open = slash.and_then(|at| example.places.get(at)).is_some_and(|place| *place != Place::Fixed);
    let ends_a_host = is_open && slash.is_some_and(|at| !bounds_a_registry(text, at, example));
    any_registry(example, allows)
        .or_else(|| any_domain(example))
        .or_else(|| ends_a_host.then(|| Wide::AnyRegistry(text.clone())))
        .or_else(|| any_account(example, allows))
}

/// Whether the text before the first slash is fixed as a registry or an account by itself, so that the rest is within it.
fn bounds_a_registry(text: &str, slash: usize, example: &Example) -> bool {
    let Some(places) = example.places.get(..slash) else { return false };
    registry(text).is_none() && slash == 0 || places.last().is_none_or(|place| *place != Place::Fixed)
}

/// Whether leaving out a part of an example's beginning gives an allowed image in another domain.
fn other_domain(examples: &[Example]) -> Option<Wide> {
    let whole = |example: &Example| Some((example.text.clone(), domain(&reference(&example.text)?.domain)));
    let known: Vec<(String, String)> = examples.iter().filter_map(whole).collect();
    let (meant, also) = in_other_domain(&known)?;
    Some(Wide::OtherDomain { meant, also })
}

/// Finds two texts of which one is the other without a part, in another domain. `known` has each text with its domain.
pub(super) fn in_other_domain(known: &[(String, String)]) -> Option<(String, String)> {
    let is_without = |long: &str, short: &str| {
        let same = long.bytes().zip(short.bytes()).take_while(|(one, other)| one == other).count();
        let left = short.as_bytes().get(same..).unwrap_or_default();
        long.len() > short.len() && long.as_bytes().ends_with(left)
    };
    known.iter().find_map(|(meant, of)| {
        let (also, _) = known.iter().find(|(also, other)| of != other && is_without(meant, also))?;
        Some((meant.clone(), also.clone()))
    })
}

/// Whether the registrable domain of the registry has an open part: one of its last two parts, or the one before a shared domain.
fn any_domain(example: &Example) -> Option<Wide> {
    let host = registry(&example.text)?.split(':').next()?;
    let parts: Vec<&str> = host.split('.').collect();
    let is_address = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit()));
    if parts.len() < 2 || is_address || host.starts_with('[') {
        return None;
    }
    let mut end = host.chars().count();
    let mut below = Vec::new();
    for part in parts.iter().rev() {
        let start = end - part.chars().count();
        if example.places.get(start..end)?.contains(&Place::Open) {
            let domain: Vec<&str> = below.iter().rev().copied().collect();
            return shared::is_shared(&domain.join(".")).then(|| Wide::AnyDomain(example.text.clone()));
        }
        below.push(*part);
        end = start.saturating_sub(1);
    }
    None
}

/// Whether the same image is allowed with a registry and without one.
fn no_registry(examples: &[Example]) -> Option<Wide> {
    examples.iter().find_map(|with| {
        let registry = registry(&with.text).filter(|registry| *registry != "docker.io")?;
        let also = with.text.strip_prefix(registry)?.strip_prefix('/')?;
        let is_let_in = examples.iter().any(|without| without.text == also);
        is_let_in.then(|| Wide::NoRegistry { meant: with.text.clone(), also: also.to_owned() })
    })
}

/// The registry of an image, if it names one.
fn registry(image: &str) -> Option<&str> {
    let is_one = |host: &&str| host.contains(['.', ':']) || *host == "localhost" || host.contains(char::is_uppercase);
    host(image).filter(is_one)
}

/// Whether an image's account may be a stranger's, at docker.io or another registry that is open to everybody.
fn any_account(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let registry = registry(text);
    if registry.is_some_and(|registry| !shared::has_accounts(registry)) {
        return None;
    }
    let start = registry.map_or(0, |registry| registry.len() + 1);
    let (before, path) = text.split_at_checked(start)?;
    let stranger = format!("{before}stranger/{path}");
    if registry.is_some() && allows(&stranger) {
        return Some(Wide::AnyAccount(if path.is_empty() { format!("{stranger}evil") } else { stranger }));
    }
    let account = path.split_once('/')?.0.chars().count();
    let start = before.chars().count();
    let is_bound = example.places.get(start..start + account)?.iter().all(|place| *place == Place::Fixed);
    (!is_bound).then(|| Wide::AnyAccount(text.clone()))
}

/// Whether an account may be in upper case, which turns it into a host.
fn capitals(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let meant = &example.text;
    if registry(meant).is_some() {
        return None;
    }
    let (account, rest) = meant.split_once('/')?;
    let first: String = account.chars().take(1).flat_map(char::to_uppercase).chain(account.chars().skip(1)).collect();
    let also = [first, account.to_uppercase()].map(|host| format!("{host}/{rest}")).into_iter();
    let also = also.filter(|also| also != meant).find(|also| allows(also))?;
    Some(Wide::Capitals { meant: meant.clone(), also })
}

/// Whether what looks like a tag may be a port, followed by another image. If the name is also allowed without a tag, the expression is
/// one for all versions.
fn port(example: &Example, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let (name, rest) = example.text.split_once(':')?;
    // A required slash after a number makes it a registry with a port.
    let is_registry = rest.split_once('/').is_some_and(|(number, _)| {
        let slash = name.chars().count() + 1 + number.len();
        !number.is_empty()
            && number.chars().all(|c| c.is_ascii_digit())
            && example.places.get(slash) == Some(&Place::Fixed)
    });
    if is_registry
        || name.contains(['/', '@'])
        || (example.text.ends_with(':') && examples.iter().any(|other| other.text == name))
    {
        return None;
    }
    let also = format!("{name}:5000/evil");
    let is_another = ImageReference::parse(&also).is_ok_and(|image| image.domain == format!("{name}:5000"));
    (is_another && allows(&also)).then(|| Wide::OpenEnd { meant: example.text.clone(), also })
}

/// Whether a digest has a fixed beginning and an open end.
fn digest(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let (name, digest) = example.text.split_once('@')?;
    let (algorithm, digits) = digest.split_once(':')?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return None,
    };
    let missing = usize::checked_sub(length, digits.len()).filter(|missing| *missing > 0)?;
    let of_digits = example.places.get(example.places.len().checked_sub(digits.chars().count())?..)?;
    let also = format!("{name}@{digest}{}", "0".repeat(missing));
    let is_cut = of_digits.contains(&Place::Fixed) && allows(&also);
    is_cut.then(|| Wide::Digest { meant: example.text.clone(), also })
}

/// Whether any digest is allowed behind a tag while other tags are not: with a digest, any content gets past the tag.
fn any_content(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let name = example.text.split('@').next()?;
    let (repository, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.is_empty() && !tag.contains('/'))?;
    reference(name)?;
    let with = |name: &str, digit: &str| format!("{name}@sha256:{}", digit.repeat(64));
    let also = with(name, "0");
    let other = format!("{repository}:{tag}-evil");
    // If other tags are allowed as well, every version is intended, or another warning covers it.
    let is_open = allows(&with(repository, "0")) || allows(&other) || allows(&with(&other, "0"));
    let is_any = !is_open && allows(&also) && allows(&with(name, "7"));
    is_any.then(|| Wide::AnyContent { meant: name.to_owned(), also })
}

/// Whether repeating a part of the name gives an allowed image of another owner.
fn repeated(expression: &str, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let known: Vec<_> = examples.iter().filter_map(|example| owners::owner(&example.text)).collect();
    let meant = examples.iter().find(|example| reference(&example.text).is_some())?;
    let is_another = |example: &Example| owners::owner(&example.text).is_some_and(|owner| !known.contains(&owner));
    let mut repeats = examples::of_repeats(expression).into_iter();
    let also = repeats.find(|example| allows(&example.text) && is_another(example))?;
    Some(Wide::Repeated { meant: meant.text.clone(), also: also.text })
}

/// Whether the registry's name has a place for a dot that also accepts other characters.
fn any_character(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let chars: Vec<char> = example.text.chars().collect();
    // The slash after the host belongs to its name. Without a slash, the whole text may be a host.
    let count = host(&example.text).map_or(chars.len(), |host| host.chars().count() + 1);
    let at = example.places.iter().take(count).position(|place| *place == Place::DotOrOther)?;
    let is_behind = host(&example.text).is_none_or(|host| host.chars().count() == at);
    let others = ['X', 'x', '-', '0', '/'].into_iter();
    let with = |other: char| -> String {
        let mut chars = chars.clone();
        if let Some(place) = chars.get_mut(at) {
            *place = other;
        }
        chars.into_iter().collect()
    };
    let is_another =
        |image: &str| !is_behind || reference(image).is_some_and(|other| Some(other.domain) != own(&example.text));
    others.map(with).find(|image| allows(image) && is_another(image)).map(Wide::AnyCharacter)
}

fn own(image: &str) -> Option<String> {
    reference(image).map(|image| image.domain)
}

/// The text before the first slash: an image's registry or account.
fn host(image: &str) -> Option<&str> {
    image.split_once('/').map(|(host, _)| host)
}

/// Whether a suffix makes another allowed image of an example.
fn open_end(example: &Example, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let part = text.rsplit('/').next().unwrap_or_default();
    let part_places = example.places.get(example.places.len().saturating_sub(part.chars().count())..)?;
    let last = text.chars().next_back()?;
    let last_is_fixed = part_places.last() == Some(&Place::Fixed);
    let suffixes: &[&str] = if part.contains('@') || last == '/' {
        // A digest has a fixed length, and a trailing slash means the whole folder.
        &[]
    } else if last == ':' {
        // Any version is allowed. A port is not mistaken for one.
        &[]
    } else if part.contains(':') {
        // Another version than the fixed one. With a name alone, the version may be a port number, and then only that is intended.
        let number = !text.contains('/') && part.rsplit(':').next()?.chars().all(|c| c.is_ascii_digit());
        match (last_is_fixed, number) {
            (true, _) => &["-evil", "0"],
            (false, true) => &["-evil"],
            // More digits of a version are intended. If the expression itself continues, so is anything that follows.
            (false, false) if last.is_ascii_digit() && !goes_on(example, examples) => &["-evil"],
            (false, false) => &[],
        }
    } else if last_is_fixed {
        &["-evil", "/evil", "evil", ".evil", "0", "-0", ".0", "_0", "/0", "-", "."]
    } else if part_places.contains(&Place::Fixed) {
        // The open end of the name is intended, but not what is below it.
        &["/evil", "/0"]
    } else {
        &[]
    };
    let also = suffixes.iter().map(|suffix| format!("{text}{suffix}")).find(|image| allows(image))?;
    Some(Wide::OpenEnd { meant: text.clone(), also })
}

/// Whether the expression itself continues an example.
fn goes_on(example: &Example, examples: &[Example]) -> bool {
    let is_longer = |other: &&Example| other.text.len() > example.text.len() && other.text.starts_with(&example.text);
    examples.iter().any(|other| is_longer(&other))
}

impl Wide {
    /// The warning to show.
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
            Self::OtherDomain { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: without a part of the beginning it is an image of another registry, for whoever has that \
                 one. Let that part be needed."
            ),
            Self::OtherAccount { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: without a part of the name it is an image of another account, for whoever has that one. \
                 Let that part be needed, or write out both accounts, like `(one|other)/`."
            ),
            Self::AnyCharacter(image) => format!(
                "lets in other registries, for example `{image}`: in an expression, a dot stands for any character. Write `\\.` for a dot."
            ),
            Self::OpenEnd { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: nothing in the expression ends the name there. End it with `$`, with `(@|:|$)` for \
                 every version, or with `/` for a whole folder."
            ),
            Self::AnyAccount(image) => format!(
                "lets in images of any account, for example `{image}`: at this registry, everybody may have one. Write out the account that \
                 you trust, up to the `/` behind it."
            ),
            Self::Capitals { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: in capital letters, what is before the first `/` is the host of a registry. Let it have \
                 small letters alone, or write the registry before it."
            ),
            Self::Digest { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: the digest is cut off, and images can be made whose digests begin so. Write out all of it."
            ),
            Self::AnyContent { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: where a digest is named, the tag is not looked at, so any content of the repository is \
                 let in. End it with `$`, or write the image by its name alone, `{meant}`: then a digest must be the one that the tag has."
            ),
            Self::Repeated { meant, also } => format!(
                "lets in `{also}` besides `{meant}`: with a part repeated it is an image of another registry or account, for whoever has \
                 that one. In an expression, `+`, `*` and `{{…}}` repeat what is before them."
            ),
            Self::TooLarge => TOO_LARGE.to_owned(),
            Self::Unknown => "seems to let in nothing: no image was found that it matches from its beginning. Try it with one that is meant."
                .to_owned(),
        }
    }
}
