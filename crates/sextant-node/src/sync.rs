//! Finds the open runs at the server. Events only trigger a read, so a node that is offline or misses an event finds the same work a
//! little later.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use log_throttle::LogThrottle;
use rand::seq::IteratorRandom as _;
use sextant_core::hub::{HubError, HubErrorKind, HubEvents, OpenRuns, Run};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};
use vantage6_types::{RunId, RunStatus, TaskId};

use super::listen::listen;
use super::registry::{MAX_TRACKED, Registry, Tracking};
use super::{NodeError, machine_metrics, oversized, slots};

/// The time between polls without an event.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// A slow server is polled less often, so that it spends at most one part in this many of its time on the answers.
const MAX_SERVER_SHARE: u32 = 10;
/// The longest interval, however slow the server is.
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(3600);
/// If a list is endless, tracked runs outside the part that was read may no longer be open. This many of them are refreshed.
const MAX_REFRESHES: usize = 100;
/// If reading the list takes longer, the runs read so far are started, although older ones may follow.
const FIRST_BATCH_WITHIN: Duration = Duration::from_secs(2);
/// Inputs of at most this many characters are listed with their runs. Longer ones are fetched when needed.
const INLINE_INPUTS_UP_TO: usize = 4 * 1024;
/// If the found runs take more bytes, they are tracked before the rest is read, although older runs may follow.
const MAX_FOUND: usize = 4 * 1024 * 1024;
/// How many orphaned runs are cleaned up concurrently.
const ORPHAN_CONCURRENCY: usize = 8;
/// The pause after a read that failed (the client has already retried for a while), or that did not see everything.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest interval between two reads that events trigger, since others decide how many events there are.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

// A server can cause these any number of times.
static BROKEN: LogThrottle = LogThrottle::new();
static ENDLESS: LogThrottle = LogThrottle::new();
static FULL: LogThrottle = LogThrottle::new();
static FAILED: LogThrottle = LogThrottle::new();
static UNRELEASED: LogThrottle = LogThrottle::new();

/// Listens and polls. Returns only with an error. Dropping the future stops everything.
///
/// # Errors
/// If the server rejects the API key, or this process closed the live connection.
pub async fn run(registry: Arc<Registry>, live: HubEvents) -> Result<(), NodeError> {
    tokio::select! {
        result = poll(&registry) => result,
        result = listen(&registry, live) => result,
        never = registry.new_tasks.run(|task| sync_task(&registry, task)) => match never {},
        never = registry.context.status_publisher.run() => match never {},
        never = registry.context.early_starts.run() => match never {},
        never = machine_metrics::report(&registry.context, registry.context.report_metrics) => match never {},
    }
}

/// Reads one task's runs. If that fails, it requests a poll, which is retried until it succeeds.
async fn sync_task(registry: &Registry, task: TaskId) {
    if let Err(error) = sync_runs(registry, Some(task)).await {
        if let Some(times) = FAILED.happened() {
            warn!(%task, times, "Could not read the runs of a new task: {error}; a poll of all runs will find them");
        }
        registry.poll_requested.notify_one();
    }
}

/// Reads all open runs: at the start, on request, and every minute.
async fn poll(registry: &Arc<Registry>) -> Result<(), NodeError> {
    // The runtime must list the existing runs before anything is launched.
    let left = registry.context.runtime.list_existing().await;
    registry.start(left.iter().map(|(_, run)| *run));
    let mut seen = sync_until_seen(registry).await?;
    registry.release_reserved();
    let mut orphans = JoinSet::new();
    let mut intervals = PollIntervals::default();
    loop {
        reconcile_orphans(registry, &mut orphans);
        let interval = intervals.after(seen.took);
        let ended = Instant::now();
        tokio::select! {
            () = sleep_until(ended + interval.period) => {}
            () = registry.poll_requested.notified() => sleep_until(ended + interval.on_event).await,
            () = async { registry.idle().await; sleep_until(ended + interval.catch_up).await }, if seen.coverage == Coverage::Partial => {}
        }
        seen = sync_until_seen(registry).await?;
    }
}

/// A successful read.
struct Synced {
    took: Duration,
    coverage: Coverage,
}

/// Whether a read covered all work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    Complete,
    /// More runs are open than can be tracked, or runs ended meanwhile. Those left the list, and as many others may have moved to pages
    /// that had already been read.
    Partial,
}

/// How long to wait before the next read.
#[derive(Debug, PartialEq)]
struct PollInterval {
    /// If an event triggers it.
    on_event: Duration,
    /// If there may be unseen work, and the node is idle.
    catch_up: Duration,
    /// Otherwise.
    period: Duration,
}

/// Measures how slow the server is. A single slow read proves nothing, since it may be due to an outage.
#[derive(Debug, Default)]
struct PollIntervals {
    /// The duration of the previous read.
    before: Duration,
}

