//! What there is to do is always read from the server; events only say when to look. So a node whose connection
//! is dead, or that missed an event, finds the same work a little later.

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
use super::{NodeError, slots};

/// How often the server is asked without being told to.
const PERIOD: Duration = Duration::from_secs(60);
/// A server that answers slowly is asked more rarely: it spends no more than this part of its time on it.
const PART: u32 = 10;
/// But it is asked this often.
const LONGEST: Duration = Duration::from_secs(3600);
/// Of a list without end, what is not in the part that was read may have left it: so many of the runs tracked here are asked about.
const ASKED: usize = 100;
/// A list that takes longer is not waited for: what is known by then is begun with, although older runs may still come.
const LONG: Duration = Duration::from_secs(2);
/// Inputs of up to so many characters come along with their runs; longer ones are fetched when needed.
const INPUTS: usize = 4 * 1024;
/// Of how many runs at a time that are not open here what is left is put away.
const TIDYING: usize = 8;
/// The pause after a look that failed (the client has already tried again for a while), or that did not see everything.
const PAUSE: Duration = Duration::from_secs(5);

/// The shortest pause between two looks that are asked for by events, which others decide on.
const REST: Duration = Duration::from_secs(1);

/// What a server can make happen any number of times.
static BROKEN: LogThrottle = LogThrottle::new();
static ENDLESS: LogThrottle = LogThrottle::new();
static FULL: LogThrottle = LogThrottle::new();
static FAILED: LogThrottle = LogThrottle::new();

/// Listens and looks, for ever. All of it ends with this.
///
/// # Errors
/// If the server says that the API key is wrong, or the live connection was ended from this side.
pub async fn run(registry: Arc<Registry>, live: HubEvents) -> Result<(), NodeError> {
    tokio::select! {
        result = look_for_ever(&registry) => result,
        result = listen(&registry, live) => result,
        never = registry.new_tasks.work_off(|task| look_at(&registry, task)) => match never {},
        never = registry.context.status_publisher.run() => match never {},
    }
}

/// Looks at one task's runs. What can't be seen now, a look at all finds, which is tried until it works.
async fn look_at(registry: &Registry, task: TaskId) {
    if let Err(error) = look(registry, Some(task)).await {
        if let Some(times) = FAILED.happened() {
            warn!(%task, times, "a new task could not be looked at: {error}; a look at all runs is to find it");
        }
        registry.poll_requested.notify_one();
    }
}

/// Looks for all open runs: first of all, then when told to, and every minute.
async fn look_for_ever(registry: &Arc<Registry>) -> Result<(), NodeError> {
    // Before anything is launched, the runtime must know what is there already.
    let left = registry.context.runtime.leftovers().await;
    registry.start(left.iter().map(|(_, run)| *run));
    let mut seen = look_until_seen(registry).await?;
    registry.release_reserved();
    let mut tidying = JoinSet::new();
    let mut paces = Paces::default();
    loop {
        tidy(registry, &mut tidying);
        let pace = paces.after(seen.took);
        let ended = Instant::now();
        tokio::select! {
            () = sleep_until(ended + pace.period) => {}
            () = registry.poll_requested.notified() => sleep_until(ended + pace.rest).await,
            () = async { registry.idle().await; sleep_until(ended + pace.again).await }, if seen.coverage == Coverage::Partial => {}
        }
        seen = look_until_seen(registry).await?;
    }
}

/// A look that worked.
struct Seen {
    took: Duration,
    coverage: Coverage,
}

/// Whether a look saw all that there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    Complete,
    /// There was more than can be tracked, or runs came to their end meanwhile; those left the list, and as many others may have moved to
    /// pages that had been read already.
    Partial,
}

/// How long the server is left alone.
#[derive(Debug, PartialEq)]
struct Pace {
    /// When told to look.
    rest: Duration,
    /// When there may be more to be done than was seen, and nothing else is.
    again: Duration,
    /// Otherwise.
    period: Duration,
}

/// Finds out how slow the server is. One slow look tells nothing: an outage may have come into it.
#[derive(Debug, Default)]
struct Paces {
    /// How long the look before took.
    before: Duration,
}

impl Paces {
    /// After a look that took so long.
    fn after(&mut self, took: Duration) -> Pace {
        Pace::of(took.min(std::mem::replace(&mut self.before, took)))
    }
}

impl Pace {
    /// For a server whose looks take so long.
    fn of(took: Duration) -> Self {
        let took = took.min(LONGEST);
        let period = PERIOD.saturating_sub(took).max((took * (PART - 1)).min(LONGEST));
        Self { rest: if took < LONG { REST } else { took }, again: PAUSE.max(took).min(period), period }
    }
}

/// One look at everything, however often it must be tried.
async fn look_until_seen(registry: &Registry) -> Result<Seen, NodeError> {
    loop {
        let (began, ended) = (Instant::now(), registry.ended());
        let error = match look(registry, None).await {
            Ok(coverage) => {
                let coverage = if registry.ended() == ended { coverage } else { Coverage::Partial };
                return Ok(Seen { took: began.elapsed(), coverage });
            }
            Err(error) => error,
        };
        fatal(&error)?;
        warn!("the open runs can't be read: {error}; trying again in {} s", PAUSE.as_secs());
        sleep(PAUSE).await;
    }
}

/// Puts away what there is of runs that are not open: what an earlier process left, and what came up late of one that has ended
/// meanwhile. What can't be put away now is tried after the next look; nothing waits for it.
fn tidy(registry: &Arc<Registry>, before: &mut JoinSet<()>) {
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
        stream::iter(left).for_each_concurrent(TIDYING, |(task, run)| put_away(&registry, task, run)).await;
    });
}

