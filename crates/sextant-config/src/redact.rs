//! Removes secrets from everything that is printed about a configuration, since a secret in the wrong setting must not end up in a log.
//!
//! It hides users and passwords in addresses, values whose names indicate a secret (`pwd=`, `--password`), private keys, and texts that
//! look like keys or tokens. Image digests stay.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::secret_names;

const HIDDEN: &str = "[secret]";
const PRIVATE: &str = "-----BEGIN";

/// Names with values up to the next separator.
static VALUES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"([\w-]+)"?\s*(?:=|:\s)\s*("[^"]*"|'[^']*'|\{[^}]*\}|[^;&]+)"#).ok());
/// Likewise within a sentence, where white space ends the value.
static VALUES_OF_SENTENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"([\w-]+)=([^;&\s`,]+)").ok());
static OPTIONS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?:^|[\s"])--?([A-Za-z][\w-]*)["',\s=]+([^\s`"]+)"#).ok());
/// An account before a host without a scheme.
static ACCOUNT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?:^|[\s"'(<\[,;=^])([\w.%+~-]*:[^\s`"/][^\s`"]*)@([A-Za-z0-9\[])"#).ok());
/// A password after a host, in place of a port.
static IN_PLACE_OF_A_PORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"://[^\s/@:\[\]]+:([^\s/@:]*[^\s/@:0-9][^\s/@:]*)(?:$|[/\s"'])"#).ok());
static KEYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"\beyJ[\w-]{6,}\.[\w.-]+",
        r"|\b(?:gh[a-z]|github_pat|glpat|hf|sk|xox[a-z]|dckr_pat|npm|pypi)[_-][\w-]{6,}",
        r"|\b(?:AKIA|ASIA|AIza)[\w-]{12,}",
        r"|\b[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\b",
        r"|\b[0-9A-Fa-f]{32,}\b",
        r"|[\w+-]{28,}={0,2}",
    ))
    .ok()
});

/// Removes possible secrets from a text of a configuration.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    redact(text, &VALUES)
}

/// Removes possible secrets from a sentence about a configuration. Text in backquotes is treated separately.
pub(super) fn sentence(sentence: &str) -> String {
    let parts = sentence.split('`').map(|part| redact(part, &VALUES_OF_SENTENCE));
    parts.collect::<Vec<_>>().join("`")
}

/// Whether a text may contain a secret.
pub(super) fn is_secret(found: &str) -> bool {
    text(found) != found
}

/// Whether a text looks like the path of a file. Otherwise it may be the file's content.
pub(super) fn is_like_a_path(text: &str) -> bool {
    let is_word = |text: &str| text.len() <= 16 && text.chars().all(|c| c.is_ascii_lowercase() || "-_".contains(c));
    let begins = ["/", "./", "../", "~"].iter().any(|beginning| text.starts_with(beginning));
    let ends = text.rsplit_once('.').is_some_and(|(_, end)| !end.is_empty() && end.len() <= 5 && is_word(end));
    !is_secret(text) && !text.contains(char::is_whitespace) && (begins || ends || text.split('/').all(is_word))
}

fn redact<'a>(text: &'a str, values: &Option<Regex>) -> Cow<'a, str> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    hidden.extend(text.find(PRIVATE).map(|start| start..text.len()));
    hidden.extend(account_with_scheme(text));
    let all = |regex: &Option<Regex>| regex.iter().flat_map(|regex| regex.captures_iter(text)).collect::<Vec<_>>();
    for found in all(&ACCOUNT) {
        if let (Some(account), Some(host)) = (found.get(1), found.get(2))
            && !is_digest(text.get(host.start()..).unwrap_or_default())
        {
            hidden.push(account.range());
        }
    }
    hidden.extend(all(&IN_PLACE_OF_A_PORT).iter().filter_map(|found| found.get(1)).map(|found| found.range()));
    for found in all(values).into_iter().chain(all(&OPTIONS)) {
        if let (Some(name), Some(value)) = (found.get(1), found.get(2))
            && (secret_names::in_address(name.as_str()) || secret_names::in_environment(name.as_str(), "?1?"))
        {
            hidden.push(value.range());
        }
    }
    for found in KEYS.iter().flat_map(|regex| regex.find_iter(text)) {
        let is_of_digest = text
            .get(..found.start())
            .is_some_and(|before| ["sha256:", "sha384:", "sha512:"].iter().any(|of| before.ends_with(of)));
        if !is_of_digest && is_key(found.as_str()) {
            hidden.push(found.range());
        }
    }
    without(text, hidden)
}

/// The range between a scheme and the last `@` after it, unless a digest follows.
fn account_with_scheme(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let rest = text.get(start..)?;
    let mut ends = rest.match_indices('@').map(|(at, _)| at);
    let end = ends.rfind(|at| !is_digest(rest.get(at + 1..).unwrap_or_default()))?;
    Some(start..start + end)
}

