//! Who owns the images that an expression allows: the owner of the registry's domain, of its network, or of the account at it.

use sextant_core::image_reference::{ImageReference, host_of};

use super::examples::{Example, Place};
use super::shared;
use super::width::Wide;

/// Whether the part of a registry's IP address that decides its network is fixed. Anybody can have some address. True for other hosts.
pub(super) fn begin_of_address_is_fixed(host: &str, example: &Example) -> bool {
    let are_fixed = |start: usize, end: usize| {
        example.places.get(start..end).is_some_and(|places| places.iter().all(|place| *place == Place::Fixed))
    };
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.split(']').next().unwrap_or(inside);
        // The first group identifies a private or link-local network (`fd00::1`, `fe80::1`). Elsewhere, a site has 48 bits, three groups.
        // `::` stands for at least one.
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
    // One or two numbers identify a private network. Other addresses may be anybody's, whatever their beginning.
    let count = if matches!(parts.first(), Some(&("10" | "127"))) { 1 } else { 2 };
    let end = parts.iter().take(count).map(|part| part.len() + 1).sum::<usize>();
    are_fixed(0, end)
}

/// Parses an example as an image reference. If its end is open, it is completed.
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

/// The registrable domain of a registry's host: its last two parts, or more below a shared domain.
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

/// The owner of an image: its registry's domain, and the account if the registry is open to everybody.
pub(super) fn owner(text: &str) -> Option<(String, Option<String>)> {
    let image = reference(text)?;
    Some((domain(&image.domain), account(text).map(|(_, account)| account)))
}

/// The account of an image at a registry that is open to everybody, with the registry's domain.
fn account(image: &str) -> Option<(String, String)> {
    let image = reference(image)?;
    let (account, _) = image.path.split_once('/')?;
    shared::has_accounts(&image.domain).then(|| (domain(&image.domain), account.to_owned()))
}

/// Whether leaving out an optional part of an image's name gives an allowed image in another account. Accounts that are spelled out side
/// by side are intended.
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
