//! The names of a run's objects in the cluster. They depend only on server, node and run, so creating an object twice is harmless, and
//! a restarted node finds all objects again.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use secrecy::{ExposeSecret, SecretString};
use vantage6_types::NodeId;

use super::assignment::Assignment;

/// The label with the release of the chart whose node created an object. The chart sets it in `kubernetes.labels`; its network policies
/// and its admission policy use it.
pub const RELEASE: &str = "sextant.vantage6.ai/release";

/// Identifies a node of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server's API address, for people.
    pub server: String,
    /// The node's ID at that server.
    pub node: NodeId,
    key: String,
    release: Option<String>,
}

impl Identity {
    /// A node's identity. Its API key distinguishes it from all others: IDs begin at 1 on every server, and the address of
    /// a server may change while runs exist, or differ between this machine and a pod.
    pub fn new(server: String, node: NodeId, api_key: &SecretString) -> Self {
        Self { server, node, key: Self::key_of(api_key), release: None }
    }

    /// Sets the release of the chart ([`RELEASE`]).
    pub fn with_release(self, release: Option<String>) -> Self {
        Self { release, ..self }
    }

    /// The release of the chart that this node belongs to, if any: the value of [`RELEASE`].
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// The [`key`](Self::key) of the node with this API key.
    pub fn key_of(api_key: &SecretString) -> String {
        let digest = digest(&SHA256, format!("sextant node {}", api_key.expose_secret()).as_bytes());
        HEXLOWER.encode(&digest.as_ref()[..5])
    }

    /// Ten hexadecimal digits that identify this node among all nodes of all servers: the value of the label by which a
    /// node finds its own Jobs.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name of a run's Job, and of its Secret: `v6-task-12-run-34-0a1b2`.
    pub fn run_name(&self, assignment: &Assignment) -> String {
        self.name_by(assignment, &assignment.identity)
    }

    /// The name of the Job (and Secret) of a run's nth launch. From the second launch, it ends with the number.
    pub fn attempt_name(&self, assignment: &Assignment, attempt: u32) -> String {
        of_attempt(self.run_name(assignment), attempt)
    }

    /// The name that 0.1.0 gave to this Job. It depends on the assignment time, which 4.15.2 reports the same for all runs.
    pub fn former_attempt_name(&self, assignment: &Assignment, attempt: u32) -> String {
        of_attempt(self.name_by(assignment, &assignment.assigned_at), attempt)
    }

    fn name_by(&self, assignment: &Assignment, identity: &dyn std::fmt::Display) -> String {
        let Assignment { task, run, .. } = assignment;
        let digest = digest(&SHA256, format!("{} {identity}", self.key).as_bytes());
        format!("v6-task-{task}-run-{run}-{}", &HEXLOWER.encode(digest.as_ref())[..5])
    }

    /// The name of the Secret by which the node authenticates to its pods across restarts.
    pub fn node_secret_name(&self) -> String {
        format!("sextant-data-port-{}", self.key())
    }

    /// The name of the Lease that elects the leader of this node's processes.
    pub fn lease_name(&self) -> String {
        format!("sextant-{}", self.key())
    }

    /// The prefix of the names of the Jobs that check the network isolation.
    pub fn probe_name(&self) -> String {
        format!("sextant-probe-{}-", self.key())
    }
}

fn of_attempt(name: String, attempt: u32) -> String {
    if attempt > 1 { format!("{name}-{attempt}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::sample::assignment;

    fn identity(server: &str, node: u64, api_key: &str) -> Identity {
        Identity::new(server.into(), NodeId(node), &SecretString::from(api_key))
    }

    #[test]
    fn a_name_tells_task_and_run_and_is_always_the_same() {
        let run = assignment(12, 34, "today");
        let name = identity("http://server:5070/api", 3, "k").run_name(&run);
        assert!(name.starts_with("v6-task-12-run-34-"), "{name}");
        assert_eq!(name.len(), "v6-task-12-run-34-".len() + 5);
        assert_eq!(name, identity("https://other.name/api", 3, "k").run_name(&run));
    }

    #[test]
    fn neither_nodes_nor_namesakes_share_names() {
        let (one, other) = (identity("s", 3, "k"), identity("s", 3, "l"));
        assert_ne!(one.key(), other.key());
        assert_ne!(one.run_name(&assignment(1, 1, "a")), other.run_name(&assignment(1, 1, "a")));
        assert_ne!(one.run_name(&assignment(1, 1, "a")), one.run_name(&assignment(1, 1, "b")));
    }

    #[test]
    fn two_tasks_of_one_number_and_one_time_share_no_name() {
        use crate::run_identity::sample;
        let one = identity("s", 3, "k");
        let run = assignment(27, 27, "when the server was started");
        let later = Assignment { identity: sample::identity("made later, of another image"), ..run.clone() };
        assert_ne!(one.run_name(&run), one.run_name(&later));
        assert_ne!(one.attempt_name(&run, 2), one.attempt_name(&later, 2));
        // The former name was ambiguous.
        assert_eq!(one.former_attempt_name(&run, 1), one.former_attempt_name(&later, 1));
        assert_eq!(one.former_attempt_name(&run, 2), format!("{}-2", one.former_attempt_name(&run, 1)));
        assert_ne!(one.former_attempt_name(&run, 1), one.former_attempt_name(&assignment(27, 27, "b"), 1));
    }

    #[test]
    fn the_largest_ids_fit_a_label() {
        let name = identity("s", u64::MAX, "k").run_name(&assignment(u64::MAX, u64::MAX, ""));
        assert!(name.len() <= 63, "{name}");
    }
}
