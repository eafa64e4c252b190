//! What an algorithm may use of a machine: the configured resources on top of defaults.

use std::collections::BTreeMap;

use crate::quantity::amount;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::names;
use super::super::reader::{Field, Section};
use super::labels;

/// The default requests: enough for sensible scheduling.
const REQUESTS: [(&str, &str); 3] = [("cpu", "100m"), ("memory", "256Mi"), ("ephemeral-storage", "100Mi")];
/// The default limits keep an algorithm from taking its machine down. CPU needs no limit: requests divide it. A quota of 4Gi has room for
/// the memory of one run with its helper, and of the two pods that test the network isolation meanwhile.
const LIMITS: [(&str, &str); 2] = [("memory", "3840Mi"), ("ephemeral-storage", "10Gi")];
/// The memory of Sextant's own containers. They stream, so the size of input and output does not matter. Request and limit are equal,
/// which satisfies every ratio that a LimitRange may require.
const HELPER_MEMORY: &str = "64Mi";
/// Their disk, for logs: a kubelet keeps up to about 25 MB of one.
const HELPER_DISK: &str = "32Mi";
/// Their CPU request if CPU has no limit.
const HELPER_CPU: &str = "10m";
/// Their CPU request and limit if CPU is limited. Mostly they wait. A tenth of a CPU starts them within one CFS period and streams tens
/// of MB a second through TLS: a result of 1 GB takes some seconds more.
const HELPER_CPU_LIMIT: &str = "100m";

/// More than any machine has, in bytes: 64 TiB of memory, 1 PiB of disk.
const MOST: [(&str, f64); 2] = [
    ("memory", 64.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("ephemeral-storage", 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0),
];

type Quantities = BTreeMap<String, Quantity>;

/// The resources of an algorithm without any settings.
pub(super) fn defaults() -> ResourceRequirements {
    ResourceRequirements { requests: Some(owned(REQUESTS)), limits: Some(owned(LIMITS)), claims: None }
}

/// The resources of Sextant's own containers beside an algorithm with these resources. If the algorithm's CPU or disk is limited, theirs
/// is too: a namespace whose quota requires a limit requires it of every container. Otherwise there is no limit, since a CPU limit slows
/// them down.
pub fn helper_defaults(algorithm: &ResourceRequirements) -> ResourceRequirements {
    let has = |side: &Option<Quantities>, name: &str| side.as_ref().is_some_and(|side| side.contains_key(name));
    let limited = |name: &str| has(&algorithm.limits, name);
    let both = [
        limited("cpu").then_some(("cpu", HELPER_CPU_LIMIT)),
        Some(("memory", HELPER_MEMORY)),
        limited("ephemeral-storage").then_some(("ephemeral-storage", HELPER_DISK)),
    ];
    let limits = owned(both.into_iter().flatten());
    let mut requests = limits.clone();
    requests.entry("cpu".to_owned()).or_insert_with(|| Quantity(HELPER_CPU.to_owned()));
    if has(&algorithm.requests, "ephemeral-storage") {
        requests.insert("ephemeral-storage".to_owned(), Quantity(HELPER_DISK.to_owned()));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn owned<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Quantities {
    all.into_iter().map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).collect()
}

/// Reads `resources`. A configured resource replaces its default, and null removes it.
pub(super) fn read(file: &Section<'_>) -> Option<ResourceRequirements> {
    let Some(field) = file.get("resources") else {
        return Some(defaults());
    };
    let given = Sides::read(&field)?;
    warn_of_no_limit(&given.limits);
    given.on_top_of(defaults())
}

/// Reads `helper_resources`, those of Sextant's own containers beside an algorithm with these resources.
pub(super) fn read_helpers(file: &Section<'_>, algorithm: &ResourceRequirements) -> Option<ResourceRequirements> {
    let mut defaults = helper_defaults(algorithm);
    let Some(field) = file.get("helper_resources") else {
        return Some(defaults);
    };
    let given = Sides::read(&field)?;
    // As in Kubernetes: a limit without a request is also the request.
    for (name, Given { quantity, .. }) in &given.limits {
        if let (Some(quantity), Some(requests)) = (quantity, &mut defaults.requests) {
            requests.insert(name.clone(), Quantity(quantity.clone()));
        }
    }
    given.on_top_of(defaults)
}

/// The settings under `requests` and `limits`.
struct Sides<'a> {
    requests: BTreeMap<String, Given<'a>>,
    limits: BTreeMap<String, Given<'a>>,
}

impl<'a> Sides<'a> {
    fn read(field: &Field<'a>) -> Option<Self> {
        let section = field.section("a mapping with `requests` and `limits`")?;
        let (requests, limits) = (side(&section, "requests"), side(&section, "limits"));
        section.finish_own();
        let (requests, limits) = (requests?, limits?);
        refuse_zero(&limits)?;
        warn_of_slips(&requests, &limits);
        warn_of_networks(&requests, &limits);
        Some(Self { requests, limits })
    }

    fn on_top_of(&self, defaults: ResourceRequirements) -> Option<ResourceRequirements> {
        let mut requests = defaults.requests.unwrap_or_default();
        let mut limits = defaults.limits.unwrap_or_default();
        merge(&mut requests, &self.requests);
        merge(&mut limits, &self.limits);
        agree(&mut requests, &mut limits, &self.requests, &self.limits)?;
        Some(ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None })
    }
}

