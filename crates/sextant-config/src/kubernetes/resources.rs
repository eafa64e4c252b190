//! What an algorithm may use of a machine: what the file says on top of sensible defaults.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names;
use super::super::reader::{Field, Section, Unknown};

/// Enough to be placed sensibly on a machine: what every algorithm is sure to have.
const REQUESTS: [(&str, &str); 3] = [("cpu", "100m"), ("memory", "256Mi"), ("ephemeral-storage", "100Mi")];
/// No algorithm can take a machine down. Processor time needs no limit: it is shared by the requests.
const LIMITS: [(&str, &str); 2] = [("memory", "4Gi"), ("ephemeral-storage", "10Gi")];

type Quantities = BTreeMap<String, Quantity>;

/// Without any in the file.
pub(super) fn defaults() -> ResourceRequirements {
    let owned = |all: &[(&str, &str)]| {
        all.iter().map(|&(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).collect()
    };
    ResourceRequirements { requests: Some(owned(&REQUESTS)), limits: Some(owned(&LIMITS)), claims: None }
}

/// Reads `resources`. What the file says of a resource replaces the default, and null takes it away.
pub(super) fn read(file: &Section<'_>) -> Option<ResourceRequirements> {
    let defaults = defaults();
    let Some(field) = file.get("resources") else {
        return Some(defaults);
    };
    let section = field.section("a mapping with `requests` and `limits`")?;
    let given_requests = side(&section, "requests");
    let given_limits = side(&section, "limits");
    section.finish(Unknown::Refuse);
    let (given_requests, given_limits) = (given_requests?, given_limits?);
    judge_limits(&given_limits)?;
    let mut requests = defaults.requests.unwrap_or_default();
    let mut limits = defaults.limits.unwrap_or_default();
    merge(&mut requests, &given_requests);
    merge(&mut limits, &given_limits);
    agree(&mut requests, &mut limits, &given_requests, &given_limits)?;
    Some(ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None })
}

/// A quantity of the file and where it is; `None` in it where the file takes a default away.
struct Given<'a> {
    quantity: Option<String>,
    field: Field<'a>,
}

fn side<'a>(section: &Section<'a>, key: &'static str) -> Option<BTreeMap<String, Given<'a>>> {
    let Some(field) = section.get(key) else {
        return Some(BTreeMap::new());
    };
    let side = field.section("a mapping of resources to quantities, like `memory: 4Gi`")?;
    let mut all = Some(BTreeMap::new());
    for (name, field) in side.fields() {
        let known = known_resource(name, &field);
        let quantity =
            if field.node.is_null() { Some(None) } else { quantity(&field).map(|text| Some(text.to_owned())) };
        match (known, quantity, &mut all) {
            (true, Some(quantity), Some(all)) => {
                all.insert(name.to_owned(), Given { quantity, field });
            }
            _ => all = None,
        }
    }
    all
}

/// Whether Kubernetes can have such a resource: its own have plain names, all others a domain.
fn known_resource(name: &str, field: &Field<'_>) -> bool {
    const OWN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let known =
        OWN.contains(&name) || name.starts_with("hugepages-") || (name.contains('/') && names::is_label_key(name));
    if !known {
        let advice = match names::nearest(name, OWN.into_iter()) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => "Others are written with their domain, like `nvidia.com/gpu`.".to_owned(),
        };
        let message =
            format!("`{}`: there is no such resource, expected {}. {advice}", field.path, names::listed(&OWN, "or"));
        field.findings.error(field.key_at, message);
    }
    known
}

/// Refuses limits of zero, which are none to Kubernetes, and warns of those that are taken away.
fn judge_limits(given: &BTreeMap<String, Given<'_>>) -> Option<()> {
    const OF_THE_MACHINE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let mut fine = Some(());
    for (name, Given { quantity, field }) in given {
        match quantity.as_deref().map(amount) {
            Some(Some(0.0)) if OF_THE_MACHINE.contains(&name.as_str()) => {
                field.wrong(
                    "a quantity above zero",
                    "Kubernetes takes zero for no limit at all. Write `null` if there is to be none.",
                );
                fine = None;
            }
            None if LIMITS.iter().any(|(limited, _)| limited == name) => field.warn(format_args!(
                "NO LIMIT: a single algorithm may use up the {name} of its machine, and bring down what else runs there. Write a quantity."
            )),
            _ => {}
        }
    }
    fine
}

fn merge(all: &mut Quantities, given: &BTreeMap<String, Given<'_>>) {
    for (name, Given { quantity, .. }) in given {
        match quantity {
            Some(text) => all.insert(name.clone(), Quantity(text.clone())),
            None => all.remove(name),
        };
    }
}

/// Kubernetes takes no request above its limit: where one is a default, it gives way; where both are given, it is a mistake.
fn agree(
    requests: &mut Quantities,
    limits: &mut Quantities,
    given_requests: &BTreeMap<String, Given<'_>>,
    given_limits: &BTreeMap<String, Given<'_>>,
) -> Option<()> {
    let mut fine = Some(());
    for (name, limit) in limits {
        let Some(request) = requests.get_mut(name) else {
            continue;
        };
        if amount(&request.0) <= amount(&limit.0) {
            continue;
        }
        match given_requests.get(name) {
            Some(given) if given_limits.contains_key(name) => {
                given.field.wrong(format!("no more than the limit, `{}`", limit.0), "");
                fine = None;
            }
            Some(_) => *limit = request.clone(),
            None => *request = limit.clone(),
        }
    }
    fine
}

/// A quantity as Kubernetes writes them, as the file has it.
pub(super) fn quantity<'a>(field: &Field<'a>) -> Option<&'a str> {
    let expected = "a quantity like `500m`, `2` or `4Gi`";
    let text = field.text(expected)?;
    if amount(text).is_none() {
        field.wrong(expected, "");
        return None;
    }
    Some(text)
}

/// A size: a whole number of bytes from 1 on, written as a quantity.
pub(in super::super) fn bytes(field: &Field<'_>, advice: &str) -> Option<u64> {
    let expected = "a size like `500M` or `2Gi`";
    let bytes = amount(field.text(expected)?).filter(|bytes| *bytes >= 1.0 && *bytes < 1e18);
    if bytes.is_none() {
        field.wrong(expected, advice);
    }
    // Its digits are those of a whole number: a fraction of a byte is left out.
    bytes.and_then(|bytes| format!("{:.0}", bytes.floor()).parse().ok())
}

/// How many bytes of a machine's disk an algorithm may use, if that is limited: no output that it really has written is larger.
pub(super) fn disk(resources: &ResourceRequirements) -> Option<u64> {
    let limit = amount(&resources.limits.as_ref()?.get("ephemeral-storage")?.0)?;
    format!("{:.0}", limit.ceil()).parse().ok()
}

/// How much a quantity is, exact enough to compare; `None` if it is none, or below zero.
fn amount(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => {
            let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() <= 18)?;
            10f64.powi(exponent)
        }
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use crate::kubernetes::resources::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let table = [
            ("0", Some(0.0)),
            ("2", Some(2.0)),
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1.5 * 1024.0 * 1024.0 * 1024.0)),
            ("1e3", Some(1000.0)),
            ("1E3", Some(1000.0)),
            ("4GB", None),
            ("4 Gi", None),
            ("-1", None),
            ("", None),
            ("Gi", None),
            (".", None),
            ("1e", None),
            ("1e999", None),
            ("inf", None),
        ];
        for (text, expected) in table {
            assert_eq!(amount(text), expected, "{text:?}");
        }
    }
}
