//! Whether an expression in `allowed_algorithms` lets in more than it seems to: judged by what it does with examples of its own, whatever
//! its spelling.

use sextant_core::image_reference::ImageReference;
use sextant_core::policies::AllowedAlgorithm;

use super::examples::{self, Example, Place};
use super::owners::{domain, reference};
use super::{owners, shared};

/// A registry that nobody means.
const STRANGER: &str = "stranger.example";

/// What is said of an expression that is not tried in full.
pub(super) const TOO_LARGE: &str = "has more alternatives, or longer ones, than are tried here, so what it lets in besides what is meant is \
                                    not known. Write it as several entries.";

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
    /// With a part of the name left out, the registry is in another domain.
    OtherDomain {
        /// The example with that part.
        meant: String,
        /// The image without.
        also: String,
    },
    /// With a part of the name left out, it is in another account of the same registry, where everybody may have one.
    OtherAccount {
        /// The example with that part.
        meant: String,
        /// The image without.
        also: String,
    },
    /// Something may follow the name.
    OpenEnd {
        /// The example.
        meant: String,
        /// The image with something appended.
        also: String,
    },
    /// The account at a registry where everybody may have one isn't bound.
    AnyAccount(String),
    /// In capital letters, an account is the host of a registry.
    Capitals {
        /// The example.
        meant: String,
        /// The image at that host.
        also: String,
    },
    /// A digest is cut off: images can be made that have the beginning of one.
    Digest {
        /// The example.
        meant: String,
        /// An image with another digest.
        also: String,
    },
    /// Where a digest is named, the tag that the expression asks for is not looked at.
    AnyContent {
        /// The example.
        meant: String,
        /// The image with any digest.
        also: String,
    },
    /// With a character or a part repeated, it is in another domain or account.
    Repeated {
        /// The example.
        meant: String,
        /// The image with the repetition.
        also: String,
    },
    /// It has more branches than examples are made.
    TooLarge,
    /// No example was found that it lets in.
    Unknown,
}

