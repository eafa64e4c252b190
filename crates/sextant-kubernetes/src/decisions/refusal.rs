//! The meaning of the API server's refusals: whether they are temporary, who has to act, and what to report. They are recognized by the
//! texts of Kubernetes's admission plugins, which offer no other interface for that.

use printable::excerpt;
use sextant_config::quantity::amount;
use sextant_core::run_state::Failure;
use sextant_core::timeouts::resource_in_words;
use vantage6_types::RunStatus;

/// The meaning of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A rule forbids the request, and will forbid it again.
    Forbidden,
    /// The run alone needs more than the quota's total.
    LargerThanQuota,
    /// The quota is used up. It has room again when other pods have ended.
    QuotaFull,
    /// The refusal may be temporary.
    MayPass,
}

/// Temporary refusals, although their texts say "forbidden" or come from a rule.
const PASSING: [&str; 6] = [
    // The webhook, or the backend of the image policy, could not be reached for its decision.
    "failed calling webhook",
    "failed to call webhook",
    "is forbidden: Post \"",
    // The quota, or the API server, was just created or started.
    "status unknown for quota",
    "not yet ready to handle request",
    // The namespace is being deleted, which callers recognize by this text.
    "being terminated",
];

/// Refusals that do not contain "is forbidden".
const RULES: [&str; 4] = ["violates PodSecurity", "denied the request", "denied request", " is invalid: "];

/// Interprets a message of the API server.
pub fn meaning(message: &str) -> Refusal {
    let says = |words: &&str| message.contains(*words);
    if message.contains("exceeded quota") {
        if beyond_quota(message).is_empty() { Refusal::QuotaFull } else { Refusal::LargerThanQuota }
    } else if PASSING.iter().any(says) {
        Refusal::MayPass
    } else if message.contains(" is forbidden: ") || RULES.iter().any(says) {
        Refusal::Forbidden
    } else {
        Refusal::MayPass
    }
}

/// Whether an account lacks a permission, rather than that a rule forbids the object.
pub fn is_missing_right(message: &str) -> bool {
    message.contains(" is forbidden: User ")
}

/// The resources of which the run alone needs more than the quota's total. Object counts are ignored: a quota of no pods means that
/// the namespace is closed for a while.
fn beyond_quota(message: &str) -> Vec<&str> {
    let after = |key| message.split_once(key).map(|(_, rest)| rest);
    let (Some(requested), Some(limited)) = (after("requested: "), after("limited: ")) else { return Vec::new() };
    let requested = requested.split_once(", used: ").map_or(requested, |(requested, _)| requested);
    let limits: Vec<(&str, f64)> = quantities(limited).collect();
    quantities(requested)
        .filter(|(name, amount)| is_size(name) && limits.iter().any(|(limit, most)| limit == name && amount > most))
        .map(|(name, _)| name)
        .collect()
}

/// Parses a list like `cpu=1,memory=2Gi`, up to the first item that is not such a pair.
fn quantities(list: &str) -> impl Iterator<Item = (&str, f64)> {
    let list = list.split_whitespace().next().unwrap_or_default();
    list.split(',').map_while(|pair| {
        let (name, quantity) = pair.split_once('=')?;
        Some((name, amount(quantity)?))
    })
}

fn is_size(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage")
        || ["requests.", "limits.", "hugepages-"].iter().any(|kind| resource.starts_with(kind))
        || resource.ends_with("/requests.storage")
}

/// Who is responsible for what a rule forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The task, by the image that it names.
    TaskImage,
    /// The node's owner, for everything in a pod that the task does not determine.
    Owner,
    /// Unknown: a rule of the cluster that does not name its subject.
    Unknown,
}

/// Texts of rules about settings of the node's owner.
const OWNERS: [&str; 13] = [
    "must specify ",
    "insufficient quota to match",
    " usage per ",
    "max limit to request ratio",
    "violates PodSecurity",
    "security context constraint",
    "service account",
    "serviceaccount",
    "RuntimeClass",
    "PriorityClass",
    "node label selector",
    "toleration",
    "is forbidden: User ",
];

/// The field of a Job or pod with the task's image.
const IMAGE_FIELD: &str = "spec.containers[0].image";

fn whose(message: &str, image: &str) -> Whose {
    if message.contains(IMAGE_FIELD) || message.contains("image policy webhook") {
        Whose::TaskImage
    } else if OWNERS.iter().any(|words| message.contains(words)) {
        Whose::Owner
    } else if names(message, image) {
        Whose::TaskImage
    } else if message.contains(" is invalid: ") {
        Whose::Owner
    } else {
        Whose::Unknown
    }
}

