//! Interprets the cluster's Events about a run that does not start. Only Events say why a pod can't be created, which volume is missing,
//! or that an image is being pulled.

use jiff::Timestamp;
use sextant_core::pod_issue::{IssueKind, PodIssue};
use sextant_core::run_state::WaitsFor;

use super::refusal::{self, Refusal, forbidden, larger_than_quota};

/// The parts of an Event about a run's Job or pod that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    /// Kubernetes's reason, for example `FailedMount`.
    pub reason: String,
    /// The explanation.
    pub message: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// When it last occurred.
    pub at: Option<Timestamp>,
}

/// The newest Event that explains why the run does not start. `image` is the image that the run was created for.
pub fn interpret(events: impl IntoIterator<Item = EventFacts>, image: &str) -> Option<PodIssue> {
    // `Pulled` is also reported for an image that was already present, such as Sextant's own, with another message.
    let pulled = |event: &EventFacts| event.reason == "Pulled" && event.message.starts_with("Successfully");
    let telling = |event: &EventFacts| event.warning || event.reason == "Pulling" || pulled(event);
    let events: Vec<EventFacts> = events.into_iter().collect();
    // Once a pod exists, earlier reasons why it could not be created are obsolete.
    let made = events.iter().filter(|event| event.reason == "SuccessfulCreate").map(|event| event.at).max();
    let over = |event: &EventFacts| event.reason == "FailedCreate" && made.is_some_and(|made| event.at <= made);
    // The scheduler's reason is also in the pod's status; reasons why a scheduled pod does not start are only in Events, so they rank
    // higher.
    let newest = events
        .into_iter()
        .filter(|event| telling(event) && !over(event))
        .max_by_key(|event| (event.reason != "FailedScheduling", event.at))?;
    let text = format!("{}: {}", newest.reason, newest.message);
    let of_creation = || match refusal::meaning(&newest.message) {
        Refusal::Forbidden => IssueKind::Permanent(forbidden(&text, image)),
        Refusal::LargerThanQuota => IssueKind::Permanent(larger_than_quota(&text)),
        Refusal::QuotaFull => IssueKind::WaitsFor(WaitsFor::Quota),
        Refusal::MayPass => IssueKind::Other,
    };
    let kind = match newest.reason.as_str() {
        "Pulling" | "Pulled" => IssueKind::Progress,
        "FailedCreate" => of_creation(),
        // The pod's own volume is created with it, and the cluster may have rules for volumes.
        "FailedBinding" | "ProvisioningFailed" => match of_creation() {
            IssueKind::Other => IssueKind::WaitsFor(WaitsFor::Volume),
            kind => kind,
        },
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => IssueKind::WaitsFor(WaitsFor::Volume),
        _ => IssueKind::Other,
    };
    Some(PodIssue { text, kind, at: newest.at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_events_mean() {
        for (reason, message, meaning) in [
            ("FailedCreate", "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", "Forbidden"),
            ("FailedCreate", "admission webhook \"a.b\" denied the request: no", "Forbidden"),
            ("FailedCreate", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "Forbidden"),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 4Gi",
                "Forbidden",
            ),
            ("FailedCreate", "Pod \"x\" is invalid: spec.containers[0]: wrong", "Forbidden"),
            ("FailedCreate", "failed calling webhook \"a.b\": connection refused", "Other"),
            ("FailedCreate", "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1", "WaitsFor(Quota)"),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: exceeded quota: q, requested: limits.cpu=9, used: limits.cpu=0, limited: limits.cpu=8",
                "QuotaExceeded",
            ),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: receive,return",
                "Forbidden",
            ),
            ("FailedCreate", "etcdserver: request timed out", "Other"),
            ("FailedMount", "MountVolume.SetUp failed: hostPath type check failed", "WaitsFor(Volume)"),
            ("ProvisioningFailed", "storageclass.storage.k8s.io \"fast\" not found", "WaitsFor(Volume)"),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: exceeded quota: q",
                "WaitsFor(Quota)",
            ),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: exceeded quota: q, \
                 requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi",
                "QuotaExceeded",
            ),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
                "Forbidden",
            ),
            ("Pulling", "Pulling image \"x\"", "Progress"),
            ("FailedScheduling", "0/1 nodes are available", "Other"),
            ("SuccessfulCreate", "Created pod: x", ""),
        ] {
            let warning = !matches!(reason, "Pulling" | "SuccessfulCreate");
            let event = EventFacts { reason: reason.into(), message: message.into(), warning, at: None };
            let found = interpret([event], "image").map(|issue| match issue.kind {
                IssueKind::Permanent(failure) => failure.reason.to_owned(),
                kind => format!("{kind:?}"),
            });
            assert_eq!(found.unwrap_or_default(), meaning, "{message}");
        }
    }

    #[test]
    fn the_newest_counts() {
        let event = |reason: &str, second| EventFacts {
            reason: reason.into(),
            message: String::new(),
            warning: reason != "Pulling",
            at: Timestamp::from_second(second).ok(),
        };
        let issue =
            interpret([event("FailedMount", 1), event("Pulling", 3), event("FailedCreate", 2)], "image").unwrap();
        assert_eq!(issue.text, "Pulling: ");
        let issue = interpret([event("FailedBinding", 1), event("FailedScheduling", 2)], "image").unwrap();
        assert_eq!(issue.text, "FailedBinding: ");
        assert_eq!(interpret([], "image"), None);
    }

    #[test]
    fn what_kept_a_pod_from_being_made_is_over_when_there_is_one() {
        let event = |reason: &str, second| EventFacts {
            reason: reason.into(),
            message: "pods \"x\" is forbidden: no".into(),
            warning: reason == "FailedCreate",
            at: Timestamp::from_second(second).ok(),
        };
        assert_eq!(interpret([event("FailedCreate", 1), event("SuccessfulCreate", 2)], "image"), None);
        let issue = interpret([event("SuccessfulCreate", 1), event("FailedCreate", 2)], "image").unwrap();
        assert!(matches!(issue.kind, IssueKind::Permanent(_)), "{issue:?}");
    }
}
