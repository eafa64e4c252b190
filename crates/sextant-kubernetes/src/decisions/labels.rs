//! Labels and annotations: what lets a person on the Kubernetes dashboard recognise a run, and a restarted
//! node go on with it.

use std::collections::BTreeMap;

use sextant_core::names::Identity;
pub use sextant_core::names::RELEASE;
use vantage6_types::{RunId, TaskId};

/// `app.kubernetes.io/name`, the same on everything that Sextant makes.
pub const APP: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/component`: [`COMPONENT_ALGORITHM`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The component of a run's Job and pod, and of the probes, which have to be like them.
pub const COMPONENT_ALGORITHM: &str = "algorithm";
/// What a probe is, [`PROBE_PROBER`] or [`PROBE_NEIGHBOUR`]; runs don't have it.
pub const PROBE: &str = "vantage6.ai/probe";
/// The probe that tries to get out.
pub const PROBE_PROBER: &str = "prober";
/// The probe that listens.
pub const PROBE_NEIGHBOUR: &str = "neighbour";
/// Which node of which server made it ([`super::names::Identity::key`]).
pub const NODE_KEY: &str = "vantage6.ai/node-key";
/// The node's id at its server.
pub const NODE: &str = "vantage6.ai/node";
/// The task's id.
pub const TASK: &str = "vantage6.ai/task";
/// The run's id.
pub const RUN: &str = "vantage6.ai/run";
/// The job id, shared by a task and its subtasks.
pub const JOB: &str = "vantage6.ai/job";
/// The id of the organization that asked.
pub const ORGANIZATION: &str = "vantage6.ai/organization";
/// Kubernetes's own label of a Job's pods: the Job's uid.
pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
/// Annotation: the task's name as the researcher wrote it.
pub const TASK_NAME: &str = "vantage6.ai/task-name";
/// Annotation: the algorithm's image as the task names it.
pub const IMAGE: &str = "vantage6.ai/image";
/// Annotation: the server's address.
pub const SERVER: &str = "vantage6.ai/server";
/// Annotation: distinguishes the run from others with its id ([`RunIdentity`](sextant_core::run_identity::RunIdentity)). Jobs of 0.1.0 have
/// none.
pub const RUN_IDENTITY: &str = "vantage6.ai/run-identity";
/// Annotation, set once the server has the run's report: the status that was reported.
pub const REPORTED: &str = "vantage6.ai/reported";
/// Annotation, beside [`REPORTED`]: the pod goes on after the run's end, because of a container that the cluster has added.
pub const LINGERS: &str = "vantage6.ai/lingers";
/// Annotation of a Job that this node stops before the server has accepted the report: the reason, as JSON ([`StopNote`](sextant_core::stop_note::StopNote)).
pub const STOPPED: &str = "vantage6.ai/stopped";
/// Annotation of a Job that was launched because an earlier one of its run was disrupted: which launch it is, from 2.
pub const ATTEMPT: &str = "vantage6.ai/attempt";
/// Annotation, beside [`ATTEMPT`]: how many of the earlier launches got so far that the algorithm was started.
pub const EXECUTIONS: &str = "vantage6.ai/executions";

/// The labels of what a node makes beside Jobs.
pub fn of_node(identity: &Identity) -> BTreeMap<String, String> {
    let own = [(APP, "sextant"), (NODE_KEY, identity.key())];
    let release = identity.release().map(|release| (RELEASE, release));
    own.into_iter().chain(release).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Annotation: what the key of the run's pods follows from. Jobs of 0.1.0 have none: theirs follows from the run's number alone.
pub const RUN_KEY: &str = "vantage6.ai/run-key";
/// Its value: the Job's uid.
pub const RUN_KEY_OF_UID: &str = "job-uid";

/// The label of runs that asked for this database, if it is on the network: a NetworkPolicy allows them to connect to it.
pub fn database(label: &str) -> String {
    format!("database.vantage6.ai/{label}")
}

/// The label selector of all algorithm Jobs and pods of one node.
pub fn selector(node_key: &str) -> String {
    format!("{NODE_KEY}={node_key},{COMPONENT}={COMPONENT_ALGORITHM},!{PROBE}")
}

/// Whether something is another release's than this node's, whatever it says of the node that made it: in a namespace that nodes share, the
/// chart's admission policy lets none of them use another's release, and so nobody can forge what this node takes for its own. What has no
/// release was made before there were any, or by a node outside of the chart.
pub fn is_of_another_release(labels: &BTreeMap<String, String>, own: Option<&str>) -> bool {
    matches!((labels.get(RELEASE), own), (Some(found), Some(own)) if found != own)
}

/// The run and task of a Job or pod, read from its labels; `None` when they are not those of a run.
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
