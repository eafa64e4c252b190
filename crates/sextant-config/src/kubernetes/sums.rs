//! Egress ranges that are narrow each and wide together.

use std::net::IpAddr;

use super::Cidr;
use super::destinations::{WIDEST, unwrapped};

/// The warning about the ranges of one database together, unless one of them is wide by itself and reported already.
pub(super) fn warning(cidrs: impl Iterator<Item = Cidr>) -> Option<String> {
    let (v4, v6): (Vec<Cidr>, Vec<Cidr>) = cidrs.map(unwrapped).partition(|cidr| cidr.address.is_ipv4());
    [(v4, 32, WIDEST.0, "IPv4"), (v6, 128, WIDEST.1, "IPv6")].into_iter().find_map(|(cidrs, bits, widest, kind)| {
        let is_told = cidrs.iter().any(|cidr| cidr.prefix < widest);
        // One bit wider than the widest single range that passes without a warning. A narrow range with a few more addresses stays below.
        let wide = widest - 1;
        (!is_told && addresses(&cidrs, bits) >= 1 << (bits - wide)).then(|| {
            format!(
                "has as many addresses in all as a /{wide} ({kind}), or more: algorithms that ask for this database reach all of them. Name the \
                 database's own."
            )
        })
    })
}

/// The number of addresses in ranges of one IP version, each counted once.
fn addresses(cidrs: &[Cidr], bits: u8) -> u128 {
    let mut ranges: Vec<(u128, u128)> = cidrs.iter().map(|cidr| ends(*cidr, bits)).collect();
    ranges.sort_unstable();
    let mut counted = None;
    let mut sum = 0u128;
    for (first, last) in ranges {
        let from = counted.map_or(first, |counted: u128| first.max(counted.saturating_add(1)));
        if from <= last {
            sum = sum.saturating_add(last - from).saturating_add(1);
            counted = Some(last);
        }
    }
    sum
}

/// The first and the last address of a range.
fn ends(cidr: Cidr, bits: u8) -> (u128, u128) {
    let first = match cidr.address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let others = 1u128.checked_shl((bits - cidr.prefix).into()).map_or(u128::MAX, |size| size - 1);
    (first, first | others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(cidrs: impl IntoIterator<Item = String>) -> bool {
        warning(cidrs.into_iter().map(|cidr| Cidr::parse(&cidr).unwrap_or_else(|_| panic!("{cidr}")))).is_some()
    }

    #[test]
    fn many_narrow_ranges_are_a_wide_one() {
        let of = |cidrs: &[&str]| is_told(cidrs.iter().map(ToString::to_string));
        assert!(is_told((0..256).map(|part| format!("10.1.{part}.0/24"))), "a /16");
        assert!(is_told((0..512).map(|host| format!("10.1.{}.{}", host / 200, host % 200))));
        assert!(!is_told((0..511).map(|host| format!("10.1.{}.{}", host / 200, host % 200))), "less than a /23");
        assert!(of(&["10.1.2.0/24", "10.9.9.0/24"]), "far from each other");
        assert!(!of(&["10.1.2.0/24", "10.9.9.9"]));
        assert!(of(&["10.1.2.0/24", "::ffff:10.1.3.0/120"]));
        assert!(!of(&["10.1.2.0/24", "10.1.2.0/25", "10.1.2.7", "::ffff:10.1.2.0/120"]), "the same addresses");
        assert!(of(&["fd12::/64", "fd13::/64"]) && !of(&["fd12::/64", "fd13::1"]));
        assert!(!of(&["fd12::/64", "fd12::1", "10.1.2.0/24"]), "one of each kind");
        assert!(!of(&["10.0.0.0/8", "10.1.2.0/24"]) && !of(&["::/0", "::/1"]), "told of the one");
        assert!(!of(&[]) && !of(&["10.1.2.3"]));
    }
}
