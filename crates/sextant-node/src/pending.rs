//! Finds out why a run does not start, and logs each reason once. The node must ask the runtime at growing intervals, because nothing
//! notifies it of these issues.

use std::sync::Arc;
use std::time::Duration;

use backoff::Backoff;
use jiff::Timestamp;
use sextant_core::gate::Gate;
use sextant_core::pod_issue::{IssueKind, PodIssue};
use sextant_core::run_state::{Failure, RunState, Starting, WaitsFor};
use sextant_core::runtime::Runtime;
use tokio::time::Instant;
use tracing::{info, warn};
use vantage6_types::RunId;

use super::Context;

/// How long a run must wait for the same thing before that is logged. A normal start waits less.
pub const LOG_AFTER: Duration = Duration::from_secs(5);
/// The largest number of different log lines about one run's waiting.
const MAX_LINES: usize = 50;
/// When the cluster is first asked why a Job has no pod, or a pod no volume. Only the cluster's answer says what prevents them.
const FIRST_DIAGNOSIS_WITHOUT_POD: Duration = Duration::from_secs(3);
/// When the cluster is first asked why a run does not start. The interval then doubles each time.
const DIAGNOSIS: Backoff = Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(480) };

/// What is known of why a run does not start.
#[derive(Debug, Default)]
pub struct PendingDiagnosis {
    /// The reasons that have been logged.
    logged: Vec<String>,
    /// What the run waits for, and since when this process has known that.
    lasting: Option<(String, Instant)>,
    /// The last issue that the cluster reported, and the number of times it was asked.
    issue: Option<PodIssue>,
    asked: u32,
    /// Whether the cluster has been asked early why there is no pod.
    asked_early: bool,
    /// Since when this process has known of an image that can't be pulled, or a container that can't be started.
    first_seen: [Option<Timestamp>; 4],
    /// Whether a pull of the run's image has been logged.
    pulling: bool,
    /// Since when this process has known that the runtime has no capacity for the run.
    no_capacity_since: Option<Timestamp>,
}

impl PendingDiagnosis {
    /// Adds to the state what only this process knows. The limits for an image or a container start at its first failure rather than at
    /// the pod's creation. And the cluster may have said what prevents a pod from being created or started.
    pub fn refine(&mut self, run_state: RunState, now: Timestamp) -> RunState {
        let RunState::Starting(mut starting) = run_state else { return run_state };
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
        if let Some(PodIssue { text, kind, .. }) = &self.issue {
            match (starting.waits_for, kind) {
                (WaitsFor::Pod, IssueKind::WaitsFor(waits_for @ WaitsFor::Quota))
                // Until the run's own volume can be created.
                | (WaitsFor::Volume, IssueKind::WaitsFor(waits_for @ (WaitsFor::Quota | WaitsFor::Volume)))
                | (WaitsFor::OwnContainer, IssueKind::WaitsFor(waits_for @ WaitsFor::Volume)) => {
                    starting.waits_for = *waits_for;
                    starting.detail.clone_from(text);
                }
                (WaitsFor::Pod | WaitsFor::OwnContainer, IssueKind::Other) => starting.detail.clone_from(text),
                _ => {}
            }
        }
        RunState::Starting(starting)
    }

    /// Logs why a run does not start, or that it is being terminated, once for each reason. Returns how long the reason must still last
    /// before it is logged.
    pub fn log(&mut self, run: RunId, run_state: &RunState) -> Option<Duration> {
        match run_state {
            RunState::Terminating { failure, .. } if self.log_once(&failure.message) => {
                info!(%run, "Run is being terminated: {} ({}) The node waits for the final state from its machine.", failure.message, failure.detail);
                None
            }
            RunState::Starting(Starting { detail, waits_for, .. }) => self.log_start(run, *waits_for, detail),
            _ => None,
        }
    }

    fn log_start(&mut self, run: RunId, waits_for: WaitsFor, detail: &str) -> Option<Duration> {
        if self.was_logged(detail) {
            return None;
        }
        match waits_for {
            // These have already failed, so there is no reason to delay the log line.
            WaitsFor::Image => warn!(%run, "Run waits for its image: {detail}"),
            WaitsFor::InjectedImage => warn!(%run, "Run waits for {detail}"),
            WaitsFor::OwnImage => warn!(%run, "Run waits for Sextant's own image (`kubernetes.image`): {detail}"),
            _ => {
                let left = self.remaining_before_logging(detail);
                if !left.is_zero() {
                    return Some(left);
                }
                info!(%run, "Run waits: {detail}");
            }
        }
        self.log_once(detail);
        None
    }

    /// How long a wait must still last before it is logged.
    fn remaining_before_logging(&mut self, what: &str) -> Duration {
        match &self.lasting {
            Some((before, since)) if before == what => LOG_AFTER.saturating_sub(since.elapsed()),
            _ => {
                self.lasting = Some((what.to_owned(), Instant::now()));
                LOG_AFTER
            }
        }
    }

    fn was_logged(&self, text: &str) -> bool {
        self.logged.iter().any(|logged| logged == text)
    }

    /// Whether a text has not been logged yet. The caller logs it.
    fn log_once(&mut self, text: &str) -> bool {
        let news = !self.was_logged(text) && self.logged.len() < MAX_LINES;
        if news {
            self.logged.push(text.to_owned());
        }
        news
    }

    /// Since when the run waits for capacity.
    pub fn waiting_for_capacity_since(&mut self, now: Timestamp) -> Timestamp {
        *self.no_capacity_since.get_or_insert(now)
    }

