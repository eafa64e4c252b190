//! What the cluster's Events say of a run that does not start. Much stands nowhere but there: why a pod may not be made, which
//! volume is missing, that an image is being pulled.

use jiff::Timestamp;

use super::refusal::{self, Refusal, forbidden, larger_than_quota};
use super::situation::{Failure, WaitsFor};

/// An Event about a run's Job or pod, boiled down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    /// Kubernetes's word, for example `FailedMount`.
    pub reason: String,
    /// Its explanation.
    pub message: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// When it was seen last.
    pub at: Option<Timestamp>,
}

/// What they say, in sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// In Kubernetes's words, for the operator.
    pub text: String,
    /// What it means.
    pub meaning: Meaning,
    /// When it was said last.
    pub at: Option<Timestamp>,
}

/// What a complaint means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The cluster's rules forbid the pod: it will never be.
    Forbidden,
    /// The pod alone is larger than a quota: it will never be.
    LargerThanQuota,
    /// This is what the run waits for.
    WaitsFor(WaitsFor),
    /// Something goes on.
    Progress,
    /// Something that may pass.
    Other,
}

/// The newest thing said that means something.
pub fn judge(events: impl IntoIterator<Item = EventFacts>) -> Option<Complaint> {
    // Of our own image, which was there already, the same is said.
    let pulled = |event: &EventFacts| event.reason == "Pulled" && event.message.starts_with("Successfully");
    let telling = |event: &EventFacts| event.warning || event.reason == "Pulling" || pulled(event);
    let events: Vec<EventFacts> = events.into_iter().collect();
    // What kept a pod from being made is over when there is one.
    let made = events.iter().filter(|event| event.reason == "SuccessfulCreate").map(|event| event.at).max();
    let over = |event: &EventFacts| event.reason == "FailedCreate" && made.is_some_and(|made| event.at <= made);
    // What the scheduler says stands at the pod, too; what keeps it from going on does not.
    let newest = events
        .into_iter()
        .filter(|event| telling(event) && !over(event))
        .max_by_key(|event| (event.reason != "FailedScheduling", event.at))?;
    let meaning = match newest.reason.as_str() {
        "Pulling" | "Pulled" => Meaning::Progress,
        "FailedCreate" => of_creation(&newest.message),
        // A volume that is the pod's own is made for it; the cluster may have rules for that.
        "FailedBinding" | "ProvisioningFailed" => match of_creation(&newest.message) {
            Meaning::Other => Meaning::WaitsFor(WaitsFor::Volume),
            meaning => meaning,
        },
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => Meaning::WaitsFor(WaitsFor::Volume),
        _ => Meaning::Other,
    };
    Some(Complaint { text: format!("{}: {}", newest.reason, newest.message), meaning, at: newest.at })
}

fn of_creation(message: &str) -> Meaning {
    match refusal::meaning(message) {
        Refusal::Forbidden => Meaning::Forbidden,
        Refusal::LargerThanQuota => Meaning::LargerThanQuota,
        Refusal::QuotaFull => Meaning::WaitsFor(WaitsFor::Quota),
        Refusal::MayPass => Meaning::Other,
    }
}

impl Complaint {
    /// What is to be reported where it will not pass.
    pub fn end(&self, image: &str) -> Option<Failure> {
        match self.meaning {
            Meaning::Forbidden => Some(forbidden(&self.text, image)),
            Meaning::LargerThanQuota => Some(larger_than_quota(&self.text)),
            Meaning::WaitsFor(_) | Meaning::Progress | Meaning::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_events_mean() {
        use Meaning::*;
        for (reason, message, meaning) in [
            ("FailedCreate", "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", Some(Forbidden)),
            ("FailedCreate", "admission webhook \"a.b\" denied the request: no", Some(Forbidden)),
            ("FailedCreate", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", Some(Forbidden)),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 4Gi",
                Some(Forbidden),
            ),
            ("FailedCreate", "Pod \"x\" is invalid: spec.containers[0]: wrong", Some(Forbidden)),
            ("FailedCreate", "failed calling webhook \"a.b\": connection refused", Some(Other)),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1",
                Some(WaitsFor(super::WaitsFor::Quota)),
            ),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: exceeded quota: q, requested: limits.cpu=9, used: limits.cpu=0, limited: limits.cpu=8",
                Some(LargerThanQuota),
            ),
            (
                "FailedCreate",
                "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: receive,return",
                Some(Forbidden),
            ),
            ("FailedCreate", "etcdserver: request timed out", Some(Other)),
            (
                "FailedMount",
                "MountVolume.SetUp failed: hostPath type check failed",
                Some(WaitsFor(super::WaitsFor::Volume)),
            ),
            (
                "ProvisioningFailed",
                "storageclass.storage.k8s.io \"fast\" not found",
                Some(WaitsFor(super::WaitsFor::Volume)),
            ),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: exceeded quota: q",
                Some(WaitsFor(super::WaitsFor::Quota)),
            ),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: exceeded quota: q, \
                 requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi",
                Some(LargerThanQuota),
            ),
            (
                "FailedBinding",
                "ephemeral volume scratch: create PVC x-scratch: persistentvolumeclaims \"x-scratch\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
                Some(Forbidden),
            ),
            ("Pulling", "Pulling image \"x\"", Some(Progress)),
            ("FailedScheduling", "0/1 nodes are available", Some(Other)),
            ("SuccessfulCreate", "Created pod: x", None),
        ] {
            let warning = !matches!(reason, "Pulling" | "SuccessfulCreate");
            let event = EventFacts { reason: reason.into(), message: message.into(), warning, at: None };
            assert_eq!(judge([event]).map(|complaint| complaint.meaning), meaning, "{message}");
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
        let complaint = judge([event("FailedMount", 1), event("Pulling", 3), event("FailedCreate", 2)]).unwrap();
        assert_eq!(complaint.text, "Pulling: ");
        let complaint = judge([event("FailedBinding", 1), event("FailedScheduling", 2)]).unwrap();
        assert_eq!(complaint.text, "FailedBinding: ");
        assert_eq!(judge([]), None);
    }

    #[test]
    fn what_kept_a_pod_from_being_made_is_over_when_there_is_one() {
        let event = |reason: &str, second| EventFacts {
            reason: reason.into(),
            message: "pods \"x\" is forbidden: no".into(),
            warning: reason == "FailedCreate",
            at: Timestamp::from_second(second).ok(),
        };
        assert_eq!(judge([event("FailedCreate", 1), event("SuccessfulCreate", 2)]), None);
        let complaint = judge([event("SuccessfulCreate", 1), event("FailedCreate", 2)]).unwrap();
        assert_eq!(complaint.meaning, Meaning::Forbidden);
    }
}