impl PollIntervals {
    /// The interval after a read of this duration.
    fn after(&mut self, took: Duration) -> PollInterval {
        PollInterval::of(took.min(std::mem::replace(&mut self.before, took)))
    }
}

impl PollInterval {
    /// The interval for a server on which a read takes this long.
    fn of(took: Duration) -> Self {
        let took = took.min(LONGEST_POLL_INTERVAL);
        let period = POLL_INTERVAL.saturating_sub(took).max((took * (MAX_SERVER_SHARE - 1)).min(LONGEST_POLL_INTERVAL));
        Self {
            on_event: if took < FIRST_BATCH_WITHIN { MIN_INTERVAL } else { took },
            catch_up: RETRY_INTERVAL.max(took).min(period),
            period,
        }
    }
}

/// Reads all open runs, and retries until that succeeds.
async fn sync_until_seen(registry: &Registry) -> Result<Synced, NodeError> {
    loop {
        let (began, ended) = (Instant::now(), registry.ended());
        let error = match sync_runs(registry, None).await {
            Ok(coverage) => {
                let coverage = if registry.ended() == ended { coverage } else { Coverage::Partial };
                return Ok(Synced { took: began.elapsed(), coverage });
            }
            Err(error) => error,
        };
        fatal(&error)?;
        warn!("Could not read the open runs: {error}; retrying in {} s", RETRY_INTERVAL.as_secs());
        sleep(RETRY_INTERVAL).await;
    }
}

/// Cleans up runs that the runtime has but that are not tracked: those of an earlier process, and those that appeared only after their
/// end. Runs in the background; failures are retried after the next read.
fn reconcile_orphans(registry: &Arc<Registry>, before: &mut JoinSet<()>) {
    while before.try_join_next().is_some() {}
    if !before.is_empty() {
        return;
    }
    let mut left = registry.context.runtime.unreported();
    left.retain(|(_, run)| !registry.contains(*run));
    if left.is_empty() {
        return;
    }
    let registry = registry.clone();
    before.spawn(async move {
        stream::iter(left)
            .for_each_concurrent(ORPHAN_CONCURRENCY, |(task, run)| release_orphan(&registry, task, run))
            .await;
    });
}

/// Releases an orphaned run, or tracks it if the server still has it.
pub(super) async fn release_orphan(registry: &Registry, task: TaskId, run: RunId) {
    registry.context.leadership.wait_until_leader().await;
    let gone = match registry.context.hub.run(run).await {
        // The run was tracked meanwhile, and may have ended.
        _ if registry.contains(run) => return,
        Ok(run) if !registry.is_under_way(run.id) => return,
        // The id now belongs to another organization's run.
        Ok(found) if !registry.is_ours(&found) => {
            Ok("Run was deleted at the server, which reuses its id for another organization")
        }
        Ok(found) => {
            if found.finished_at.is_some() {
                info!(%run, %task, "Cleaning up a run that has ended at the server");
            }
            registry.is_seen(run);
            // An existing run is tracked even beyond the limit.
            registry.track(found);
            return;
        }
        // The node may not see this run, and the list lacks it, so it is not this node's. Only after two denials, because a server may
        // also respond 401 temporarily.
        Err(error) if error.is_deleted_run() || error.is_denied() && registry.was_denied_before(run) => {
            Ok("Run was deleted at the server")
        }
        Err(error) => Err(error.to_string()),
    };
    let released = match gone {
        Ok(why) => release(registry, run).await.inspect(|()| info!(%run, %task, "{why}; it is cleaned up")),
        Err(why) => Err(why),
    };
    let Err(failed) = released else { return };
    let Some(times) = UNRELEASED.happened() else { return };
    warn!(%run, times, "Could not clean up the run: {failed}; the node retries after the next poll");
}

/// Releases a run that the server does not have, if this process is the leader.
async fn release(registry: &Registry, run: RunId) -> Result<(), String> {
    if !registry.context.leadership.is_leader() {
        return Err("another process of this node may act now".into());
    }
    registry.context.runtime.release(run, &RunStatus::UnknownError).await.map_err(|error| error.to_string())
}

