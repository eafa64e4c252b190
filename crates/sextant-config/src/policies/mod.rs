//! The policies of the node's owner: which algorithms may run, and for whom.

mod examples;
mod owners;
pub(super) mod shared;
mod width;

use sextant_core::policies::{AllowedAlgorithm, Policies, is_exempt_from_list};

use super::names;
use super::reader::{Field, Section, Unknown};
use super::scalar::Scalar;

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
            in_every_version(&algorithm).filter(|_| versions && !is_exempt_from_list(algorithm.as_str()))
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

/// The expression that allows the image in every version, where this entry names one without tag and digest. Nodes from 4.6 on take
/// such an entry for all of them (vantage6-node 4.6.0, `is_docker_image_allowed`), 4.5.5 for itself only.
fn in_every_version(entry: &AllowedAlgorithm) -> Option<String> {
    let AllowedAlgorithm::Exact(name) = entry else { return None };
    let last = name.rsplit('/').next().unwrap_or_default();
    (!last.contains([':', '@'])).then(|| format!("^{}(@|:|$)", name.replace('.', r"\.")))
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
    fn an_entry_without_a_tag_has_an_expression_for_every_one() {
        for (entry, expected) in [
            ("example.org/v6-average", Some(r"^example\.org/v6-average(@|:|$)")),
            ("example.org:5000/average", Some(r"^example\.org:5000/average(@|:|$)")),
            ("average", Some("^average(@|:|$)")),
            ("example.org/average:1.0", None),
            ("example.org/average@sha256:0", None),
            (r"^example\.org/average$", None),
        ] {
            let every = in_every_version(&AllowedAlgorithm::new(entry).unwrap());
            assert_eq!(every.as_deref(), expected, "{entry}");
            for version in every.iter().flat_map(|_| ["", ":1.0", "@sha256:0", ":1.0@sha256:0"]) {
                let allowed = AllowedAlgorithm::new(expected.unwrap()).unwrap();
                assert!(allowed.allows(&format!("{entry}{version}")), "{entry} {version}");
                assert!(!allowed.allows(&format!("{entry}-evil{version}")), "{entry} {version}");
            }
        }
    }
}
