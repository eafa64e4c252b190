//! The policies of the node's owner: which algorithms may run, and for whom.

mod examples;
mod owners;
pub(super) mod shared;
mod stores;
mod width;

use sextant_core::image_reference::ImageReference;
use sextant_core::policies::{AllowedAlgorithm, BASICS, Combination, Policies};

use super::names;
use super::reader::{Field, Section, Unknown};
use super::scalar::Scalar;

/// The settings under `policies`.
pub(super) struct Read {
    pub policies: Policies,
    /// `require_algorithm_pull`, if it is set.
    pub require_pull: Option<bool>,
}

/// Reads `policies`.
pub(super) fn read(file: &Section<'_>) -> Option<Read> {
    let Some(field) = file.get("policies") else {
        return Some(Read { policies: Policies::default(), require_pull: None });
    };
    let section = field.section("a mapping like `allowed_algorithms: [...]`")?;
    let algorithms = entries(&section, "allowed_algorithms", "a list of images or regular expressions", |field| {
        let algorithm = algorithm(field)?;
        if let Some(why) = never_matches(&algorithm) {
            field.warn(format!("is not the name of an image, so it allows none: {why}."));
        }
        if let Some(warning) = bracketed_address(algorithm.as_str()) {
            field.warn(warning);
        }
        for wide in width::ways(&algorithm) {
            field.warn(wide.advice());
        }
        Some(algorithm)
    });
    let stores =
        entries(&section, "allowed_algorithm_stores", "a list of addresses or regular expressions", stores::store);
    let either = section.given("allow_either_whitelist_or_store");
    let combination = either.as_ref().map_or(Some(false), Field::flag).map(|either| match either {
        true => Combination::Either,
        false => Combination::Both,
    });
    let users = entries(&section, "allowed_users", "a list of user ids", user);
    let organizations = entries(&section, "allowed_organizations", "a list of organization ids or names", organization);
    let basics = section.given("allow_basics_algorithm").map_or(Some(true), |field| field.flag());
    let pull = section.given("require_algorithm_pull");
    let require_pull = match &pull {
        Some(field) => field.flag().map(Some),
        None => Some(None),
    };
    if super::is_local(file)
        && require_pull == Some(Some(true))
        && let Some(field) = &pull
    {
        field.warn("has no effect here: nothing is pulled; algorithms are the commands in `local.algorithms`.");
    }
    section.finish(Unknown::Refuse);
    let policies = Policies {
        allowed_algorithms: algorithms?,
        allowed_stores: stores?,
        combination: combination?,
        allowed_users: users?,
        allowed_organizations: organizations?,
        allow_basics_algorithm: basics?,
    };
    tell_of_the_former_rule(&section, &policies);
    if let Some(field) = either.filter(|_| policies.combination == Combination::Either)
        && (policies.allowed_algorithms.is_empty() || policies.allowed_stores.is_empty())
    {
        field.warn(
            "has no effect: it needs both `allowed_algorithms` and `allowed_algorithm_stores`. Where one of them is missing, the other \
             decides alone. (A regular node would then allow every algorithm.)",
        );
    }
    Some(Read { policies, require_pull: require_pull? })
}

/// Warns if the basics algorithm does not run although it did on nodes of 4.5.5, which ignored their list for it. Since 4.6 nodes don't.
fn tell_of_the_former_rule(section: &Section<'_>, policies: &Policies) {
    let is_listed =
        |name: &str| policies.allowed_algorithms.iter().any(|entry| entry.allows(&format!("{name}:latest")));
    let by_store = policies.combination == Combination::Either && !policies.allowed_stores.is_empty();
    let is_concerned = policies.allow_basics_algorithm && !policies.allowed_algorithms.is_empty() && !by_store;
    if !is_concerned || BASICS.iter().any(|name| is_listed(name)) {
        return;
    }
    let Some(field) = section.get("allow_basics_algorithm").or_else(|| section.get("allowed_algorithms")) else {
        return;
    };
    field.warn(format_args!(
        "vantage6's own basics algorithm does not run here, because it is not in `allowed_algorithms`. (Nodes before 4.6 let it in without.) \
         Add `{}` or `{}` to let it in, or say `allow_basics_algorithm: false`.",
        BASICS[0], BASICS[1]
    ));
}

/// Why an entry that names an image can never match one.
fn never_matches(entry: &AllowedAlgorithm) -> Option<String> {
    match entry {
        AllowedAlgorithm::Exact(name) => ImageReference::parse(name).err().map(|why| why.to_string()),
        AllowedAlgorithm::Pattern(_) => None,
    }
}

/// The warning about an expression that begins with an IPv6 address in brackets, as in an image name.
fn bracketed_address(expression: &str) -> Option<String> {
    let (address, _) = expression.trim_start_matches('^').strip_prefix('[')?.split_once(']')?;
    address.parse::<std::net::Ipv6Addr>().ok()?;
    Some(format!(
        "is read as an expression, in which `[{address}]` stands for a single character, so it does not mean the host with this address. \
         Write `^\\[{address}\\]`, and `\\.` for each dot that follows."
    ))
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
    // All entries are read before giving up, so that every error is reported.
    let entries: Vec<Option<T>> = items.iter().map(read).collect();
    entries.into_iter().collect()
}

fn algorithm(field: &Field<'_>) -> Option<AllowedAlgorithm> {
    let expected = "an image or a regular expression";
    let text = field.word(expected)?;
    match AllowedAlgorithm::new(text) {
        // Every image begins with the empty text.
        Ok(AllowedAlgorithm::Pattern(_)) if examples::matches_empty(text) != Some(false) => {
            let advice = "This one matches the empty text, and so the beginning of every image: it would let in all. To let in all, take the \
                          list out.";
            field.wrong("an expression that needs something of an image", advice);
            None
        }
        Ok(algorithm) => Some(algorithm),
        Err(error) => {
            field.wrong(expected, &expression_error(&error));
            None
        }
    }
}

/// Explains what is wrong with an expression.
fn expression_error(error: &regex::Error) -> String {
    let reason = match error {
        // `regex` shows the expression over several lines; the last one says what is wrong.
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    };
    format!("It can't be read: {reason}. Look-around and back-references of Python are not supported.")
}

/// Refuses an id that YAML reads differently from people: to YAML, `010` is eight.
pub(super) fn decimal(field: &Field<'_>, text: &str) -> Option<()> {
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