/// All ways in which an expression is wide, each once; none for a name.
pub(super) fn ways(algorithm: &AllowedAlgorithm) -> Vec<Wide> {
    let AllowedAlgorithm::Pattern(regex) = algorithm else { return Vec::new() };
    let allows = |image: &str| algorithm.allows(image);
    let examples: Vec<Example> =
        examples::of(regex.as_str()).into_iter().filter(|example| allows(&example.text)).collect();
    let cut = examples::are_cut(regex.as_str()).then_some(Wide::TooLarge);
    if examples.is_empty() {
        return vec![cut.unwrap_or(Wide::Unknown)];
    }
    // One of each kind is enough; an expression for every image needs no other word.
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

/// Whether the beginning of an example may be a stranger's.
fn any_registry(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let before = |prefix: &str| format!("{prefix}{text}");
    let strangers = [before(&format!("{STRANGER}/")), before(STRANGER), before(&format!("{STRANGER}/x"))];
    if let Some(image) = strangers.into_iter().find(|image| allows(image)) {
        return Some(Wide::AnyRegistry(image));
    }
    // Nothing of the registry, or of the account at the one that is meant where none is named, is fixed.
    let whole = host(text).unwrap_or(text);
    let host = whole.split([':', '@']).next().map_or(0, str::len);
    if !owners::begin_of_address_is_fixed(whole, example) {
        return Some(Wide::AnyRegistry(text.clone()));
    }
    let fixed = text.char_indices().zip(&example.places).any(|((at, _), place)| at < host && *place == Place::Fixed);
    (!fixed).then(|| Wide::AnyRegistry(text.clone()))
}

/// Whether an image that strangers can have is let in: one whose registry or account is made by what is open in the expression.
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

/// Whether what is before the first slash is fixed as a registry, or as an account, by itself: then what follows is in it.
fn bounds_a_registry(text: &str, slash: usize, example: &Example) -> bool {
    let Some(places) = example.places.get(..slash) else { return false };
    registry(text).is_none() && slash == 0 || places.last().is_none_or(|place| *place != Place::Fixed)
}

/// Whether an image without a part of an example's beginning is let in, too, and is in another domain.
fn other_domain(examples: &[Example]) -> Option<Wide> {
    let whole = |example: &Example| Some((example.text.clone(), domain(&reference(&example.text)?.domain)));
    let known: Vec<(String, String)> = examples.iter().filter_map(whole).collect();
    let (meant, also) = in_other_domain(&known)?;
    Some(Wide::OtherDomain { meant, also })
}

/// Of texts with the domains that they are in: one, and the same without a part of it, in another domain.
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

/// Whether the domain in which the registry is has a place that others may be put into: its last two parts, or the one before a domain
/// that everybody may have a name in.
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

/// Whether the same is let in with a registry and without one.
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

/// Whether the account of an image may be a stranger's, at docker.io or another registry where everybody may have one.
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

/// Whether an account may be written in capital letters: that is how a host is told from one.
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

/// Whether what looks like a tag may be a port, with another image behind it. An expression for every version of a name, which it lets in
/// without a tag, too, is one for versions.
fn port(example: &Example, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let (name, rest) = example.text.split_once(':')?;
    // A slash that has to be there, behind a number, makes a registry of it.
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

/// Whether a digest has a beginning that is fixed, and no end.
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

/// Whether any content is let in by a digest behind a tag, where other tags are not: whoever names a digest gets past the tag.
fn any_content(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let name = example.text.split('@').next()?;
    let (repository, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.is_empty() && !tag.contains('/'))?;
    reference(name)?;
    let with = |name: &str, digit: &str| format!("{name}@sha256:{}", digit.repeat(64));
    let also = with(name, "0");
    let other = format!("{repository}:{tag}-evil");
    // Every version, or every one that begins so, is one that is meant, or is told as such.
    let is_open = allows(&with(repository, "0")) || allows(&other) || allows(&with(&other, "0"));
    let is_any = !is_open && allows(&also) && allows(&with(name, "7"));
    is_any.then(|| Wide::AnyContent { meant: name.to_owned(), also })
}

/// Whether an image is let in that repeats a part of the name, and is another owner's.
fn repeated(expression: &str, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let known: Vec<_> = examples.iter().filter_map(|example| owners::owner(&example.text)).collect();
    let meant = examples.iter().find(|example| reference(&example.text).is_some())?;
    let is_another = |example: &Example| owners::owner(&example.text).is_some_and(|owner| !known.contains(&owner));
    let mut repeats = examples::of_repeats(expression).into_iter();
    let also = repeats.find(|example| allows(&example.text) && is_another(example))?;
    Some(Wide::Repeated { meant: meant.text.clone(), also: also.text })
}

/// Whether the name of the registry has a place for a dot that takes others too.
fn any_character(example: &Example, allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let chars: Vec<char> = example.text.chars().collect();
    // The slash behind the host belongs to its name, and without one all may be.
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

/// The registry of an image, or the account: what is before the first slash.
fn host(image: &str) -> Option<&str> {
    image.split_once('/').map(|(host, _)| host)
}

/// Whether something may follow an example that makes another image of it.
fn open_end(example: &Example, examples: &[Example], allows: &dyn Fn(&str) -> bool) -> Option<Wide> {
    let text = &example.text;
    let part = text.rsplit('/').next().unwrap_or_default();
    let part_places = example.places.get(example.places.len().saturating_sub(part.chars().count())..)?;
    let last = text.chars().next_back()?;
    let last_is_fixed = part_places.last() == Some(&Place::Fixed);
    let suffixes: &[&str] = if part.contains('@') || last == '/' {
        // A digest has its length; and a folder is what it says.
        &[]
    } else if last == ':' {
        // Any version; a port is not taken for one.
        &[]
    } else if part.contains(':') {
        // Another version of what is meant, where the version is said.
        // Of a name alone it may be a number, and then nothing else is meant.
        let number = !text.contains('/') && part.rsplit(':').next()?.chars().all(|c| c.is_ascii_digit());
        match (last_is_fixed, number) {
            (true, _) => &["-evil", "0"],
            (false, true) => &["-evil"],
            // Of a version's digits alone, more of them are meant; where anything may follow, the expression says so.
            (false, false) if last.is_ascii_digit() && !goes_on(example, examples) => &["-evil"],
            (false, false) => &[],
        }
    } else if last_is_fixed {
        &["-evil", "/evil", "evil", ".evil", "0", "-0", ".0", "_0", "/0", "-", "."]
    } else if part_places.contains(&Place::Fixed) {
        // The end of the name is open, and meant so; but not what is below it.
        &["/evil", "/0"]
    } else {
        &[]
    };
    let also = suffixes.iter().map(|suffix| format!("{text}{suffix}")).find(|image| allows(image))?;
    Some(Wide::OpenEnd { meant: text.clone(), also })
}

/// Whether the expression itself has more behind an example.
fn goes_on(example: &Example, examples: &[Example]) -> bool {
    let is_longer = |other: &&Example| other.text.len() > example.text.len() && other.text.starts_with(&example.text);
    examples.iter().any(|other| is_longer(&other))
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