/// Whether a text contains exactly this image, and not as part of another name.
fn names(message: &str, image: &str) -> bool {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    !image.is_empty()
        && message.match_indices(image).any(|(at, _)| {
            let (before, after) = (&message[..at], &message[at + image.len()..]);
            !before.ends_with(of_a_name) && !after.starts_with(|c: char| of_a_name(c) && c != '.' && c != ':')
        })
}

/// The failure to report for a forbidden run: `said` is the cluster's message, `image` the task's.
pub fn forbidden(said: &str, image: &str) -> Failure {
    let message = match whose(said, image) {
        Whose::TaskImage => {
            format!("The cluster's rules do not allow the task's image '{}'. The node's log says why.", excerpt(image))
        }
        Whose::Owner => {
            "The cluster's rules do not allow the run. The task is not the cause: the node's owner can change the \
             rules. The node's log says why."
                .to_owned()
        }
        Whose::Unknown => "The cluster's rules do not allow the run. The node's log says why.".to_owned(),
    };
    let detail = format!("{said}{}", advice(said));
    Failure::new(RunStatus::StartFailed, message, detail).because("Forbidden")
}

/// What an operator can do about a rule for resources.
fn advice(said: &str) -> &'static str {
    let about_resources = ["must specify ", " usage per Container", " usage per Pod", "max limit to request ratio"];
    if about_resources.iter().any(|words| said.contains(words)) {
        " (`kubernetes.resources` is for the algorithm, `kubernetes.helper_resources` for receive, return and probe.)"
    } else {
        ""
    }
}

/// The failure to report for a run that alone exceeds a quota.
pub fn larger_than_quota(said: &str) -> Failure {
    let mut needs: Vec<&str> = beyond_quota(said).into_iter().map(resource_in_words).collect();
    needs.sort_unstable();
    needs.dedup();
    let message = format!(
        "The run needs more than the node's quota allows: {}. The task is not the cause: the node's owner can change the quota.",
        needs.join(" and ")
    );
    let detail = format!(
        "{said} (It would not fit even if nothing else ran: reduce `kubernetes.resources`, or give the namespace a larger quota.)"
    );
    Failure::new(RunStatus::StartFailed, message, detail).because("QuotaExceeded")
}

#[cfg(test)]
mod tests {
    use super::Refusal::*;
    use super::*;