fn is_digest(text: &str) -> bool {
    ["sha256", "sha384", "sha512"].iter().any(|algorithm| text.starts_with(algorithm))
}

/// Whether a match is a key. Short matches have a key's own format; long ones must also look random.
fn is_key(text: &str) -> bool {
    let has = |of: fn(&char) -> bool| text.chars().any(|c| of(&c));
    let is_long = text.len() >= 28 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_+-=".contains(c));
    let is_hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    !is_long
        || (is_hexadecimal && has(char::is_ascii_digit))
        || text.contains(['_', '-']) && !text.contains(' ') && has_prefix(text)
        || has(char::is_ascii_digit) && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase)
}

fn has_prefix(text: &str) -> bool {
    ["ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "dckr_pat_", "npm_", "pypi-"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

fn without(text: &str, mut hidden: Vec<Range<usize>>) -> Cow<'_, str> {
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    hidden.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let (mut out, mut at) = (String::new(), 0);
    for range in hidden {
        if range.start >= at {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(HIDDEN);
        }
        at = at.max(range.end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_texts() {
        for (found, expected) in [
            ("postgres://u:PW@h/x", "postgres://[secret]@h/x"),
            ("postgres://u:P@W/x@h/x", "postgres://[secret]@h/x"),
            ("https://token@h/x", "https://[secret]@h/x"),
            ("u:PW@h", "[secret]@h"),
            ("a 'u:PW@h'", "a '[secret]@h'"),
            (r"^u:PW@registry\.example\.org/", r"^[secret]@registry\.example\.org/"),
            (r"C:\x;pwd=PW", r"C:\x;pwd=[secret]"),
            ("Server=db;Password={P;W};x=1", "Server=db;Password=[secret];x=1"),
            ("x?user=a&password=PW&z=1", "x?user=a&password=[secret]&z=1"),
            ("/etc/x;password=my PW", "/etc/x;password=[secret]"),
            ("password: PW", "password: [secret]"),
            (r#""password": "PW""#, r#""password": [secret]"#),
            ("cmd --password PW -x", "cmd --password [secret] -x"),
            ("cmd --api-key=PW -x", "cmd --api-key=[secret]"),
            ("https://a.org/?key=PW", "https://a.org/?key=[secret]"),
            ("https://a.org/?se=1&sig=PW&x=1", "https://a.org/?se=1&sig=[secret]&x=1"),
            ("https://a.org/?code=PW", "https://a.org/?code=[secret]"),
            ("https://a.org/?X-Amz-Signature=PW", "https://a.org/?X-Amz-Signature=[secret]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nPW", "[secret]"),
            ("8f14e45f-ceea-467f-a0e6-d1f2b3c4d5e6", "[secret]"),
            ("d41d8cd98f00b204e9800998ecf8427e", "[secret]"),
            ("eyJhbGciOi.eyJzdWIiOi.x", "[secret]"),
            ("ghp_abcdef123456", "[secret]"),
            ("wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", "[secret]"),
        ] {
            assert_eq!(text(found), expected, "{found}");
            let said = sentence(&format!("`a`: found `{}`, expected `https://b`.", text(found)));
            assert!(!said.contains("PW"), "{said}");
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for shown in [
            "",
            "/data/people.csv",
            "registry.example.org:5000/average:1.0",
            "ghcr.io/a/b:1@sha256:7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa",
            r"^registry\.example\.org/average(:|@|$)",
            "https://2001:db8::5",
            "[2001:db8::1]:7654",
            "ada@example.org",
            "kubernetes.databases.people.volume",
            "vault.security.banzaicloud.io/vault-addr",
            "a-very-long-name-of-a-database-that-is-none",
            "user=ada;server=db",
            "C:\\a.csv",
        ] {
            assert_eq!(text(shown), shown);
            let said =
                format!("`x.y`: found `{shown}`, expected a password or a token: at `https://a.org`, user@host.");
            assert_eq!(sentence(&said), said);
        }
    }

    #[test]
    fn paths_are_told_from_what_is_none() {
        for (found, expected) in [
            ("key", true),
            ("/run/secrets/key", true),
            ("./k3y", true),
            ("keys/node.txt", true),
            ("node-key", true),
            ("4f1c9a", false),
            ("8f14e45f-ceea-467f-a0e6-d1f2b3c4d5e6", false),
            ("/8f14e45f-ceea-467f-a0e6-d1f2b3c4d5e6", false),
            ("apiVersion v1 token x", false),
            ("geheim/Geheim+1", false),
        ] {
            assert_eq!(is_like_a_path(found), expected, "{found}");
        }
    }
}
