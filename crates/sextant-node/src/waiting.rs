//! What a run that does not start waits for: told once for each reason, and asked of the cluster ever more rarely, because
//! its complaints stand where nobody watches.

use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use jiff::Timestamp;
use sextant_core::complaints::{Complaint, Meaning};
use sextant_core::gate::Gate;
use sextant_core::runtime::Runtime;
use sextant_core::situation::{Failure, Situation, Starting, WaitsFor};
use tokio::time::Instant;
use tracing::{info, warn};
use vantage6_types::RunId;

use super::Context;

/// How long a run must wait for the same before that is worth a line: most waits of a run that starts well are shorter.
pub const LASTS: Duration = Duration::from_secs(5);
/// How many different lines a run may have about its waiting.
const LINES: usize = 50;
/// When the cluster is first asked why a Job has no pod, or the pod no volume: what forbids them stands only there.
const NO_POD: Duration = Duration::from_secs(3);
/// When the cluster is first asked why a run does not start; then after twice as long, and so on.
const COMPLAINTS: Backoff = Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(480) };

/// What is known of a run's not starting.
#[derive(Debug, Default)]
pub struct Waiting {
    /// What the log was told that it waits for.
    told: Vec<String>,
    /// What it waits for now, and since when this process knows of that.
    lasting: Option<(String, Instant)>,
    /// The cluster's last complaint, and how often it was asked for one.
    complaint: Option<Complaint>,
    asked: u32,
    /// Whether it was asked early why there is no pod.
    asked_early: bool,
    /// Since when this process knows of an image or a container that does not come.
    first_seen: [Option<Timestamp>; 4],
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
            WaitsFor::InjectedImage => Some(&mut self.first_seen[3]),
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

    /// A run that does not start is worth a line in the log, once for each reason; so is one that is being ended. Gives how long the
    /// same must last yet until it is told.
    pub fn tell(&mut self, run: RunId, situation: &Situation) -> Option<Duration> {
        match situation {
            Situation::Ending { failure, .. } if self.is_news(&failure.message) => {
                info!(%run, "{} ({}) Its machine's last word is waited for.", failure.message, failure.detail);
                None
            }
            Situation::Starting(Starting { detail, waits_for, .. }) => self.tell_start(run, *waits_for, detail),
            _ => None,
        }
    }

    fn tell_start(&mut self, run: RunId, waits_for: WaitsFor, detail: &str) -> Option<Duration> {
        if self.was_told(detail) {
            return None;
        }
        match waits_for {
            // These have failed already.
            WaitsFor::Image => warn!(%run, "waits for its image: {detail}"),
            WaitsFor::InjectedImage => warn!(%run, "waits for {detail}"),
            WaitsFor::OwnImage => warn!(%run, "waits for Sextant's own image (`kubernetes.image`): {detail}"),
            _ => {
                let left = self.must_last(detail);
                if !left.is_zero() {
                    return Some(left);
                }
                info!(%run, "waits: {detail}");
            }
        }
        self.is_news(detail);
        None
    }

    /// How long a wait must last yet until it is worth a line.
    fn must_last(&mut self, what: &str) -> Duration {
        match &self.lasting {
            Some((before, since)) if before == what => LASTS.saturating_sub(since.elapsed()),
            _ => {
                self.lasting = Some((what.to_owned(), Instant::now()));
                LASTS
            }
        }
    }

    fn was_told(&self, text: &str) -> bool {
        self.told.iter().any(|told| told == text)
    }

    /// Whether a text has not been told yet; from now on it has.
    fn is_news(&mut self, text: &str) -> bool {
        let news = !self.was_told(text) && self.told.len() < LINES;
        if news {
            self.told.push(text.to_owned());
        }
        news
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
            && self.is_news(why)
        {
            info!(%run, "waits: nothing is launched, because {why}");
        }
    }

