//! Names of images, in the grammar of Docker, containerd, CRI-O and the kubelet (`distribution/reference`):
//! `[domain[:port]/]path[:tag][@digest]`. A name is validated before anything is created for it. The API server accepts names of any
//! length, but a kubelet can't store the status of a pod whose image name has a megabyte, and never deletes that pod.
//!
//! Sextant has its own parser because the crates that parse references implement the grammar of their registry clients, without IPv6
//! addresses or without Docker's short names.

use std::fmt;
use std::str::FromStr;

use printable::excerpt;

/// The maximum length of a repository's path in characters, including `library/`.
const PATH: usize = 255;
/// The maximum length of a registry's host and port in characters. The grammar has no limit; a host name has at most 253 characters.
const DOMAIN: usize = 255;
/// The maximum length of a tag in characters.
const TAG: usize = 128;
/// The maximum length of a name. A longer text is not parsed.
const LONGEST: usize = DOMAIN + PATH + TAG + 200;

/// The host of a registry, without its port; an IPv6 address keeps its brackets.
#[must_use]
pub fn host_of(domain: &str) -> &str {
    domain.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(domain, |(host, _)| host)
}

/// The default registry of names without one.
const DOCKER_HUB: &str = "docker.io";
/// The path on Docker Hub of images whose names are a single word.
const OFFICIAL: &str = "library/";

/// The parsed name of an image, completed where Docker's short names omit a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The registry: host, and port if there is one. The default is `docker.io`.
    pub domain: String,
    /// The repository in the registry, for example `library/average`.
    pub path: String,
    /// The tag, if the name has one.
    pub tag: Option<String>,
    /// The digest with its algorithm, if the name has one.
    pub digest: Option<String>,
}

/// Why a text is not the name of an image. The message is for the author of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReference {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text is longer than any name.
    #[error("it has {0} bytes, and a name may have at most {LONGEST}")]
    TooLong(usize),
    /// Docker would interpret the text as an image ID.
    #[error("64 hexadecimal digits are an image's id, not its name")]
    Id,
    /// The registry is invalid.
    #[error(
        "'{0}' can't be a registry: expected a host name or an IP address (IPv6 in brackets), with a port or without"
    )]
    Domain(String),
    /// The registry's name is too long.
    #[error("the registry's name has {0} characters, and may have {DOMAIN}")]
    DomainTooLong(usize),
    /// The path is invalid.
    #[error(
        "'{0}' can't be a repository's name: expected lower-case letters and digits, with '.', '_', '__' or '-' between them, and '/'"
    )]
    Path(String),
    /// The path is too long.
    #[error("the repository's name has {0} characters, and may have {PATH}")]
    PathTooLong(usize),
    /// The tag is invalid.
    #[error(
        "'{0}' can't be a tag: expected at most {TAG} letters, digits, '_', '.' or '-', not beginning with '.' or '-'"
    )]
    Tag(String),
    /// The digest is invalid.
    #[error(
        "'{0}' can't be a digest: expected sha256: and 64, sha384: and 96, or sha512: and 128 hexadecimal digits in lower case"
    )]
    Digest(String),
}

