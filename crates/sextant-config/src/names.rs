//! Checks names, and finds the name that was probably meant.

use super::redact;

/// What to do about a host that [`ends_in_number`] and is no address.
pub(super) const PLAIN_ADDRESS: &str = "An IPv4 address has four numbers from 0 to 255, without zeros before them.";

/// Whether a text is a valid name of an environment variable: an identifier.
pub(super) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && is_identifier_end(text)
}

/// Whether a text is valid after the first character of an identifier.
pub(super) fn is_identifier_end(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a text is a valid name of a Kubernetes namespace: an RFC 1123 label.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_part(text)
}

/// Whether a text is a valid name of a Secret and most other Kubernetes objects: RFC 1123 labels separated by dots.
pub(super) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_part)
}

/// Whether this names a host, in small letters. A name that ends in a number is none: programs read it as an IPv4 address, and not always
/// as the one that people read, since `010.0.0.7` begins with eight and `10.7` is `10.0.0.7`.
pub(super) fn is_host_name(text: &str) -> bool {
    is_dns_name(text) && !ends_in_number(text)
}

/// Whether the last part of a host is a number, decimal or hexadecimal.
pub(super) fn ends_in_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_of = |digits: &str, radix| digits.chars().all(|c| c.is_digit(radix));
    !last.is_empty() && (is_of(last, 10) || hexadecimal.is_some_and(|digits| is_of(digits, 16)))
}

fn is_dns_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a text is a valid key of a Kubernetes label or annotation: `[domain/]name`.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_dns_name(domain) && !name.is_empty() && is_label_value(name),
        None => !text.is_empty() && is_label_value(text),
    }
}

/// Whether a text is a valid value of a Kubernetes label.
pub(super) fn is_label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.is_empty() || (text.len() <= 63 && text.chars().all(inner) && text.starts_with(outer) && text.ends_with(outer))
}

/// The known name that the text is probably a typo of.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Only the beginning is compared: no known name is longer.
    let plain = |text: &str| -> String {
        let text = text.chars().take(64).filter(|c| !"-_ ".contains(*c));
        text.collect::<String>().to_lowercase()
    };
    let text = plain(text);
    let distance = |name: &str| strsim::osa_distance(&text, &plain(name));
    let allowed = if text.chars().count() < 5 { 1 } else { 2 };
    known.map(|name| (distance(name), name)).filter(|&(distance, _)| distance <= allowed).min().map(|(_, name)| name)
}

/// Lists names in a sentence: `a`, `b` and `c`, with "and" or another word.
pub(super) fn listed(names: &[&str], last_word: &str) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} {last_word} `{last}`", first.join(", "))
        }
    }
}

/// Whether a text looks like a flag, or like a number with or without a unit.
pub(super) fn is_of_numbers_or_flags(text: &str) -> bool {
    const FLAGS: [&str; 12] = ["", "~", "null", "none", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let number = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.trim().len() - number.len();
    FLAGS.contains(&text.trim().to_lowercase().as_str())
        || !number.is_empty() && unit <= 3 && number.chars().all(|c| c.is_ascii_digit() || "+-.,:_ ".contains(c))
}

/// Formats a text from outside for a message: on one line, shortened, and without secrets.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    printable::excerpt_of(&redact::text(text), MOST)
}

/// Formats a key from outside for a message. Text after a `=` is a value that was written into the key by mistake.
pub(super) fn shown_key(key: &str) -> String {
    match key.split_once('=') {
        Some((name, _)) => format!("{}=[secret]", shown(name)),
        None => shown(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_recognized() {
        let known = ["databases", "policies", "port", "ssh-tunnels"];
        let table = [
            ("database", Some("databases")),
            ("polices", Some("policies")),
            ("Port", Some("port")),
            ("prot", Some("port")),
            ("ssh_tunnels", Some("ssh-tunnels")),
            ("whatever", None),
            ("p", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(nearest(text, known.into_iter()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_neither_number_nor_flag() {
        for shown in ["", "1", "-1", "1.5", "10Gi", "500m", "30 s", "1_000", "8080:80", "True", "off", "7days"] {
            assert_eq!(is_of_numbers_or_flags(shown), shown != "7days", "{shown}");
        }
        for hidden in ["hunter2", "2hunter", "PW", "31337!", "1a2b3c", "Gi", "open sesame", "-"] {
            assert_eq!(is_of_numbers_or_flags(hidden), hidden == "-", "{hidden}");
        }
    }

    #[test]
    fn kubernetes_names() {
        for good in ["a", "v6-jobs", "0"] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        for good in ["a", "db.example.org", "10.example", "db1", "a.0xg"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["10.0.0.7", "010.0.0.7", "10.7", "10.0.0.256", "167772167", "0x0a000007", "10.0x7", "a.0x", "a."] {
            assert!(!is_host_name(bad), "{bad}");
        }
        for good in ["a", "example.org/team", "A_b.c-d"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "-a", "Example.org/a"] {
            assert!(!is_label_key(bad), "{bad}");
        }
    }

    #[test]
    fn identifiers_are_those_of_environment_variables() {
        for good in ["a", "_", "A1_b"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "a b", "é"] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
