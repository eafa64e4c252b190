//! Who must act when a run has failed. This is for alerts, which should reach the right person, and never for texts for researchers.

use crate::run_state::Failure;

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The author of the algorithm: it crashed, used too much, or wrote no output.
    Algorithm,
    /// The creator of the task: its image is not available or not allowed, or its input can't be read.
    Researcher,
    /// The node's owner: the settings of the node or its namespace do not let the run start.
    Node,
    /// The operator of the cluster: it disrupted the run, or has no room for it.
    Cluster,
    /// The operator of the server: it rejects the report.
    Server,
}

impl Blame {
    /// The name in metrics and alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Researcher => "researcher",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Server => "server",
        }
    }
}

/// Who must act on a failure; `None` if the failure was requested.
pub fn blame(failure: &Failure) -> Option<Blame> {
    match failure.reason {
        "Killed" => None,
        // For unknown reasons, it is the node's owner, who has the log.
        reason => Some(of(reason).unwrap_or(Blame::Node)),
    }
}

/// The table of reasons, which are also the reasons of Events.
const TABLE: [(Blame, &[&str]); 5] = [
    (
        Blame::Algorithm,
        &[
            "AlgorithmFailed",
            "AlgorithmKilled",
            "DeadlineExceeded",
            "DiskLimitExceeded",
            "OutOfMemory",
            "OutputMissing",
            "OutputTooLarge",
            "OutputUnreadable",
            "TimedOut",
        ],
    ),
    (
        Blame::Researcher,
        &[
            "AlgorithmNotAllowed",
            "ContainerNotStarted",
            "ImageUnavailable",
            "InitiatorNotAllowed",
            "NoPublicKey",
            "NotAllowed",
            "StartFailed",
        ],
    ),
    (
        Blame::Node,
        &[
            "Forbidden",
            "OwnImageUnavailable",
            "PendingTooLong",
            "QuotaExceeded",
            "ReceiveFailed",
            "RunFailed",
            "VolumeUnavailable",
        ],
    ),
    (
        Blame::Cluster,
        &[
            "DiskFull",
            "Disrupted",
            "Drained",
            "Evicted",
            "InjectedContainerFailed",
            "InjectedContainerNotStarted",
            "InjectedImageUnavailable",
            "JobDeleted",
            "MachineLost",
            "MachineRefused",
            "MachineShutdown",
            "NamespaceMissing",
            "ServiceMissing",
            "NamespaceTerminating",
            "PodDeleted",
            "Preempted",
            "Removed",
            "Stopped",
            "Unschedulable",
        ],
    ),
    (Blame::Server, &["ReportRefused"]),
];

fn of(reason: &str) -> Option<Blame> {
    TABLE.iter().find(|(_, reasons)| reasons.contains(&reason)).map(|(blame, _)| *blame)
}

#[cfg(test)]
mod tests {
    use vantage6_types::RunStatus;

    use super::*;

    #[test]
    fn every_reason_that_the_manual_has_is_somebodys() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/STATES.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        // The last column but one of each table.
        let events = manual.lines().filter_map(|line| line.strip_prefix('|')?.rsplit('|').nth(2));
        let reasons: Vec<&str> = events.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert!(reasons.len() > 30, "{reasons:?}");
        for reason in reasons {
            assert!(of(reason).is_some() || reason == "Killed", "{reason}");
        }
    }

    #[test]
    fn whoever_has_to_act_is_blamed() {
        let failed = |status| Failure::new(status, "", "");
        for (failure, expected) in [
            (failed(RunStatus::Crashed).because("OutOfMemory"), Some("algorithm")),
            (failed(RunStatus::NoDockerImage), Some("researcher")),
            (failed(RunStatus::NotAllowed), Some("researcher")),
            (failed(RunStatus::Crashed).because("MachineLost"), Some("cluster")),
            (failed(RunStatus::Failed).because("ReportRefused"), Some("server")),
            (failed(RunStatus::Failed), Some("node")),
            (failed(RunStatus::Crashed).because("Unheard"), Some("node")),
            (failed(RunStatus::Killed), None),
        ] {
            assert_eq!(blame(&failure).map(Blame::as_str), expected, "{failure:?}");
        }
    }
}
