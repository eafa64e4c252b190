//! `policies.allowed_algorithm_stores`. The node sends its token to a store, so no unintended store may be allowed.

use sextant_core::policies::AllowedStore;
use url::Url;
use vantage6_types::plain_address;

use super::examples::{self, Example, Place};
use super::{bracketed_address, expression_error, owners, shared, width};
use crate::reader::Field;

/// A host that no owner intends to allow.
const STRANGER: &str = "stranger.example";

/// Reads an entry.
pub(super) fn store(field: &Field<'_>) -> Option<AllowedStore> {
    let expected = "the address of an algorithm store, like `https://store.example.org/api`, or a regular expression";
    let text = field.word(expected)?;
    match AllowedStore::new(text) {
        Ok(AllowedStore::Pattern(_)) if examples::matches_empty(text) != Some(false) => {
            field.wrong(
                "an expression that needs something of an address",
                "This one matches the empty text, and so the beginning of every address: it would let in all stores.",
            );
            None
        }
        Ok(store) => {
            let warnings = match &store {
                AllowedStore::Exact(address) => match exact(address) {
                    Some(warnings) => warnings,
                    None => {
                        field.wrong(expected, "");
                        return None;
                    }
                },
                AllowedStore::Pattern(_) => {
                    let bracketed = text.split_once("//").and_then(|(_, rest)| bracketed_address(rest));
                    bracketed.into_iter().chain(wide(&store)).chain(unencrypted(&store)).collect()
                }
            };
            warnings.into_iter().for_each(|warning| field.warn(warning));
            Some(store)
        }
        Err(error) => {
            field.wrong(expected, &expression_error(&error));
            None
        }
    }
}

/// The warnings about an address; `None` if it is not one.
fn exact(address: &str) -> Option<Vec<String>> {
    let url = plain_address(address)?;
    let mut warnings = Vec::new();
    if url.path().trim_matches('/').is_empty() {
        warnings.push(format!(
            "has no path. Servers since 4.8 know a store by an address with the path of its API, and only the same address is allowed: \
             write `{address}/api`, unless the server has it without."
        ));
    }
    if is_readable(&url) {
        warnings.push(format!("begins with http://. {READABLE}"));
    }
    Some(warnings)
}

const READABLE: &str = "The node asks the store with its token for the vantage6 server, which others on the way can read then, and they can \
                        answer in the store's place: use https://.";

