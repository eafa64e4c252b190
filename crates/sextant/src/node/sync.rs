//! What there is to do is always read from the server; events only say when to look. So a node whose connection
//! is dead, or that missed an event, finds the same work a little later.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};
use vantage6::live::{LiveEvent, LiveEvents};
use vantage6::{Error, Incoming, KillContainers, OpenRuns, Run, RunId, RunStatus, TaskId};

use super::registry::Registry;
use super::{NodeError, SERVER};

/// How often the server is asked without being told to.
const PERIOD: Duration = Duration::from_secs(60);
/// A server that answers slowly is asked more rarely: it spends no more than this part of its time on it.
const PART: u32 = 10;
/// A list that takes longer is not waited for: what is known by then is begun with, although older runs may still come.
const LONG: Duration = Duration::from_secs(2);
/// Inputs of up to so many characters come along with their runs; longer ones are fetched when needed.
const INPUTS: usize = 4 * 1024;
/// Of how many runs at a time that are not open here what is left is put away.
const TIDYING: usize = 8;
/// The pause after a look that failed (the client has already tried again for a while), or that did not see everything.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens and looks, for ever.
///
/// # Errors
/// If the server says that the API key is wrong, or the live connection was ended from this side.
pub async fn run(registry: Arc<Registry>, live: LiveEvents) -> Result<(), NodeError> {
    tokio::select! {
        result = look_for_ever(&registry) => result,
        result = listen(&registry, live) => result,
    }
}

/// Looks for all open runs: first of all, then when told to, and every minute.
async fn look_for_ever(registry: &Arc<Registry>) -> Result<(), NodeError> {
    // Before anything is launched, the runtime must know what is there already.
    let left = registry.context.runtime.leftovers().await;
    registry.begin(left.iter().map(|(_, run)| *run));
    let mut seen = look_until_seen(registry).await?;
    registry.release_reserved();
    let mut tidying = None;
    loop {
        tidy(registry, &mut tidying);
        let pace = Pace::after(seen.took);
        let ended = Instant::now();
        tokio::select! {
            () = sleep_until(ended + pace.period) => {}
            () = registry.all.notified() => sleep_until(ended + pace.rest).await,
            () = async { registry.idle().await; sleep_until(ended + pace.again).await }, if seen.moved => {}
        }
        seen = look_until_seen(registry).await?;
    }
}

