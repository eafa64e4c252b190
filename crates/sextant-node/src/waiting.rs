//! What a run that does not start waits for: told once for each reason, and asked of the cluster ever more rarely, because
//! its complaints stand where nobody watches.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sextant_core::complaints::{Complaint, Meaning, forbidden};
use sextant_core::gate::Gate;
use sextant_core::runtime::Runtime;
use sextant_core::situation::{Failure, Situation, Starting, WaitsFor};
use tracing::{info, warn};
use vantage6_types::RunId;

use super::Context;

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
    complaint: Option<Complaint>,
    asked: u32,
    /// Since when this process knows of an image or a container that does not come.
    first_seen: [Option<Timestamp>; 3],
    /// Whether the log was told of its image's being pulled.
    pulling: bool,
    /// Since when this process knows that there is no room for it.
    no_room: Option<Timestamp>,
}

impl Waiting {
    /// What the run waits for, with what only this process knows: the limits for an image or a container count from the first time
    /// that it did not come, not from when the pod was made; and the cluster may have said what keeps a pod from being made or started.
    pub fn refine(&mut self, situation: Situation, now: Timestamp) -> Situation {
        let Situation::Starting(mut starting) = situation else { return situation };
        let first_seen = match starting.waits_for {
            WaitsFor::Image => Some(&mut self.first_seen[0]),
            WaitsFor::Container => Some(&mut self.first_seen[1]),
            WaitsFor::OwnImage => Some(&mut self.first_seen[2]),
            _ => None,
        };
        if let Some(seen) = first_seen {
            starting.since = Some(*seen.get_or_insert(now));
        }
        if let Some(Complaint { text, meaning, .. }) = &self.complaint {
            match (starting.waits_for, meaning) {
                (WaitsFor::Pod, Meaning::WaitsFor(waits_for @ WaitsFor::Quota))
                // As long as its own volume can't be made.
                | (WaitsFor::Volume, Meaning::WaitsFor(waits_for @ (WaitsFor::Quota | WaitsFor::Volume)))
                | (WaitsFor::OwnContainer, Meaning::WaitsFor(waits_for @ WaitsFor::Volume)) => {
                    starting.waits_for = *waits_for;
                    starting.detail.clone_from(text);
                }
                (WaitsFor::Pod | WaitsFor::OwnContainer, Meaning::Other) => starting.detail.clone_from(text),
                _ => {}
            }
        }
        Situation::Starting(starting)
    }

    /// A run that does not start is worth a line in the log, once for each reason; so is one that is being ended.
    pub fn tell(&mut self, run: RunId, situation: &Situation) {
        if let Situation::Ending { failure, .. } = situation
            && self.told.as_ref() != Some(&failure.message)
        {
            info!(%run, "{} ({}) Its machine's last word is waited for.", failure.message, failure.detail);
            self.told = Some(failure.message.clone());
        }
        if let Situation::Starting(Starting { detail, waits_for, .. }) = situation
            && self.told.as_ref() != Some(detail)
        {
            match waits_for {
                WaitsFor::Image => warn!(%run, "waits for its image: {detail}"),
                WaitsFor::OwnImage => warn!(%run, "waits for Sextant's own image (`kubernetes.image`): {detail}"),
                _ => info!(%run, "waits: {detail}"),
            }
            self.told = Some(detail.clone());
        }
    }

    /// Since when it waits for room, which it does now.
    pub fn for_room(&mut self, now: Timestamp) -> Timestamp {
        *self.no_room.get_or_insert(now)
    }

    /// There was room for it after all.
    pub fn has_room(&mut self) {
        self.no_room = None;
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

    /// Whether the log was told that the image is being pulled, and is to hear the end of it now.
    pub fn has_pulled(&mut self, situation: &Situation) -> bool {
        !matches!(situation, Situation::Starting(_)) && std::mem::take(&mut self.pulling)
    }

    /// Asks the cluster why the run does not start, and tells the operator; gives the run's end if that is one.
    pub async fn look_after(&mut self, runtime: &dyn Runtime, run: RunId) -> Option<Failure> {
        self.asked += 1;
        let complaint = runtime.explain(run).await?;
        let known = self.complaint.as_ref().is_some_and(|known| known.text == complaint.text);
        match complaint.meaning {
            Meaning::Forbidden => return Some(forbidden(complaint.text)),
            // A pull that goes on for long is worth a line each time.
            Meaning::Progress => {
                tell_progress(run, &complaint);
                self.pulling = true;
            }
            Meaning::WaitsFor(_) | Meaning::Other if known => {}
            Meaning::WaitsFor(_) | Meaning::Other => {
                warn!(%run, "does not start: {}", complaint.text);
                self.told = Some(complaint.text.clone());
            }
        }
        self.complaint = Some(complaint);
        None
    }
}

/// An image that the log was told of as being pulled is there: how long that took is worth a line, for which nothing waits.
pub async fn pulled(context: Arc<Context>, run: RunId) {
    if let Some(complaint) = context.runtime.explain(run).await
        && complaint.meaning == Meaning::Progress
    {
        tell_progress(run, &complaint);
    }
}

fn tell_progress(run: RunId, complaint: &Complaint) {
    let since = complaint
        .at
        .map_or(String::new(), |at| format!(", {} s ago", Timestamp::now().duration_since(at).as_secs().max(0)));
    info!(%run, "{}{since}", complaint.text);
}