    #[test]
    fn what_a_refusal_means() {
        let pod = |why: &str| format!("Error creating: pods \"x-abcde\" is forbidden: {why}");
        let quota = |numbers: &str| pod(&format!("exceeded quota: q, {numbers}"));
        for (message, expected) in [
            (pod("failed quota: q: must specify limits.cpu for: receive,return"), Forbidden),
            (pod("failed quota: q: must specify requests.ephemeral-storage for: return"), Forbidden),
            (pod("insufficient quota to match these scopes: [{PriorityClass In [high]}]"), Forbidden),
            (pod("minimum cpu usage per Container is 50m, but request is 10m"), Forbidden),
            (pod("[maximum memory usage per Pod is 1Gi, but limit is 4Gi, minimum cpu usage per Pod is 1]"), Forbidden),
            (pod("memory max limit to request ratio per Container is 2, but provided ratio is 16.000000"), Forbidden),
            (pod("violates PodSecurity \"restricted:latest\": runAsNonRoot != true"), Forbidden),
            (pod("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"), Forbidden),
            (pod("no PriorityClass with name urgent was found"), Forbidden),
            (pod("pod rejected: RuntimeClass \"gvisor\" not found"), Forbidden),
            (pod("error looking up service account v6/default: serviceaccount \"default\" not found"), Forbidden),
            (pod("unable to validate against any security context constraint: []"), Forbidden),
            (pod("pod node label selector conflicts with its namespace node label selector"), Forbidden),
            (pod("some plugin of tomorrow says no"), Forbidden),
            ("pods is forbidden: User \"system:x\" cannot create resource \"pods\"".into(), Forbidden),
            ("admission webhook \"a.b\" denied the request: no".into(), Forbidden),
            ("admission webhook \"a.b\" denied the request without explanation".into(), Forbidden),
            ("Pod \"x\" is invalid: spec.containers[0]: wrong".into(), Forbidden),
            (
                "persistentvolumeclaims \"x\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi"
                    .into(),
                Forbidden,
            ),
            // Temporary, or possibly temporary.
            (pod("exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"), QuotaFull),
            (pod("status unknown for quota: q, resources: limits.cpu"), MayPass),
            (pod("not yet ready to handle request"), MayPass),
            (pod("unable to create new content in namespace v6-jobs because it is being terminated"), MayPass),
            (pod("Post \"https://policy.example.org/check\": dial tcp: connection refused"), MayPass),
            ("Internal error occurred: failed calling webhook \"a.b\": connection refused".into(), MayPass),
            ("Internal error occurred: resource quota evaluation timed out".into(), MayPass),
            ("etcdserver: request timed out".into(), MayPass),
            // Alone larger than the quota, or only too large in addition to the others.
            (
                quota("requested: limits.memory=4160Mi, used: limits.memory=0, limited: limits.memory=4Gi"),
                LargerThanQuota,
            ),
            (quota("requested: limits.memory=4Gi, used: limits.memory=64Mi, limited: limits.memory=4Gi"), QuotaFull),
            (
                quota("requested: cpu=1100m,memory=1Gi, used: cpu=0,memory=0, limited: cpu=1,memory=2Gi"),
                LargerThanQuota,
            ),
            (quota("requested: cpu=500m, used: cpu=600m, limited: cpu=1"), QuotaFull),
            (
                quota(
                    "requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=0",
                ),
                LargerThanQuota,
            ),
            (
                quota(
                    "requested: fast.storageclass.storage.k8s.io/requests.storage=2Gi, used: fast.storageclass.storage.k8s.io/requests.storage=0, limited: fast.storageclass.storage.k8s.io/requests.storage=1Gi",
                ),
                LargerThanQuota,
            ),
            (quota("requested: pods=1, used: pods=0, limited: pods=0"), QuotaFull),
            (quota("requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0"), QuotaFull),
            (quota("requested: limits.mem"), QuotaFull),
        ] {
            assert_eq!(meaning(&message), expected, "{message}");
        }
    }

    #[test]
    fn the_researcher_hears_whose_fault_it_is_and_nothing_of_the_cluster() {
        let image = "registry.example.org/a/image:1";
        let task = "do not allow the task's image 'registry.example.org/a/image:1'.";
        let owner = "The task is not the cause";
        let unknown = "do not allow the run. The node's log says why.";
        for (said, words) in [
            ("pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: secret", owner),
            ("pods \"x\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m (secret)", owner),
            (
                "pods \"x\" is forbidden: violates PodSecurity \"restricted\": hostPath volumes (volume \"secret\")",
                owner,
            ),
            ("pods \"x\" is forbidden: error looking up service account secret/default", owner),
            (
                "Job.batch \"x\" is invalid: spec.template.spec.volumes[2].hostPath.path: Invalid value: \"/secret\"",
                owner,
            ),
            ("Job.batch \"x\" is invalid: spec.template.spec.containers[0].image: Invalid value: \"secret\"", task),
            ("pods \"x\" is forbidden: image policy webhook backend denied one or more images: secret", task),
            ("admission webhook \"secret\" denied the request: registry.example.org/a/image:1 is not signed", task),
            ("admission webhook \"secret\" denied the request: image=\"registry.example.org/a/image:1\".", task),
            ("admission webhook \"secret\" denied the request: registry.example.org/a/image:12 is not signed", unknown),
            ("admission webhook \"secret\" denied the request: no", unknown),
        ] {
            let failure = forbidden(said, image);
            assert!(failure.message.contains(words), "{said} → {}", failure.message);
            assert!(failure.detail.contains(said) && !failure.message.contains("secret"), "{failure:?}");
            assert_eq!((failure.status, failure.reason), (RunStatus::StartFailed, "Forbidden"));
        }
    }

    #[test]
    fn a_run_that_is_larger_than_a_quota_is_said_to_be_so() {
        let said = "exceeded quota: secret, requested: limits.cpu=9,limits.memory=5Gi,pods=1, used: limits.cpu=0,limits.memory=0,pods=0, \
                    limited: limits.cpu=8,limits.memory=4Gi,pods=4";
        let failure = larger_than_quota(said);
        let words = "The run needs more than the node's quota allows: memory and processors (cpu).";
        assert!(failure.message.starts_with(words) && !failure.message.contains("secret"), "{}", failure.message);
        assert!(failure.detail.contains(said) && failure.reason == "QuotaExceeded", "{failure:?}");
    }
}