/// A look that worked.
struct Seen {
    took: Duration,
    /// Whether runs came to their end meanwhile: they left the list, and as many others may have moved to pages that had
    /// been read already, and were not seen.
    moved: bool,
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

impl Pace {
    /// After a look that took so long.
    fn after(took: Duration) -> Self {
        let period = PERIOD.saturating_sub(took).max(took * (PART - 1));
        Self { rest: if took < LONG { Duration::ZERO } else { took }, again: PAUSE.max(took).min(period), period }
    }
}

/// One look at everything, however often it must be tried.
async fn look_until_seen(registry: &Registry) -> Result<Seen, NodeError> {
    loop {
        let (began, ended) = (Instant::now(), registry.ended());
        let error = match look(registry, None).await {
            Ok(gone) => return Ok(Seen { took: began.elapsed(), moved: gone || registry.ended() != ended }),
            Err(error) => error,
        };
        fatal(&error)?;
        warn!("the open runs can't be read: {error}; trying again in {} s", PAUSE.as_secs());
        sleep(PAUSE).await;
    }
}

/// Puts away what there is of runs that are not open: what an earlier process left, and what came up late of one that has ended
/// meanwhile. What can't be put away now is tried after the next look; nothing waits for it.
fn tidy(registry: &Arc<Registry>, before: &mut Option<JoinHandle<()>>) {
    if before.as_ref().is_some_and(|before| !before.is_finished()) {
        return;
    }
    let mut left = registry.context.runtime.unreported();
    left.retain(|(_, run)| !registry.has(*run));
    if left.is_empty() {
        return;
    }
    let registry = registry.clone();
    *before = Some(tokio::spawn(async move {
        stream::iter(left).for_each_concurrent(TIDYING, |(task, run)| put_away(&registry, task, run)).await;
    }));
}

/// What is left of a run that is not driven here.
pub(super) async fn put_away(registry: &Registry, task: TaskId, run: RunId) {
    registry.context.hold.good().await;
    let failed = match registry.context.hub.run(run).await {
        // It was adopted meanwhile, and may have come to its end.
        _ if registry.has(run) => return,
        Ok(run) if !registry.is_under_way(run.id) => return,
        // Its number is another organization's now.
        Ok(found) if !registry.is_ours(&found) => {
            info!(%run, %task, "was deleted at the server, which uses its number for another organization; what is left of it is put away");
            match registry.context.runtime.release(run, &RunStatus::UnknownError).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            }
        }
        Ok(found) => {
            if found.finished_at.is_some() {
                info!(%run, %task, "has ended at the server; what is left of it is put away");
            }
            return registry.adopt(found);
        }
        // A run that this node may not see is not this node's: the list, which was read before, lacks it.
        Err(error) if error.is_deleted_run() || matches!(error.own_status(), Some(401 | 403)) => {
            info!(%run, %task, "was deleted at the server; what is left of it is put away");
            match registry.context.runtime.release(run, &RunStatus::UnknownError).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    warn!(%run, "what is left of it can't be put away: {failed}; it is tried again after the next look at all runs");
}

/// One look: adopts what is open. A look at everything also has those looked at that are driven here and no
/// longer open there; it tells whether there are any.
async fn look(registry: &Registry, task: Option<TaskId>) -> Result<bool, Error> {
    let mut driven = if task.is_none() { registry.ids() } else { HashSet::new() };
    let mut runs = pin!(registry.context.hub.open_runs(OpenRuns { task, inputs_up_to: INPUTS }));
    let (mut open, mut new) = (Vec::new(), 0);
    let began = Instant::now();
    while let Some(run) = runs.next().await {
        match run {
            Ok(run) => {
                driven.remove(&run.id);
                if !registry.drives(&run) {
                    open.push(run);
                    new += 1;
                }
                if began.elapsed() > LONG {
                    adopt(registry, &mut open);
                }
            }
            Err(error @ Error::BrokenRun { .. }) => warn!("{error}; it is left alone"),
            Err(error) => return Err(error),
        }
    }
    debug!(new, "open runs at the server");
    adopt(registry, &mut open);
    let gone = !driven.is_empty();
    for run in driven {
        registry.look(run);
    }
    Ok(gone)
}

/// Drives these. What is under way keeps its place; of the others, the oldest come first.
fn adopt(registry: &Registry, open: &mut Vec<Run>) {
    open.sort_by_cached_key(|run| (!registry.is_under_way(run.id), run.id));
    for run in open.drain(..) {
        registry.adopt(run);
    }
}

/// Follows the live connection.
async fn listen(registry: &Arc<Registry>, mut live: LiveEvents) -> Result<(), NodeError> {
    while let Some(event) = live.recv().await {
        match event {
            LiveEvent::Connected { websocket } => {
                debug!("connected by {}", if websocket { "websocket" } else { "long polling" });
            }
            LiveEvent::Disconnected { reason } => {
                warn!("offline: {reason}; connecting again");
                registry.context.health.unready(SERVER, format!("offline: {reason}"));
            }
            LiveEvent::Incoming(incoming) => heard(registry, incoming),
        }
    }
    Err(NodeError::Other("the live connection to the server was closed".into()))
}

fn heard(registry: &Arc<Registry>, event: Incoming) {
    match event {
        Incoming::Sync => {
            info!("online");
            registry.context.health.ready(SERVER);
            registry.all.notify_one();
            let context = registry.context.clone();
            tokio::spawn(async move { context.announcer.set_up().await });
        }
        // Until the runtime has told what it has, nothing is known of what is under way already.
        Incoming::NewTask { .. } if !registry.has_begun() => registry.all.notify_one(),
        Incoming::NewTask { id, .. } => {
            let registry = registry.clone();
            tokio::spawn(async move {
                if let Err(error) = look(&registry, Some(id)).await {
                    warn!(task = %id, "a new task could not be looked at: {error}; the next look at all runs finds it");
                }
            });
        }
        Incoming::KillContainers(kill) => {
            if let Some(runs) = to_kill(registry, &kill) {
                info!(
                    "asked to kill {}",
                    runs.as_ref().map_or("all runs".to_owned(), |runs| format!("{} run(s)", runs.len()))
                );
                registry.kill(runs.as_ref());
            }
            // The server's list is not always whole (4.5.5); what it has ended is no longer open.
            registry.all.notify_one();
        }
        Incoming::Message(text) => debug!("the server says: {text}"),
        Incoming::ExpiredToken | Incoming::InvalidToken => debug!("the connection is made again with a new token"),
        // An earlier connection of this node's has ended, maybe one of a machine that is gone: the server, which does not tell
        // connections apart, shows the node as offline.
        Incoming::NodeOffline(node) if node.id == registry.context.me.id => {
            let context = registry.context.clone();
            tokio::spawn(async move { context.announcer.online_after_all().await });
        }
        Incoming::AlgorithmStatusChange(_) | Incoming::NodeOnline(_) | Incoming::NodeOffline(_) => {}
        Incoming::Unknown { name, .. } => debug!("the server sent '{name}', which means nothing to this node"),
    }
}

/// The runs of this node that are meant: `None` when it is not meant, `Some(None)` when all are.
fn to_kill(registry: &Registry, kill: &KillContainers) -> Option<Option<HashSet<RunId>>> {
    let me = &registry.context.me;
    if kill.collaboration_id != me.collaboration || kill.node_id.is_some_and(|node| node != me.id) {
        return None;
    }
    let list = kill.kill_list.as_ref().map(|list| {
        list.iter()
            .filter(|kill| kill.organization_id.is_none_or(|organization| organization == me.organization))
            .map(|kill| kill.run_id)
            .collect()
    });
    Some(list)
}

fn fatal(error: &Error) -> Result<(), NodeError> {
    if error.is_wrong_api_key() { Err(NodeError::Refused(error.to_string())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_is_asked_more_rarely() {
        let seconds = Duration::from_secs_f64;
        for (took, rest, again, period) in [
            (0.0, 0.0, 5.0, 60.0),
            (1.0, 0.0, 5.0, 59.0),
            (5.0, 5.0, 5.0, 55.0),
            (6.0, 6.0, 6.0, 54.0),
            (250.0, 250.0, 250.0, 2250.0),
        ] {
            let [rest, again, period] = [rest, again, period].map(seconds);
            assert_eq!(Pace::after(seconds(took)), Pace { rest, again, period }, "{took} s");
        }
    }
}