/// Whether others can read the traffic to an address.
fn is_readable(url: &Url) -> bool {
    url.scheme() == "http" && !matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Whether an expression allows an address whose traffic others can read.
fn unencrypted(store: &AllowedStore) -> Option<String> {
    let is_one = |text: &str| store.allows(text) && Url::parse(text).is_ok_and(|url| is_readable(&url));
    let example = examples::of(store.as_str()).into_iter().find(|example| is_one(&example.text))?;
    Some(format!("lets in addresses with http://, for example `{}`. {READABLE}", example.text))
}

/// Whether leaving out a part of the host name gives an allowed store in another domain.
fn other_domain(addresses: &[&Example]) -> Option<String> {
    let known = |example: &&Example| Some((example.text.clone(), owners::domain(split(&example.text)?.1)));
    let known: Vec<(String, String)> = addresses.iter().filter_map(known).collect();
    let (meant, also) = width::in_other_domain(&known)?;
    Some(format!(
        "lets in `{also}` besides `{meant}`: without a part of the host's name it is in another domain, for whoever has that one. Let that \
         part be needed."
    ))
}

/// How an expression allows more stores than it seems to.
fn wide(store: &AllowedStore) -> Option<String> {
    let all = examples::of(store.as_str());
    let (addresses, others): (Vec<&Example>, Vec<&Example>) =
        all.iter().partition(|example| split(&example.text).is_some_and(|(_, host, _)| is_host(host)));
    let addresses: Vec<&Example> = addresses.into_iter().filter(|example| store.allows(&example.text)).collect();
    let strange = |text: String, advice: &str| {
        let host = Url::parse(&text).ok().and_then(|url| url.host_str().map(str::to_owned))?;
        let is_strange = host.ends_with(STRANGER) && store.allows(&text);
        is_strange.then(|| format!("lets in other stores, for example `{text}`: {advice}"))
    };
    const WRITE_OUT: &str = "write out the store's host, like `^https://store\\.example\\.org/`.";
    let any = ["https", "http"].into_iter().find_map(|scheme| strange(format!("{scheme}://{STRANGER}/api"), WRITE_OUT));
    let of_other = |example: &&Example| strange(format!("https://{STRANGER}/{}", example.text), WRITE_OUT);
    let of_address = |example: &&Example| {
        let (scheme, host, rest) = split(&example.text)?;
        strange(format!("{scheme}{host}.{STRANGER}/api"), "end the host's name with a slash.")
            .or_else(|| strange(format!("{scheme}{STRANGER}/{host}{rest}"), WRITE_OUT))
            .or_else(|| {
                let from = scheme.chars().count();
                let places = example.places.get(from..from + host.chars().count())?;
                several_hosts(host, places, &example.text)
            })
    };
    let found = any.or_else(|| others.iter().find_map(of_other)).or_else(|| addresses.iter().find_map(of_address));
    let found = found.or_else(|| other_domain(&addresses)).or_else(|| repeated(store, &addresses));
    let cut = || examples::are_cut(store.as_str()).then(|| width::TOO_LARGE.to_owned());
    found.or_else(cut).or_else(|| {
        addresses.is_empty().then(|| {
            "seems to let in nothing: no address was found that it matches from its beginning. Begin it with `https://`.".to_owned()
        })
    })
}

/// The warning about a host name that is not fixed.
fn several_hosts(host: &str, places: &[Place], address: &str) -> Option<String> {
    if places.contains(&Place::DotOrOther) {
        return Some(
            "lets in several hosts: in an expression, a dot stands for any character. Write `\\.` for a dot, and all of the host's name."
                .to_owned(),
        );
    }
    let last = places.iter().rposition(|place| *place == Place::Open)?;
    let rest: String = host.chars().skip(last).collect();
    // The owner of a domain owns all names below it; below a shared domain, anybody owns some.
    let is_of_anybody = rest.split_once('.').is_none_or(|(_, domain)| shared::is_shared(domain));
    Some(match is_of_anybody {
        true => format!(
            "lets in several hosts, for example `{address}`, in a domain where everybody may have a name. The node asks each store with its \
             token: write out the host's name."
        ),
        false => format!(
            "lets in several hosts, for example `{address}`. The node asks each store with its token: write out their names, like \
             `(store|test)\\.example\\.org`, unless all below that domain are meant."
        ),
    })
}

/// Whether repeating a part of the host name gives an allowed store in another domain.
fn repeated(store: &AllowedStore, addresses: &[&Example]) -> Option<String> {
    let domain = |text: &str| split(text).map(|(_, host, _)| owners::domain(host));
    let known: Vec<String> = addresses.iter().filter_map(|example| domain(&example.text)).collect();
    let meant = addresses.first()?;
    let is_another = |text: &str| store.allows(text) && domain(text).is_some_and(|other| !known.contains(&other));
    let also = examples::of_repeats(store.as_str()).into_iter().find(|example| is_another(&example.text))?;
    Some(format!(
        "lets in `{}` besides `{}`: with a part of the host's name repeated it is in another domain, for whoever has that one. In an \
         expression, `+`, `*` and `{{…}}` repeat what is before them.",
        also.text, meant.text
    ))
}

/// Whether a text can be a host name: it has no empty part before a dot or colon.
fn is_host(host: &str) -> bool {
    !host.starts_with(['.', ':']) && !host.contains("..")
}

/// Splits an address into its scheme, its host, and the rest.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = text.split_at(text.find("://")? + 3);
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    (matches!(scheme, "https://" | "http://") && !host.is_empty()).then_some((scheme, host, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_let_in_other_stores_are_told() {
        for (entry, words) in [
            (r"^https://store\.example\.org/", None),
            (r"^https://store\.example\.org/api$", None),
            (r"^https://(a|b)\.example\.org/api$", None),
            (r"^https://store\.example\.org", Some("end the host's name")),
            (r"^https?://.*/api$", Some("write out the store's host")),
            (r".*example\.org/api$", Some("lets in")),
            (r"^https://store.example.org/api$", Some("several hosts")),
            (r"^https://[a-z]+\.example\.org/api$", Some("several hosts")),
            (r"store\.example\.org/.+", Some("to let in nothing")),
            (r"^https://exa?mple\.org/api$", Some("in another domain")),
            (r"^https://(store\.)?example\.org/api$", None),
            (r"^https://([a-z]+\.)?example\.org/", Some("several hosts")),
            (r"^https://[a-z]+\.github\.io/", Some("everybody may have a name")),
            (r"^https://[a-z-]+\.azurewebsites\.net/api$", Some("everybody may have a name")),
            (r"^https://[a-z-]+\.co\.uk/api$", Some("everybody may have a name")),
            (r"^https://store\.example\.[a-z]+/api$", Some("everybody may have a name")),
            (r"^https://store\.example\.org+/", Some("repeated")),
            (r"^https://exam+ple\.org/api$", Some("repeated")),
            (r"^https://(store\.)+example\.org/api$", None),
            (r"^https://*\.vantage6\.ai$", Some("to let in nothing")),
            (r"^https://*\.vantage6\.ai/api", Some("to let in nothing")),
        ] {
            let told = wide(&AllowedStore::new(entry).unwrap());
            match words {
                None => assert_eq!(told, None, "{entry}"),
                Some(words) => assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{entry}: {told:?}"),
            }
        }
    }

    #[test]
    fn no_advice_is_about_a_dot_where_there_is_none() {
        for entry in [r"^https://([a-z]+\.)?example\.org/", r"^https://[a-z]+\.example\.org/api$"] {
            let told = wide(&AllowedStore::new(entry).unwrap()).unwrap();
            assert!(told.contains("several hosts") && !told.contains("a dot stands for"), "{entry}: {told}");
        }
        let many = (0..300).map(|number| format!("s{number}")).collect::<Vec<_>>().join("|");
        let told = wide(&AllowedStore::new(&format!(r"^https://({many})\.example\.org/")).unwrap()).unwrap();
        assert!(told.contains("several entries"), "{told}");
    }

    #[test]
    fn expressions_that_let_in_http_are_told() {
        for (entry, expected) in [
            (r"^http://store\.example\.org/api$", true),
            (r"^https?://store\.example\.org/", true),
            (r"^https://store\.example\.org/", false),
            (r"^http://localhost:5000/api$", false),
        ] {
            assert_eq!(unencrypted(&AllowedStore::new(entry).unwrap()).is_some(), expected, "{entry}");
        }
    }
}