/// Reads open runs and tracks them, including those before an error. A read of all runs also refreshes tracked runs that are no longer in
/// the list.
pub(super) async fn sync_runs(registry: &Registry, task: Option<TaskId>) -> Result<Coverage, HubError> {
    let mut tracked = HashSet::new();
    if task.is_none() {
        registry.new_tasks.poll_begins();
        tracked = registry.ids();
    }
    let mut runs = pin!(registry.context.hub.open_runs(OpenRuns { task, inputs_up_to: INLINE_INPUTS_UP_TO }));
    let mut found = Found::default();
    let began = Instant::now();
    let end = loop {
        match runs.next().await {
            None => break Ok(()),
            Some(Ok(run)) => {
                tracked.remove(&run.id);
                if !registry.tracks_same(&run) {
                    found.take(registry, run);
                }
                if began.elapsed() > FIRST_BATCH_WITHIN {
                    found.track(registry);
                }
            }
            Some(Err(error)) if matches!(error.kind, HubErrorKind::BrokenRun(_)) => {
                if let Some(times) = BROKEN.happened() {
                    warn!(times, "Ignoring a run: {error}");
                }
            }
            Some(Err(error)) => match error.kind {
                HubErrorKind::OversizedRun(run, organization) => {
                    tracked.remove(&run);
                    oversized::end(registry, run, organization, &error).await;
                }
                _ => break Err(error),
            },
        }
    };
    found.track(registry);
    debug!(new = found.new, "Read the open runs at the server");
    match end {
        Ok(()) => {}
        // The rest can't be read, and an immediate retry would give the same.
        Err(error) if error.kind == HubErrorKind::EndlessList => {
            if let Some(times) = ENDLESS.happened() {
                warn!(times, "Read only a part of the open runs: {error}");
            }
            // Chosen at random, so that each is refreshed in some poll.
            for run in tracked.into_iter().choose_multiple(&mut rand::rng(), MAX_REFRESHES) {
                registry.request_refresh(run);
            }
            return Ok(Coverage::Partial);
        }
        Err(error) => return Err(error),
    }
    let gone = !tracked.is_empty();
    for run in tracked {
        registry.request_refresh(run);
    }
    if found.left
        && let Some(times) = FULL.happened()
    {
        warn!(
            times,
            "More than {MAX_TRACKED} runs are open, which is the most that a node tracks at a time; the others start \
             when some of these have ended"
        );
    }
    Ok(if gone || found.left { Coverage::Partial } else { Coverage::Complete })
}

/// Open runs that are not tracked here.
#[derive(Default)]
struct Found {
    open: Vec<Run>,
    new: usize,
    /// The size of the inputs that were listed with runs, in bytes.
    inputs: usize,
    /// The size of the runs that are not tracked yet, in bytes.
    weight: usize,
    /// Whether there were more runs than can be tracked.
    left: bool,
}

impl Found {
    fn take(&mut self, registry: &Registry, mut run: Run) {
        self.new += 1;
        self.inputs += run.input.as_ref().map_or(0, |input| input.0.len());
        // The input is fetched when it is needed.
        if self.inputs > slots::KEPT_INPUTS {
            run.input = None;
        }
        self.weight += run.weight();
        self.open.push(run);
        // The registry limits the memory for tasks' database parameters.
        if self.weight > MAX_FOUND {
            self.track(registry);
        }
        if self.open.len() > 2 * MAX_TRACKED {
            self.sort(registry);
            self.open.truncate(MAX_TRACKED);
            self.left = true;
        }
    }

    /// Sorts existing runs first, then others from the oldest.
    fn sort(&mut self, registry: &Registry) {
        self.open.sort_by_cached_key(|run| (!registry.is_under_way(run.id), run.id));
    }

    fn track(&mut self, registry: &Registry) {
        self.weight = 0;
        self.sort(registry);
        for run in self.open.drain(..) {
            self.left |= registry.track(run) == Tracking::Full;
        }
    }
}

fn fatal(error: &HubError) -> Result<(), NodeError> {
    if error.kind == HubErrorKind::UnknownNode { Err(NodeError::Refused(error.to_string())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_is_asked_more_rarely() {
        let seconds = Duration::from_secs_f64;
        for (took, on_event, catch_up, period) in [
            (0.0, 1.0, 5.0, 60.0),
            (1.0, 1.0, 5.0, 59.0),
            (5.0, 5.0, 5.0, 55.0),
            (6.0, 6.0, 6.0, 54.0),
            (250.0, 250.0, 250.0, 2250.0),
            (1000.0, 1000.0, 1000.0, 3600.0),
            (100_000.0, 3600.0, 3600.0, 3600.0),
        ] {
            let [on_event, catch_up, period] = [on_event, catch_up, period].map(seconds);
            assert_eq!(PollInterval::of(seconds(took)), PollInterval { on_event, catch_up, period }, "{took} s");
        }
    }

    #[test]
    fn one_slow_look_slows_nothing_down() {
        let seconds = Duration::from_secs;
        let mut intervals = PollIntervals::default();
        for (took, period) in [(7200, 60), (1, 59), (7200, 59), (2, 58), (100, 58), (100, 900), (1, 59)] {
            assert_eq!(intervals.after(seconds(took)).period, seconds(period), "{took} s");
        }
    }
}