    pub fn capacity_available(&mut self) {
        self.no_capacity_since = None;
    }

    /// Logs that the launch gate is shut. The reason is logged once for all runs elsewhere.
    pub fn note_gate(&mut self, run: RunId, gate: &Gate) {
        if let Gate::Shut(why) = gate
            && self.log_once(why)
        {
            info!(%run, "Run waits: the launch gate is shut, because {why}");
        }
    }

    /// How long to wait before the state is checked again: at most an hour, because the machine's clock may be adjusted meanwhile.
    pub fn max_wait(&self, run_state: &RunState) -> Duration {
        match run_state {
            run_state if self.is_early(run_state) => FIRST_DIAGNOSIS_WITHOUT_POD,
            RunState::Starting(_) => DIAGNOSIS.full(self.asked.saturating_add(1)),
            _ => Duration::from_secs(3600),
        }
    }

    /// Whether to ask the cluster early, because what the run waits for is usually created at once.
    fn is_early(&self, run_state: &RunState) -> bool {
        let made_at_once =
            matches!(run_state, RunState::Starting(Starting { waits_for: WaitsFor::Pod | WaitsFor::Volume, .. }));
        made_at_once && !self.asked_early
    }

    /// Whether a logged pull has ended now.
    pub fn has_pulled(&mut self, run_state: &RunState) -> bool {
        !matches!(run_state, RunState::Starting(_)) && std::mem::take(&mut self.pulling)
    }

    /// Asks the runtime why the run does not start, and logs the answer. Returns the run's failure if it can never start.
    pub async fn diagnose(
        &mut self,
        runtime: &dyn Runtime,
        run: RunId,
        image: &str,
        run_state: &RunState,
    ) -> Option<Failure> {
        let early = self.is_early(run_state);
        self.asked_early = true;
        self.asked += u32::from(!early);
        if let RunState::Starting(Starting { waits_for: WaitsFor::Quota | WaitsFor::Machine, .. }) = run_state {
            runtime.make_room().await;
        }
        let issue = runtime.why_pending(run, image).await?;
        match &issue.kind {
            IssueKind::Permanent(failure) => return Some(failure.clone()),
            IssueKind::Progress => {
                // A long pull is logged each time.
                log_progress(run, &issue);
                self.pulling = true;
            }
            IssueKind::WaitsFor(_) | IssueKind::Other => {
                if self.log_once(&issue.text) {
                    warn!(%run, "Run does not start: {}", issue.text);
                }
            }
        }
        self.issue = Some(issue);
        None
    }
}

/// Logs how long an image pull took. Runs in the background.
pub async fn log_pull_duration(context: Arc<Context>, run: RunId, image: String) {
    if let Some(issue) = context.runtime.why_pending(run, &image).await
        && issue.kind == IssueKind::Progress
    {
        log_progress(run, &issue);
    }
}

fn log_progress(run: RunId, issue: &PodIssue) {
    let since = issue
        .at
        .map_or(String::new(), |at| format!(", {} s ago", Timestamp::now().duration_since(at).as_secs().max(0)));
    info!(%run, "Run makes progress: {}{since}", issue.text);
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const RUN: RunId = RunId(1);

    fn waits(waits_for: WaitsFor, detail: &str) -> RunState {
        RunState::Starting(Starting { since: None, waits_for, detail: detail.into() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_told_when_it_has_lasted_and_once() {
        let mut pending = PendingDiagnosis::default();
        let pull = waits(WaitsFor::Pull, "its image is being pulled");
        assert_eq!(pending.log(RUN, &waits(WaitsFor::Pod, "the pod is being made")), Some(LOG_AFTER));
        advance(Duration::from_secs(2)).await;
        assert_eq!(pending.log(RUN, &pull), Some(LOG_AFTER));
        advance(Duration::from_secs(2)).await;
        assert_eq!(pending.log(RUN, &pull), Some(Duration::from_secs(3)));
        assert!(pending.logged.is_empty());
        advance(Duration::from_secs(3)).await;
        assert_eq!(pending.log(RUN, &pull), None);
        assert_eq!(pending.logged, ["its image is being pulled"]);
        advance(Duration::from_secs(60)).await;
        assert_eq!(pending.log(RUN, &pull), None);
        assert_eq!(pending.logged.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_failed_is_told_at_once_and_not_each_time_that_it_is_tried() {
        for waits_for in [WaitsFor::Image, WaitsFor::OwnImage, WaitsFor::InjectedImage] {
            let mut pending = PendingDiagnosis::default();
            for _ in 0..3 {
                for detail in ["ErrImagePull: no", "ImagePullBackOff: no"] {
                    assert_eq!(pending.log(RUN, &waits(waits_for, detail)), None);
                }
            }
            assert_eq!(pending.logged, ["ErrImagePull: no", "ImagePullBackOff: no"]);
        }
    }

    #[test]
    fn why_there_is_no_pod_is_asked_early() {
        let mut pending = PendingDiagnosis::default();
        assert_eq!(pending.max_wait(&waits(WaitsFor::Pod, "")), FIRST_DIAGNOSIS_WITHOUT_POD);
        assert_eq!(pending.max_wait(&waits(WaitsFor::Volume, "")), FIRST_DIAGNOSIS_WITHOUT_POD);
        assert_eq!(pending.max_wait(&waits(WaitsFor::Machine, "")), DIAGNOSIS.first);
        pending.asked_early = true;
        assert_eq!(pending.max_wait(&waits(WaitsFor::Pod, "")), DIAGNOSIS.first);
    }
}