/// A configured quantity with its position. `None` if the file removes a default.
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

/// Whether the resource name is valid in Kubernetes: its own resources have plain names, all others a domain.
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

/// Warns of requests so large that the limit, which is never below the request, has no effect; and of fractions of a byte.
fn warn_of_slips(requests: &BTreeMap<String, Given<'_>>, limits: &BTreeMap<String, Given<'_>>) {
    for (name, Given { quantity, field }) in requests {
        let amount = quantity.as_deref().and_then(amount);
        if MOST.iter().any(|(limited, most)| limited == name && amount.is_some_and(|amount| amount > *most)) {
            field.warn(format_args!(
                "is more {name} than a machine has: no pod finds a place, and the limit, which is never below it, is none. Write what one \
                 needs."
            ));
        }
    }
    for (name, Given { quantity, field }) in requests.iter().chain(limits) {
        let of_bytes = MOST.iter().any(|(limited, _)| limited == name);
        if of_bytes && quantity.as_deref().is_some_and(|text| text.ends_with(['m', 'u', 'n'])) {
            field.warn("counts parts of a byte: `m` is a thousandth. For mebibytes write `Mi`.");
        }
    }
}

/// Warns of devices that connect algorithms to a network.
fn warn_of_networks(requests: &BTreeMap<String, Given<'_>>, limits: &BTreeMap<String, Given<'_>>) {
    for (_, Given { field, .. }) in requests.iter().chain(limits).filter(|(name, _)| labels::is_of_a_network(name)) {
        field.warn(
            "is a device of a network, by which algorithms reach others on it: NetworkPolicies don't hold there, and nothing tries it. Take it \
             out, unless nothing but runs can be reached by it.",
        );
    }
}

/// Refuses limits of zero, which mean no limit to Kubernetes.
fn refuse_zero(given: &BTreeMap<String, Given<'_>>) -> Option<()> {
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
            Some(Some(amount)) if MOST.iter().any(|(limited, most)| limited == name && amount > *most) => field.warn(format_args!(
                "is more {name} than a machine has, and so no limit: a single algorithm may bring down what else runs there. Write what one \
                 may use."
            )),
            None if LIMITS.iter().any(|(limited, _)| limited == name) => field.warn(format_args!(
                "NO LIMIT: a single algorithm may use up the {name} of its machine, and bring down what else runs there. Write a quantity."
            )),
            _ => {}
        }
    }
    fine
}

/// Warns of limits that the file removes from algorithms.
fn warn_of_no_limit(given: &BTreeMap<String, Given<'_>>) {
    for (name, Given { quantity, field }) in given {
        if quantity.is_none() && LIMITS.iter().any(|(limited, _)| limited == name) {
            field.warn(format_args!(
                "NO LIMIT: a single algorithm may use up the {name} of its machine, and bring down what else runs there. Write a quantity."
            ));
        }
    }
}

fn merge(all: &mut Quantities, given: &BTreeMap<String, Given<'_>>) {
    for (name, Given { quantity, .. }) in given {
        match quantity {
            Some(text) => all.insert(name.clone(), Quantity(text.clone())),
            None => all.remove(name),
        };
    }
}

/// Makes requests no larger than their limits, as Kubernetes requires. A default value is adjusted; if both are given, it is an error.
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

/// Reads a quantity in Kubernetes's format, as it is written.
pub(super) fn quantity<'a>(field: &Field<'a>) -> Option<&'a str> {
    let expected = "a quantity like `500m`, `2` or `4Gi`";
    let text = field.text(expected)?;
    if amount(text).is_none() {
        field.wrong_form(expected, "");
        return None;
    }
    Some(text)
}

/// Reads a size: a number of bytes from 1 on, written as a quantity.
pub(in super::super) fn bytes(field: &Field<'_>, advice: &str) -> Option<u64> {
    let expected = "a size like `500M` or `2Gi`";
    let bytes = amount(field.text(expected)?).filter(|bytes| *bytes >= 1.0 && *bytes < 1e18);
    if bytes.is_none() {
        field.wrong_form(expected, advice);
    }
    // Parsing these digits can't fail: the fraction of a byte is cut off.
    bytes.and_then(|bytes| format!("{:.0}", bytes.floor()).parse().ok())
}

/// The limit of an algorithm's ephemeral storage in bytes, if there is one. An output on disk can't be larger.
pub(super) fn disk(resources: &ResourceRequirements) -> Option<u64> {
    let limit = amount(&resources.limits.as_ref()?.get("ephemeral-storage")?.0)?;
    format!("{:.0}", limit.ceil()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