    /// How long may be waited without looking: an hour at most, because the machine's clock may be set meanwhile.
    pub fn longest(&self, situation: &Situation) -> Duration {
        match situation {
            situation if self.is_early(situation) => NO_POD,
            Situation::Starting(_) => COMPLAINTS.full(self.asked.saturating_add(1)),
            _ => Duration::from_secs(3600),
        }
    }

    /// Whether the cluster is asked early why there is nothing yet of what it mostly makes at once.
    fn is_early(&self, situation: &Situation) -> bool {
        let made_at_once =
            matches!(situation, Situation::Starting(Starting { waits_for: WaitsFor::Pod | WaitsFor::Volume, .. }));
        made_at_once && !self.asked_early
    }

    /// Whether the log was told that the image is being pulled, and is to hear the end of it now.
    pub fn has_pulled(&mut self, situation: &Situation) -> bool {
        !matches!(situation, Situation::Starting(_)) && std::mem::take(&mut self.pulling)
    }

    /// Asks the cluster why the run of this image does not start, and tells the operator; gives the run's end if that is one.
    pub async fn look_after(
        &mut self,
        runtime: &dyn Runtime,
        run: RunId,
        image: &str,
        situation: &Situation,
    ) -> Option<Failure> {
        let early = self.is_early(situation);
        self.asked_early = true;
        self.asked += u32::from(!early);
        if let Situation::Starting(Starting { waits_for: WaitsFor::Quota | WaitsFor::Machine, .. }) = situation {
            runtime.make_room().await;
        }
        let complaint = runtime.explain(run).await?;
        if let Some(end) = complaint.end(image) {
            return Some(end);
        }
        if complaint.meaning == Meaning::Progress {
            // A pull that goes on for long is worth a line each time.
            tell_progress(run, &complaint);
            self.pulling = true;
        } else if self.is_news(&complaint.text) {
            warn!(%run, "does not start: {}", complaint.text);
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

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const RUN: RunId = RunId(1);

    fn waits(waits_for: WaitsFor, detail: &str) -> Situation {
        Situation::Starting(Starting { since: None, waits_for, detail: detail.into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_told_when_it_has_lasted_and_once() {
        let mut waiting = Waiting::default();
        let pull = waits(WaitsFor::Pull, "its image is being pulled");
        assert_eq!(waiting.tell(RUN, &waits(WaitsFor::Pod, "the pod is being made")), Some(LASTS));
        advance(Duration::from_secs(2)).await;
        assert_eq!(waiting.tell(RUN, &pull), Some(LASTS));
        advance(Duration::from_secs(2)).await;
        assert_eq!(waiting.tell(RUN, &pull), Some(Duration::from_secs(3)));
        assert!(waiting.told.is_empty());
        advance(Duration::from_secs(3)).await;
        assert_eq!(waiting.tell(RUN, &pull), None);
        assert_eq!(waiting.told, ["its image is being pulled"]);
        advance(Duration::from_secs(60)).await;
        assert_eq!(waiting.tell(RUN, &pull), None);
        assert_eq!(waiting.told.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_failed_is_told_at_once_and_not_each_time_that_it_is_tried() {
        for waits_for in [WaitsFor::Image, WaitsFor::OwnImage, WaitsFor::InjectedImage] {
            let mut waiting = Waiting::default();
            for _ in 0..3 {
                for detail in ["ErrImagePull: no", "ImagePullBackOff: no"] {
                    assert_eq!(waiting.tell(RUN, &waits(waits_for, detail)), None);
                }
            }
            assert_eq!(waiting.told, ["ErrImagePull: no", "ImagePullBackOff: no"]);
        }
    }

    #[test]
    fn why_there_is_no_pod_is_asked_early() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.longest(&waits(WaitsFor::Pod, "")), NO_POD);
        assert_eq!(waiting.longest(&waits(WaitsFor::Volume, "")), NO_POD);
        assert_eq!(waiting.longest(&waits(WaitsFor::Machine, "")), COMPLAINTS.first);
        waiting.asked_early = true;
        assert_eq!(waiting.longest(&waits(WaitsFor::Pod, "")), COMPLAINTS.first);
    }
}
