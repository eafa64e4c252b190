//! Containers that the cluster adds to a run's pod, as service meshes and webhooks do: the facts about them, and what they mean for the
//! run. Only the operator can act on them, so the researcher only learns that the pod could not be prepared.

use k8s_openapi::api::core::v1::{Container as Spec, ContainerStatus, Pod};
use sextant_core::run_state::Failure;
use sextant_core::timeouts::could_not_be_prepared;

use super::facts::{ALGORITHM, Container, End, RECEIVE, RETURN, read_state};

/// A container that the cluster added, if the run may have to wait for it or for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Its role in the pod.
    pub kind: Kind,
    /// Its state.
    pub state: Container,
}

/// The role of a container in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An init container: Sextant's containers start only after it has ended.
    Init,
    /// An init container that keeps running (a native sidecar): Sextant's containers start after it has started, and it ends with the pod.
    Sidecar,
    /// A container beside Sextant's: the pod ends only when it has ended, too.
    Beside,
}

/// The containers of a pod that are not Sextant's. Most pods have none.
pub fn of(pod: &Pod) -> Vec<Injected> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let of_init = |container: &Spec| match container.restart_policy.as_deref() {
        Some("Always") => Kind::Sidecar,
        _ => Kind::Init,
    };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let statuses = status.and_then(|status| status.init_container_statuses.as_ref());
        (container, of_init(container), statuses)
    });
    let beside = spec.containers.iter().map(|container| {
        let statuses = status.and_then(|status| status.container_statuses.as_ref());
        (container, Kind::Beside, statuses)
    });
    init.chain(beside)
        .filter(|(container, _, _)| ![RECEIVE, ALGORITHM, RETURN].contains(&container.name.as_str()))
        .map(|(container, kind, statuses)| read(container, kind, statuses))
        .collect()
}

fn read(container: &Spec, kind: Kind, statuses: Option<&Vec<ContainerStatus>>) -> Injected {
    let status = statuses.into_iter().flatten().find(|status| status.name == container.name);
    Injected {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        kind,
        state: status.map(read_state).unwrap_or_default(),
    }
}

impl Injected {
    /// Whether it keeps the pod from ending by itself, because it runs or may still start.
    pub fn lingers(&self) -> bool {
        self.kind == Kind::Beside && !matches!(self.state, Container::Ended(_))
    }

    /// Its end, if it is an init container that has failed.
    pub fn has_failed(&self) -> Option<&End> {
        match &self.state {
            Container::Ended(end) if self.kind == Kind::Init && end.code != 0 && !self.state.was_lost() => Some(end),
            _ => None,
        }
    }

    /// What the run waits for, as a text for operators; `None` if it does not wait for this container.
    pub fn keeps_waiting(&self) -> Option<String> {
        let Self { name, image, .. } = self;
        let why = match &self.state {
            Container::Waiting { reason, .. } if matches!(reason.as_str(), "PodInitializing" | "ContainerCreating") => {
                return None;
            }
            Container::Waiting { reason, message } => format!("{reason}: {message}"),
            Container::Running { .. } if self.kind == Kind::Init => "it has not ended yet".into(),
            // The kubelet restarts it after each end.
            Container::Ended(end) if self.kind == Kind::Sidecar => ended(end),
            _ => return None,
        };
        Some(format!("the container '{name}' ({image}), which the cluster has added to the pod: {}", why.trim_end()))
    }

    /// The failure to report if this init container failed.
    pub fn failure(&self, end: &End) -> Failure {
        let Self { name, image, .. } = self;
        let detail =
            format!("the init container '{name}' ({image}), which the cluster has added to the pod, {}", ended(end));
        could_not_be_prepared(detail).because("InjectedContainerFailed")
    }

    /// How it ended, if it failed; part of the details about a pod that is over.
    pub fn unhappy_end(&self) -> Option<String> {
        match &self.state {
            Container::Ended(end) if end.code != 0 => Some(format!("{} {}", self.name, ended(end))),
            _ => None,
        }
    }
}

fn ended(end: &End) -> String {
    let words = format!("exited with {} ({}) {}", end.code, end.reason, end.message.trim());
    words.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_types, reason = "of the test's own making")]

    use super::*;
    use serde_json::json;

    fn pod(status: &serde_json::Value) -> Vec<Injected> {
        let init = json!([
            {"name": "mesh-init", "image": "mesh:1"},
            {"name": "mesh-proxy", "image": "mesh:2", "restartPolicy": "Always"},
            {"name": "receive", "image": "sextant"},
        ]);
        let containers = json!([
            {"name": "algorithm", "image": "a"},
            {"name": "return", "image": "sextant"},
            {"name": "agent", "image": "agent:1"},
        ]);
        of(&serde_json::from_value(json!({
            "spec": {"initContainers": init, "containers": containers},
            "status": status,
        }))
        .unwrap())
    }

    #[test]
    fn those_that_are_not_ours_are_told_by_name_and_image() {
        let state = |name: &str, state: serde_json::Value| json!({"name": name, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0});
        let all = pod(&json!({
            "initContainerStatuses": [
                state("mesh-init", json!({"terminated": {"exitCode": 7, "reason": "Error", "message": "no rules"}})),
                state("mesh-proxy", json!({"waiting": {"reason": "ImagePullBackOff", "message": "not there"}})),
                state("receive", json!({"terminated": {"exitCode": 1}})),
            ],
            "containerStatuses": [state("agent", json!({"running": {}}))],
        }));
        let names: Vec<&str> = all.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["mesh-init", "mesh-proxy", "agent"]);
        let failure = all[0].failure(all[0].has_failed().unwrap());
        for word in ["'mesh-init'", "mesh:1", "exited with 7", "no rules"] {
            assert!(failure.detail.contains(word) && !failure.message.contains(word), "{failure:?}");
        }
        let waits = all[1].keeps_waiting().unwrap();
        assert!(["'mesh-proxy'", "mesh:2", "ImagePullBackOff: not there"].iter().all(|word| waits.contains(word)));
        assert!(all[1].has_failed().is_none() && all[2].keeps_waiting().is_none());
        assert_eq!(all.iter().map(Injected::lingers).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_goes_well_is_out_of_the_way() {
        assert!(pod(&json!({})).iter().all(|container| container.keeps_waiting().is_none()));
        let ended = |code| {
            Container::Ended(End { code, reason: "Completed".into(), message: String::new(), started: true, at: None })
        };
        let container = |kind, state| Injected { name: "x".into(), image: "i".into(), kind, state };
        assert!(container(Kind::Init, ended(0)).has_failed().is_none());
        assert!(container(Kind::Sidecar, ended(1)).has_failed().is_none());
        assert!(
            container(Kind::Beside, ended(1)).has_failed().is_none() && !container(Kind::Beside, ended(1)).lingers()
        );
        assert!(container(Kind::Sidecar, Container::Running { since: None }).keeps_waiting().is_none());
    }
}
