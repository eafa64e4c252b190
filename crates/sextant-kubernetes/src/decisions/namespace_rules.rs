//! ResourceQuotas and LimitRanges of a namespace that forbid every run, whatever else runs. They are reported before the first run fails.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sextant_config::KubernetesConfig;
use sextant_config::quantity::amount;

use super::facts::{ALGORITHM, RECEIVE, RETURN};
use super::probe::ROLE;

type Quantities = BTreeMap<String, Quantity>;

/// Resources that every container must specify if a quota counts them.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// A container, reduced to what these rules check.
struct Demand {
    name: &'static str,
    requests: Quantities,
    limits: Quantities,
}

/// The rules that forbid a pod of this node; each text names its rule.
pub fn broken(config: &KubernetesConfig, quotas: &[ResourceQuota], ranges: &[LimitRange]) -> Vec<String> {
    let run = [(RECEIVE, &config.helper_resources), (ALGORITHM, &config.resources), (RETURN, &config.helper_resources)];
    let probe = [(ROLE, &config.helper_resources)];
    let mut found = Vec::new();
    for pod in [&run[..], &probe[..]] {
        let pod: Vec<Demand> = pod.iter().map(|(name, resources)| demand(name, resources, ranges)).collect();
        for range in ranges {
            let name = range.metadata.name.as_deref().unwrap_or_default();
            let items = range.spec.iter().flat_map(|spec| &spec.limits);
            found.extend(items.flat_map(|item| of_item(item, &pod)).map(|why| format!("LimitRange '{name}': {why}")));
        }
        for quota in quotas.iter().filter(|quota| counts_runs(quota)) {
            let name = quota.metadata.name.as_deref().unwrap_or_default();
            found.extend(of_quota(quota, &pod).into_iter().map(|why| format!("ResourceQuota '{name}': {why}")));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A container's resources, including the defaults of the namespace's LimitRanges.
fn demand(name: &'static str, resources: &ResourceRequirements, ranges: &[LimitRange]) -> Demand {
    let mut limits = resources.limits.clone().unwrap_or_default();
    let mut requests = resources.requests.clone().unwrap_or_default();
    let add = |side: &mut Quantities, more: Option<&Quantities>| {
        for (name, quantity) in more.into_iter().flatten() {
            side.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    };
    add(&mut requests, Some(&limits));
    for item in ranges.iter().filter_map(|range| range.spec.as_ref()).flat_map(|spec| &spec.limits) {
        if item.type_ == "Container" {
            add(&mut requests, item.default_request.as_ref());
            add(&mut limits, item.default.as_ref());
        }
    }
    Demand { name, requests, limits }
}

/// Whether a quota applies to pods like Sextant's, which have no priority class and no deadline of their own.
fn counts_runs(quota: &ResourceQuota) -> bool {
    let Some(spec) = &quota.spec else { return false };
    let ours = |scope: &String| matches!(scope.as_str(), "NotTerminating" | "NotBestEffort");
    spec.scope_selector.is_none() && spec.scopes.iter().flatten().all(ours)
}

fn of_quota(quota: &ResourceQuota, pod: &[Demand]) -> Vec<String> {
    let hard = quota.spec.iter().filter_map(|spec| spec.hard.as_ref()).flatten();
    hard.filter_map(|(name, most)| {
        let (side, resource) = match name.split_once('.') {
            Some((side @ ("requests" | "limits"), resource)) => (side, resource),
            _ => ("requests", name.as_str()),
        };
        if matches!(resource, "pods" | "count/pods" | "count/jobs.batch" | "count/secrets" | "secrets") {
            return (amount(&most.0)? < 1.0).then(|| format!("it allows no {}", resource.trim_start_matches("count/")));
        }
        let of = |demand: &Demand| {
            let side = if side == "limits" { &demand.limits } else { &demand.requests };
            side.get(resource).and_then(|quantity| amount(&quantity.0))
        };
        let without: Vec<&str> = pod.iter().filter(|demand| of(demand).is_none()).map(|demand| demand.name).collect();
        if COUNTED.contains(&resource) && !without.is_empty() {
            return Some(format!("every container must specify {side}.{resource}; without: {}", without.join(", ")));
        }
        let needed = total(pod, of)?;
        let too_much = needed > amount(&most.0)?;
        too_much.then(|| format!("a pod of {} needs more {side}.{resource} than the {} in all", names(pod), most.0))
    })
    .collect()
}

fn of_item(item: &LimitRangeItem, pod: &[Demand]) -> Vec<String> {
    let whole = item.type_ == "Pod";
    if !whole && item.type_ != "Container" {
        return Vec::new();
    }
    let mut found = Vec::new();
    let get = |side: &Quantities, resource: &str| side.get(resource).and_then(|quantity| amount(&quantity.0));
    // (name, requests, limits) of one resource, for each container or for the whole pod.
    let each = |resource: &str| -> Vec<(String, Option<f64>, Option<f64>)> {
        let (requests, limits) =
            (|demand: &Demand| get(&demand.requests, resource), |demand: &Demand| get(&demand.limits, resource));
        if whole {
            return vec![(names(pod), total(pod, requests), total(pod, limits))];
        }
        pod.iter().map(|demand| (demand.name.to_owned(), requests(demand), limits(demand))).collect()
    };
    let mut check =
        |bounds: Option<&Quantities>, kind: &str, breaks: &dyn Fn(f64, Option<f64>, Option<f64>) -> bool| {
            for (resource, bound) in bounds.into_iter().flatten() {
                let Some(most) = amount(&bound.0) else { continue };
                for (whose, request, limit) in each(resource) {
                    if breaks(most, request, limit) {
                        found.push(format!("{kind} {resource} is {} for each {}; not so {whose}", bound.0, item.type_));
                    }
                }
            }
        };
    check(item.min.as_ref(), "the least", &|least, request, limit| {
        request.is_none_or(|request| request < least) || limit.is_some_and(|limit| limit < least)
    });
    check(item.max.as_ref(), "the most", &|most, request, limit| {
        limit.is_none_or(|limit| limit > most) || request.is_some_and(|request| request > most)
    });
    check(
        item.max_limit_request_ratio.as_ref(),
        "the largest ratio of limit to request of",
        &|most, request, limit| match (request, limit) {
            (Some(request), Some(limit)) if request > 0.0 => limit / request > most,
            _ => true,
        },
    );
    found
}

/// The total of a pod. `receive` ends before the other containers start, so it counts separately.
fn total(pod: &[Demand], of: impl Fn(&Demand) -> Option<f64>) -> Option<f64> {
    let (before, beside): (Vec<&Demand>, Vec<&Demand>) = pod.iter().partition(|demand| demand.name == RECEIVE);
    let sum = beside.into_iter().filter_map(&of).reduce(|a, b| a + b);
    let first = before.into_iter().filter_map(&of).reduce(f64::max);
    sum.into_iter().chain(first).reduce(f64::max)
}

fn names(pod: &[Demand]) -> String {
    pod.iter().map(|demand| demand.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use super::*;
    use serde_json::{Value, json};
    use sextant_config::Config;

    fn found(resources: &str, quota: Value, range: Value) -> Vec<String> {
        let yaml = format!("server_url: http://s\napi_key: k\nkubernetes: {resources}");
        let config = Config::parse(&yaml, std::path::Path::new("node.yaml"), &|_| None).unwrap();
        let quota = json!({"metadata": {"name": "q"}, "spec": quota});
        let range = json!({"metadata": {"name": "r"}, "spec": {"limits": range}});
        let (quota, range) = (serde_json::from_value(quota).unwrap(), serde_json::from_value(range).unwrap());
        broken(config.kubernetes().unwrap(), &[quota], &[range])
    }

    #[test]
    fn rules_that_no_run_can_keep_to_are_named() {
        let one_cpu = "{resources: {limits: {cpu: 1}}}";
        let hard = |hard: Value| json!({ "hard": hard });
        let container = |rules: Value| {
            let mut item = json!({"type": "Container"});
            item.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
            json!([item])
        };
        let none = || json!([]);
        for (resources, quota, range, words) in [
            (
                "{}",
                hard(json!({"limits.cpu": "8"})),
                none(),
                "'q': every container must specify limits.cpu; without: receive, algorithm, return",
            ),
            (one_cpu, hard(json!({"limits.cpu": "8"})), none(), ""),
            (one_cpu, hard(json!({"limits.cpu": "1"})), none(), "needs more limits.cpu than the 1 in all"),
            // A usual quota has room for a run with default settings.
            (
                "{}",
                hard(json!({"limits.memory": "4Gi", "requests.memory": "4Gi", "requests.cpu": "1", "pods": "3"})),
                none(),
                "",
            ),
            ("{}", hard(json!({"limits.memory": "3Gi"})), none(), "needs more limits.memory than the 3Gi"),
            ("{}", hard(json!({"memory": "256Mi"})), none(), "needs more requests.memory than the 256Mi"),
            ("{}", hard(json!({"requests.ephemeral-storage": "1Gi", "limits.ephemeral-storage": "11Gi"})), none(), ""),
            ("{}", hard(json!({"pods": "0"})), none(), "it allows no pods"),
            ("{}", json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}), none(), ""),
            (
                "{}",
                hard(json!({"limits.cpu": "8"})),
                container(json!({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}})),
                "",
            ),
            (
                "{}",
                hard(json!({})),
                container(json!({"min": {"cpu": "50m"}})),
                "the least cpu is 50m for each Container; not so receive",
            ),
            (
                "{helper_resources: {requests: {cpu: 50m}}}",
                hard(json!({})),
                container(json!({"min": {"cpu": "50m"}})),
                "",
            ),
            ("{}", hard(json!({})), container(json!({"min": {"memory": "32Mi"}})), ""),
            (
                "{}",
                hard(json!({})),
                container(json!({"max": {"memory": "1Gi"}})),
                "the most memory is 1Gi for each Container; not so algorithm",
            ),
            ("{}", hard(json!({})), container(json!({"maxLimitRequestRatio": {"memory": "4"}})), "not so algorithm"),
            (
                "{resources: {requests: {memory: 2Gi}}}",
                hard(json!({})),
                container(json!({"maxLimitRequestRatio": {"memory": "2"}})),
                "",
            ),
            (
                "{}",
                hard(json!({})),
                json!([{"type": "Pod", "max": {"memory": "3Gi"}}]),
                "for each Pod; not so receive, algorithm, return",
            ),
        ] {
            let found = found(resources, quota.clone(), range.clone());
            let told = found.join("; ");
            assert_eq!(found.is_empty(), words.is_empty(), "{resources} {quota} {range}: {told}");
            assert!(told.contains(words), "{resources} {quota} {range}: {told}");
        }
    }
}