/// What is left of a run that is not tracked here.
pub(super) async fn put_away(registry: &Registry, task: TaskId, run: RunId) {
    registry.context.leadership.wait_until_leader().await;
    let gone = match registry.context.hub.run(run).await {
        // It was tracked meanwhile, and may have come to its end.
        _ if registry.contains(run) => return,
        Ok(run) if !registry.is_under_way(run.id) => return,
        // Its number is another organization's now.
        Ok(found) if !registry.is_ours(&found) => {
            Ok("was deleted at the server, which uses its number for another organization")
        }
        Ok(found) => {
            if found.finished_at.is_some() {
                info!(%run, %task, "has ended at the server; what is left of it is put away");
            }
            registry.is_seen(run);
            // What is under way always has room.
            registry.track(found);
            return;
        }
        // A run that this node may not see is not this node's: the list, which was read before, lacks it. Twice, because a server says 401
        // in passing, too.
        Err(error) if error.is_deleted_run() || error.is_denied() && registry.was_denied_before(run) => {
            Ok("was deleted at the server")
        }
        Err(error) => Err(error.to_string()),
    };
    let put_away = match gone {
        Ok(why) => {
            info!(%run, %task, "{why}; what is left of it is put away");
            release(registry, run).await
        }
        Err(why) => Err(why),
    };
    let Err(failed) = put_away else { return };
    warn!(%run, "what is left of it can't be put away: {failed}; it is tried again after the next look at all runs");
}

/// Releases a run that is not at the server, if this process may act at this moment.
async fn release(registry: &Registry, run: RunId) -> Result<(), String> {
    if !registry.context.leadership.is_leader() {
        return Err("another process of this node may act now".into());
    }
    registry.context.runtime.release(run, &RunStatus::UnknownError).await.map_err(|error| error.to_string())
}

/// One look: tracks what is open, also what came before an error. A look at everything also has those looked at that are tracked
/// here and no longer open there.
pub(super) async fn look(registry: &Registry, task: Option<TaskId>) -> Result<Coverage, HubError> {
    let mut tracked = HashSet::new();
    if task.is_none() {
        registry.new_tasks.look_at_all_begins();
        tracked = registry.ids();
    }
    let mut runs = pin!(registry.context.hub.open_runs(OpenRuns { task, inputs_up_to: INPUTS }));
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
                if began.elapsed() > LONG {
                    found.track(registry);
                }
            }
            Some(Err(error)) if matches!(error.kind, HubErrorKind::BrokenRun(_)) => {
                if let Some(times) = BROKEN.happened() {
                    warn!(times, "{error}; it is left alone");
                }
            }
            Some(Err(error)) => break Err(error),
        }
    };
    found.track(registry);
    debug!(new = found.new, "open runs at the server");
    match end {
        Ok(()) => {}
        // The rest of it can't be known, and the same would come again at once.
        Err(error) if error.kind == HubErrorKind::EndlessList => {
            if let Some(times) = ENDLESS.happened() {
                warn!(times, "{error}; the node goes on with what it has read");
            }
            // By chance, so that each has its turn in some look.
            for run in tracked.into_iter().choose_multiple(&mut rand::rng(), ASKED) {
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
            "more runs are open than the {MAX_TRACKED} that a node has at a time; the others are begun with when some have ended"
        );
    }
    Ok(if gone || found.left { Coverage::Partial } else { Coverage::Complete })
}

/// What a look has found that is not tracked here.
#[derive(Default)]
struct Found {
    open: Vec<Run>,
    new: usize,
    /// Bytes of inputs that came along.
    inputs: usize,
    /// There were more than can be tracked.
    left: bool,
}

impl Found {
    fn take(&mut self, registry: &Registry, mut run: Run) {
        self.new += 1;
        self.inputs += run.input.as_ref().map_or(0, |input| input.0.len());
        // It is fetched when it is needed.
        if self.inputs > slots::KEPT_INPUTS {
            run.input = None;
        }
        self.open.push(run);
        if self.open.len() > 2 * MAX_TRACKED {
            self.sort(registry);
            self.open.truncate(MAX_TRACKED);
            self.left = true;
        }
    }

    /// What is under way keeps its place; of the others, the oldest come first.
    fn sort(&mut self, registry: &Registry) {
        self.open.sort_by_cached_key(|run| (!registry.is_under_way(run.id), run.id));
    }

    fn track(&mut self, registry: &Registry) {
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
        for (took, rest, again, period) in [
            (0.0, 1.0, 5.0, 60.0),
            (1.0, 1.0, 5.0, 59.0),
            (5.0, 5.0, 5.0, 55.0),
            (6.0, 6.0, 6.0, 54.0),
            (250.0, 250.0, 250.0, 2250.0),
            (1000.0, 1000.0, 1000.0, 3600.0),
            (100_000.0, 3600.0, 3600.0, 3600.0),
        ] {
            let [rest, again, period] = [rest, again, period].map(seconds);
            assert_eq!(Pace::of(seconds(took)), Pace { rest, again, period }, "{took} s");
        }
    }

    #[test]
    fn one_slow_look_slows_nothing_down() {
        let seconds = Duration::from_secs;
        let mut paces = Paces::default();
        for (took, period) in [(7200, 60), (1, 59), (7200, 59), (2, 58), (100, 58), (100, 900), (1, 59)] {
            assert_eq!(paces.after(seconds(took)).period, seconds(period), "{took} s");
        }
    }
}
