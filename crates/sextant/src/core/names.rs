//! The names of a run's things in the cluster: they follow from server, node and run alone, so that
//! creating a thing twice is harmless and a restarted node finds everything again.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use vantage6::{NodeId, RunId, TaskId};

/// Which node of which server this is; node and run ids are unique only within one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server's API address, as the node uses it.
    pub server: String,
    /// The node's id at that server.
    pub node: NodeId,
}

impl Identity {
    /// Ten hexadecimal digits that stand for this node among all nodes of all servers: the value of the
    /// label by which a node finds its own Jobs.
    pub fn key(&self) -> String {
        let text = format!("{}#{}", self.server.trim_end_matches('/'), self.node);
        digest(&SHA256, text.as_bytes()).as_ref().iter().take(5).fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The name of a run's Job, and of the Secret with its key: `v6-task-12-run-34-0a1b2`.
    pub fn run_name(&self, task: TaskId, run: RunId) -> String {
        format!("v6-task-{task}-run-{run}-{}", &self.key()[..5])
    }

    /// The name of the Secret with which the node proves itself to its pods across restarts.
    pub fn node_secret_name(&self) -> String {
        format!("sextant-data-port-{}", self.key())
    }

    /// The beginning of the name of the Job that tries at start whether pods reach the data port.
    pub fn probe_name(&self) -> String {
        format!("sextant-probe-{}-", self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(server: &str, node: u64) -> Identity {
        Identity { server: server.into(), node: NodeId(node) }
    }

    #[test]
    fn a_name_tells_task_and_run_and_is_always_the_same() {
        let name = identity("http://server:5070/api", 3).run_name(TaskId(12), RunId(34));
        assert!(name.starts_with("v6-task-12-run-34-"), "{name}");
        assert_eq!(name.len(), "v6-task-12-run-34-".len() + 5);
        assert_eq!(name, identity("http://server:5070/api/", 3).run_name(TaskId(12), RunId(34)));
    }

    #[test]
    fn nodes_and_servers_do_not_share_names() {
        let here = identity("http://server:5070/api", 3);
        assert_ne!(here.key(), identity("http://server:5070/api", 4).key());
        assert_ne!(here.key(), identity("http://other:5070/api", 3).key());
    }

    #[test]
    fn the_largest_ids_fit_a_label() {
        let name = identity("s", u64::MAX).run_name(TaskId(u64::MAX), RunId(u64::MAX));
        assert!(name.len() <= 63, "{name}");
    }
}