impl ImageReference {
    /// Parses a name from a task or a configuration.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn parse(name: &str) -> Result<Self, NoReference> {
        if name.is_empty() {
            return Err(NoReference::Empty);
        }
        if name.len() > LONGEST {
            return Err(NoReference::TooLong(name.len()));
        }
        if name.len() == 64 && name.bytes().all(is_hex_digit) {
            return Err(NoReference::Id);
        }
        let (domain, rest) = split_domain(name);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let domain = domain.unwrap_or(DOCKER_HUB);
        if domain.len() > DOMAIN {
            return Err(NoReference::DomainTooLong(domain.len()));
        }
        if !is_domain(domain) {
            return Err(NoReference::Domain(excerpt(domain)));
        }
        if !path.split('/').all(is_path_component) {
            return Err(NoReference::Path(excerpt(path)));
        }
        let official = if domain == DOCKER_HUB && !path.contains('/') { OFFICIAL } else { "" };
        let path = format!("{official}{path}");
        if path.len() > PATH {
            return Err(NoReference::PathTooLong(path.len()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(NoReference::Tag(excerpt(tag)));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(NoReference::Digest(excerpt(digest)));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }
}

impl ImageReference {
    /// Whether it names the same repository in the same registry.
    #[must_use]
    pub fn is_of_repository(&self, other: &Self) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    /// The tag that applies if there is no digest.
    #[must_use]
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Whether both have the same tag, if there is no digest.
    #[must_use]
    pub fn has_tag_of(&self, other: &Self) -> bool {
        self.tag_or_latest() == other.tag_or_latest()
    }

    /// Whether it has neither tag nor digest, and names the repository of this image.
    #[must_use]
    pub fn has_in_every_version(&self, image: &str) -> bool {
        self.tag.is_none()
            && self.digest.is_none()
            && Self::parse(image).is_ok_and(|image| self.is_of_repository(&image))
    }

    /// The digest in the name.
    #[must_use]
    pub fn named_digest(&self) -> Option<Digest> {
        self.digest.as_deref().and_then(|digest| digest.parse().ok())
    }
}

/// Identifies an image's content: `sha256:…`. Two images with the same digest are the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl FromStr for Digest {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        if is_digest(text) { Ok(Self(text.to_owned())) } else { Err(NoReference::Digest(excerpt(text))) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The full name, completed where short names omit a part, but without a default tag.
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Splits off the registry like Docker: the part before the first `/` is a registry if it could not be part of a path.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (None, rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
        && match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                inner.is_some_and(|ip| !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
            }
            None => host.split('.').all(is_domain_component),
        }
}

fn is_domain_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether the text consists of words of lower-case letters and digits, with one separator between two of them.
fn is_path_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|b| b == b'-'));
    // Only separators may be between words, and the text must begin and end with a word.
    text.starts_with(is_word)
        && text.ends_with(is_word)
        && text.split(is_word).filter(|between| !between.is_empty()).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        digits.len() == length && digits.bytes().all(is_hex_digit)
    })
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA256: &str = "sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa";

    #[test]
    fn what_a_kubelet_takes_is_taken() {
        let long_path = "a".repeat(PATH - OFFICIAL.len());
        let long_tag = "t".repeat(TAG);
        for (name, whole) in [
            ("average", "docker.io/library/average".to_owned()),
            ("average:1", "docker.io/library/average:1".into()),
            ("iknl/average", "docker.io/iknl/average".into()),
            ("docker.io/average", "docker.io/library/average".into()),
            ("docker.io/library/average", "docker.io/library/average".into()),
            ("index.docker.io/average", "docker.io/library/average".into()),
            ("harbor2.vantage6.ai/demo/average", "harbor2.vantage6.ai/demo/average".into()),
            ("localhost/odd:dev", "localhost/odd:dev".into()),
            ("localhost:5000/odd", "localhost:5000/odd".into()),
            ("registry:5000/a/b/c/d:latest", "registry:5000/a/b/c/d:latest".into()),
            ("Registry.Example.ORG/average", "Registry.Example.ORG/average".into()),
            ("MyHost/average", "MyHost/average".into()),
            ("127.0.0.1:30500/a__b/c.d_e---f0:V1.0-rc.1_x", "127.0.0.1:30500/a__b/c.d_e---f0:V1.0-rc.1_x".into()),
            ("[2001:db8::1]:5000/a:1", "[2001:db8::1]:5000/a:1".into()),
            ("[::1]/a", "[::1]/a".into()),
            ("a:_", "docker.io/library/a:_".into()),
            // A tag that looks like a digest.
            (SHA256, format!("docker.io/library/{SHA256}")),
            (&format!("a@{SHA256}"), format!("docker.io/library/a@{SHA256}")),
            (&format!("ghcr.io/a/b:1@{SHA256}"), format!("ghcr.io/a/b:1@{SHA256}")),
            (&format!("a@sha384:{}", "0".repeat(96)), format!("docker.io/library/a@sha384:{}", "0".repeat(96))),
            (&format!("a@sha512:{}", "f".repeat(128)), format!("docker.io/library/a@sha512:{}", "f".repeat(128))),
            (&long_path, format!("docker.io/library/{long_path}")),
            (&format!("r.example/{}", "a/".repeat(127) + "a"), format!("r.example/{}", "a/".repeat(127) + "a")),
            (&format!("a:{long_tag}"), format!("docker.io/library/a:{long_tag}")),
            // 63 digits of an id are a name.
            (&"a".repeat(63), format!("docker.io/library/{}", "a".repeat(63))),
        ] {
            match ImageReference::parse(name) {
                Ok(reference) => assert_eq!(reference.to_string(), whole),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    #[test]
    fn what_no_kubelet_takes_is_refused_with_a_reason() {
        for (name, why) in [
            ("", "empty"),
            ("NOT/An Image", "'An Image' can't be a repository's name"),
            ("Average", "'Average' can't be a repository's name"),
            ("iknl/Average:1", "lower-case"),
            (" average", "repository's name"),
            ("average ", "repository's name"),
            ("average:1\n", "can't be a tag"),
            ("a..b", "repository's name"),
            ("a___b", "repository's name"),
            ("a._b", "repository's name"),
            ("-a", "repository's name"),
            ("a-", "repository's name"),
            ("a//b", "repository's name"),
            ("/a", "repository's name"),
            ("a/", "repository's name"),
            ("r.example/", "repository's name"),
            ("a:", "can't be a tag"),
            ("a:-1", "can't be a tag"),
            ("a:.1", "can't be a tag"),
            ("a:b:c", "can't be a tag"),
            ("a:é", "can't be a tag"),
            ("https://r.example/a", "registry"),
            ("r.example:/a", "registry"),
            ("r.example:http/a", "registry"),
            ("-r.example/a", "registry"),
            ("r..example/a", "registry"),
            ("under_score.example/a", "registry"),
            ("[::1/a", "registry"),
            ("[]/a.b", "repository's name"),
            ("[::g]:1/a", "registry"),
            ("::1/a", "registry"),
            ("a@sha256:0", "digest"),
            ("a@sha256", "digest"),
            ("a@", "digest"),
            (&format!("a@sha256:{}", "F".repeat(64)), "digest"),
            (&format!("a@md5:{}", "0".repeat(32)), "digest"),
            (&format!("a@{SHA256}:1"), "digest"),
            (&format!("a@{SHA256}@{SHA256}"), "digest"),
            (&"a".repeat(64), "an image's id"),
            (&"x".repeat(PATH), "263 characters, and may have 255"),
            (&format!("{}.org/a", "x".repeat(252)), "256 characters, and may have 255"),
            (&format!("a:{}", "t".repeat(TAG + 1)), "can't be a tag"),
            (&format!("localhost/{}:1", "y".repeat(1_400_000)), "1400012 bytes"),
            ("r.example/a\u{202e}b", r"a\u{202e}b"),
        ] {
            let error = match ImageReference::parse(name) {
                Ok(reference) => panic!("{name}: {reference:?}"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(why), "{name}: {error}");
            assert!(error.chars().count() < 400 && !error.chars().any(printable::is_deceptive), "{error:?}");
        }
    }

    /// The grammar of `distribution/reference` 0.6, for the rest of a name after its registry.
    fn grammar() -> regex::Regex {
        let word = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
        let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
        let host = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
        let digest = "sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}";
        let text = format!(r"\A{host}/{word}(?:/{word})*(?::[0-9A-Za-z_][0-9A-Za-z_.-]{{0,127}})?(?:@(?:{digest}))?\z");
        regex::Regex::new(&text).unwrap()
    }

    proptest! {
        #[test]
        fn a_name_with_a_registry_is_one_exactly_if_the_grammar_has_it(
            host in r"[aB0.:\-\[\]]{1,6}", rest in r"[aB0./:@_\-é]{1,9}", digest in prop_oneof![Just(String::new()), Just(format!("@{SHA256}"))],
        ) {
            let name = format!("r.{host}/{rest}{digest}");
            prop_assert_eq!(ImageReference::parse(&name).is_ok(), grammar().is_match(&name), "{}", name);
        }

        #[test]
        fn what_was_read_is_read_again(name in r"([aB0.:]{1,4}/)?[a0._\-]{1,8}(:[aB0_.]{1,4})?") {
            if let Ok(reference) = ImageReference::parse(&name) {
                prop_assert_eq!(ImageReference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
