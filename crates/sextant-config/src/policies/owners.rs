//! Whose the images are that an expression lets in: who has the registry's domain, its network, or the account at it.

use sextant_core::image_reference::{ImageReference, host_of};

use super::examples::{Example, Place};
use super::shared;
use super::width::Wide;

/// Whether what a number's place in a network depends on is fixed, of a registry that is named by its number: anybody has one.
pub(super) fn begin_of_address_is_fixed(host: &str, example: &Example) -> bool {
    let are_fixed = |start: usize, end: usize| {
        example.places.get(start..end).is_some_and(|places| places.iter().all(|place| *place == Place::Fixed))
    };
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.split(']').next().unwrap_or(inside);
        // A network of one's own, or of one's wire (`fd00::1`, `fe80::1`), is told by its first group. Of the others a site has 48 bits, three
        // groups; `::` stands for one at least.
        let is_private = ["fc", "fd", "fe8", "fe9", "fea", "feb"].iter().any(|begin| inside.starts_with(begin));
        let colons = if is_private { 1 } else { 3 };
        let end = inside.match_indices(':').nth(colons - 1).map_or(inside.len(), |(at, _)| at + 1);
        return are_fixed(1, 1 + end);
    }
    let name = host.split(':').next().unwrap_or(host);
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() != 4 || !parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit())) {
        return true;
    }
    // Networks of one's own begin with one or two numbers; others are anybody's, whatever their beginning.
    let count = if matches!(parts.first(), Some(&("10" | "127"))) { 1 } else { 2 };
    let end = parts.iter().take(count).map(|part| part.len() + 1).sum::<usize>();
    are_fixed(0, end)
}

/// An example as the name of an image; what is open at its end is filled.
pub(super) fn reference(text: &str) -> Option<ImageReference> {
    let end = match text.chars().next_back() {
        Some('/') => "x".to_owned(),
        Some(':') => "1".to_owned(),
        Some('@') => format!("sha256:{}", "0".repeat(64)),
        _ => String::new(),
    };
    let text = text.strip_suffix("@sha256:").unwrap_or(text);
    ImageReference::parse(&format!("{text}{}", if text.ends_with(['/', ':', '@']) { end } else { String::new() })).ok()
}

/// The domain that somebody has, of a registry's host: its last two parts, or more below a domain that is everybody's.
pub(super) fn domain(registry: &str) -> String {
    let host = host_of(registry);
    let parts: Vec<&str> = host.rsplit('.').collect();
    let is_address = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit()));
    if is_address || host.starts_with('[') {
        return host.to_owned();
    }
    let of = |count: usize| parts.iter().take(count).rev().copied().collect::<Vec<_>>().join(".");
    let count = (2..parts.len()).find(|count| !shared::is_shared(&of(*count)));
    of(count.unwrap_or(parts.len()))
}

/// Who has an image: the domain of its registry, and the account where everybody may have one.
pub(super) fn owner(text: &str) -> Option<(String, Option<String>)> {
    let image = reference(text)?;
    Some((domain(&image.domain), account(text).map(|(_, account)| account)))
}

/// The account at a registry where everybody may have one, with the registry's domain.
fn account(image: &str) -> Option<(String, String)> {
    let image = reference(image)?;
    let (account, _) = image.path.split_once('/')?;
    shared::has_accounts(&image.domain).then(|| (domain(&image.domain), account.to_owned()))
}

/// Whether an image without a part that the expression does not need is let in, too, and is in another account. Accounts that are written
/// out one beside the other are meant.
pub(super) fn other_account(examples: &[Example]) -> Option<Wide> {
    let known: Vec<_> = examples.iter().filter_map(|example| Some((example, account(&example.text)?))).collect();
    let is_without = |long: &str, short: &Example| {
        let cut = |at: usize| Some((short.text.get(..at)?, short.text.get(at..)?));
        let cuts = short
            .left_out
            .iter()
            .filter_map(|count| cut(short.text.char_indices().nth(*count).map_or(short.text.len(), |(at, _)| at)));
        long.len() > short.text.len()
            && cuts.into_iter().any(|(before, after)| long.starts_with(before) && long.ends_with(after))
    };
    known.iter().find_map(|(meant, (registry, of))| {
        let is_other = |(also, (at, other)): &&(&Example, (String, String))| {
            at == registry && other != of && is_without(&meant.text, also)
        };
        let (also, _) = known.iter().find(is_other)?;
        Some(Wide::OtherAccount { meant: meant.text.clone(), also: also.text.clone() })
    })
}
