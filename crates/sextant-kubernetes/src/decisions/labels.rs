//! Labels and annotations by which a person recognizes a run on the Kubernetes dashboard, and a restarted node
//! continues it.

use std::collections::BTreeMap;

use sextant_core::names::Identity;
pub use sextant_core::names::RELEASE;
use vantage6_types::{RunId, TaskId};

/// `app.kubernetes.io/name`, the same on everything that Sextant creates.
pub const APP: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/component`: [`COMPONENT_ALGORITHM`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The component of a run's Job and pod, and of probes, which must look the same.
pub const COMPONENT_ALGORITHM: &str = "algorithm";
/// The kind of a probe, [`PROBE_PROBER`] or [`PROBE_NEIGHBOUR`]. Runs don't have it.
pub const PROBE: &str = "vantage6.ai/probe";
/// The probe that tries to connect.
pub const PROBE_PROBER: &str = "prober";
/// The probe that listens.
pub const PROBE_NEIGHBOUR: &str = "neighbour";
/// The key of the node of a server that created the object ([`Identity::key`]).
pub const NODE_KEY: &str = "vantage6.ai/node-key";
/// The node's ID on its server.
pub const NODE: &str = "vantage6.ai/node";
/// The task's id.
pub const TASK: &str = "vantage6.ai/task";
/// The run's id.
pub const RUN: &str = "vantage6.ai/run";
/// The job id, shared by a task and its subtasks.
pub const JOB: &str = "vantage6.ai/job";
/// The ID of the organization that created the task.
pub const ORGANIZATION: &str = "vantage6.ai/organization";
/// Kubernetes's own label of a Job's pods, with the Job's uid.
pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
/// Annotation: the task's name as the researcher wrote it.
pub const TASK_NAME: &str = "vantage6.ai/task-name";
/// Annotation: the algorithm's image as the task names it.
pub const IMAGE: &str = "vantage6.ai/image";
/// Annotation: the server's address.
pub const SERVER: &str = "vantage6.ai/server";
/// Annotation: distinguishes the run from others with its ID ([`RunIdentity`](sextant_core::run_identity::RunIdentity)). Jobs of 0.1.0 have
/// none.
pub const RUN_IDENTITY: &str = "vantage6.ai/run-identity";
/// Annotation, set once the server has the run's report: the reported status.
pub const REPORTED: &str = "vantage6.ai/reported";
/// Annotation, with [`REPORTED`]: the pod keeps running after the run's end, because of a container that the cluster has added.
pub const LINGERS: &str = "vantage6.ai/lingers";
/// Annotation of a Job that this node stops before the server has accepted the report: the reason, as JSON ([`StopNote`](sextant_core::stop_note::StopNote)).
pub const STOPPED: &str = "vantage6.ai/stopped";
/// Annotation of a Job that was created because an earlier one of its run was disrupted: the number of the launch, from 2.
pub const ATTEMPT: &str = "vantage6.ai/attempt";
/// Annotation, with [`ATTEMPT`]: how many of the earlier launches had started the algorithm.
pub const EXECUTIONS: &str = "vantage6.ai/executions";

/// The labels of objects that a node creates in addition to Jobs.
pub fn of_node(identity: &Identity) -> BTreeMap<String, String> {
    let own = [(APP, "sextant"), (NODE_KEY, identity.key())];
    let release = identity.release().map(|release| (RELEASE, release));
    own.into_iter().chain(release).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Annotation: what the key of the run's pods derives from. Jobs of 0.1.0 have none: their key derives from the run's ID alone.
pub const RUN_KEY: &str = "vantage6.ai/run-key";
/// The value of [`RUN_KEY`] for the Job's uid.
pub const RUN_KEY_OF_UID: &str = "job-uid";

/// The label of runs that use this database, if it is on the network. A NetworkPolicy allows them to connect to it.
pub fn database(label: &str) -> String {
    format!("database.vantage6.ai/{label}")
}

/// The label selector of all algorithm Jobs and pods of one node.
pub fn selector(node_key: &str) -> String {
    format!("{NODE_KEY}={node_key},{COMPONENT}={COMPONENT_ALGORITHM},!{PROBE}")
}

/// Whether an object belongs to another release than this node's, whatever its node key says. In a shared namespace, the chart's admission
/// policy prevents a node from using another release's label, so other nodes can't forge this node's objects. An object without a release
/// was created before releases existed, or by a node that the chart did not install.
pub fn is_of_another_release(labels: &BTreeMap<String, String>, own: Option<&str>) -> bool {
    matches!((labels.get(RELEASE), own), (Some(found), Some(own)) if found != own)
}

/// The run and task of a Job or pod, read from its labels; `None` if it is not a run's.
pub fn run_of(labels: &BTreeMap<String, String>) -> Option<(TaskId, RunId)> {
    let number = |key| labels.get(key)?.parse().ok();
    Some((TaskId(number(TASK)?), RunId(number(RUN)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_is_told_by_its_label_alone() {
        for (found, own, another) in [
            (None, None, false),
            (None, Some("a.x"), false),
            (Some("a.x"), None, false),
            (Some("a.x"), Some("a.x"), false),
            (Some("b.x"), Some("a.x"), true),
            (Some(""), Some("a.x"), true),
        ] {
            let labels = found.map(|found| (RELEASE.to_owned(), found.to_owned())).into_iter().collect();
            assert_eq!(is_of_another_release(&labels, own), another, "{found:?} {own:?}");
        }
    }

    #[test]
    fn runs_are_read_back_from_labels() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        for (labels, expected) in [
            (labels(&[(TASK, "3"), (RUN, "4")]), Some((TaskId(3), RunId(4)))),
            (labels(&[(TASK, "3")]), None),
            (labels(&[(TASK, "3"), (RUN, "four")]), None),
            (labels(&[]), None),
        ] {
            assert_eq!(run_of(&labels), expected, "{labels:?}");
        }
    }
}
