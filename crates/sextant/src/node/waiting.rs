//! What a run that does not start waits for: told once for each reason, and asked of the cluster ever more rarely, because
//! its complaints stand where nobody watches.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};
use vantage6::{RunId, RunStatus};

use crate::core::isolation::Gate;
use crate::core::situation::{Failure, Situation, Starting, WaitsFor};
use crate::runtime::Runtime;

/// When the cluster is first asked why a run does not start; then after twice as long, and so on.
const COMPLAINTS: Duration = Duration::from_secs(15);
/// The longest of these pauses.
const COMPLAINTS_AT_LEAST: Duration = Duration::from_secs(480);

/// What is known of a run's not starting.
#[derive(Debug, Default)]
pub struct Waiting {
    /// What the log was last told that it waits for.
    told: Option<String>,
    /// The cluster's last complaint, and how often it was asked for one.
    complaint: Option<String>,
    asked: u32,
    /// Since when this process knows of an image or a container that does not come.
    first_seen: [Option<Timestamp>; 2],
}

impl Waiting {
    /// The limits for an image or a container count from the first time that it did not come, not from when the pod was made.
    pub fn since_first_seen(&mut self, situation: Situation, now: Timestamp) -> Situation {
        let Situation::Starting(mut starting) = situation else { return situation };
        let seen = match starting.waits_for {
            WaitsFor::Pod => return Situation::Starting(starting),
            WaitsFor::Image => &mut self.first_seen[0],
            WaitsFor::Container => &mut self.first_seen[1],
        };
        starting.since = Some(*seen.get_or_insert(now));
        Situation::Starting(starting)
    }

    /// A run that does not start is worth a line in the log, once for each reason.
    pub fn tell(&mut self, run: RunId, situation: &Situation) {
        if let Situation::Starting(Starting { detail, waits_for, .. }) = situation
            && self.told.as_ref() != Some(detail)
        {
            match waits_for {
                WaitsFor::Image => warn!(%run, "waits for its image: {detail}"),
                WaitsFor::Pod | WaitsFor::Container => info!(%run, "waits: {detail}"),
            }
            self.told = Some(detail.clone());
        }
    }

    /// A run that may not be launched is worth a line too; why, the node says for all of them.
    pub fn at_the_gate(&mut self, run: RunId, gate: &Gate) {
        if let Gate::Shut(why) = gate
            && self.told.as_ref() != Some(why)
        {
            info!(%run, "waits: nothing is launched, because {why}");
            self.told = Some(why.clone());
        }
    }

    /// How long may be waited without looking: an hour at most, because the machine's clock may be set meanwhile.
    pub fn longest(&self, situation: &Situation) -> Duration {
        match situation {
            Situation::Starting(_) => COMPLAINTS_AT_LEAST.min(COMPLAINTS * 2u32.saturating_pow(self.asked.min(10))),
            _ => Duration::from_secs(3600),
        }
    }

    /// Asks the cluster why the run does not start, and tells the operator; gives the run's end if that is one.
    pub async fn look_after(&mut self, runtime: &dyn Runtime, run: RunId) -> Option<Failure> {
        self.asked += 1;
        let complaint = runtime.explain(run).await.filter(|complaint| self.complaint.as_ref() != Some(complaint))?;
        if complaint.contains("violates PodSecurity") {
            return Some(Failure {
                status: RunStatus::StartFailed,
                message: "The cluster's rules do not allow the run's pod. The node's log says why.".into(),
                detail: complaint,
                started: false,
            });
        }
        warn!(%run, "does not start: {complaint}");
        self.complaint = Some(complaint);
        None
    }
}
