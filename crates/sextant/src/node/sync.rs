//! What there is to do is always read from the server; events only say when to look. So a node whose connection
//! is dead, or that missed an event, finds the same work a little later.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};
use vantage6::live::{LiveEvent, LiveEvents};
use vantage6::{Error, Incoming, KillContainers, OpenRuns, RunStatus, TaskId};

use super::registry::Registry;
use super::{NodeError, SERVER};

/// How often the server is asked without being told to.
const PERIOD: Duration = Duration::from_secs(60);
/// Inputs of up to so many characters come along with their runs; longer ones are fetched when needed.
const INPUTS: usize = 4 * 1024;
/// The pause after a look that failed; the client has already tried again for a while.
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
    let mut timer = interval(PERIOD);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leftovers = registry.context.runtime.leftovers();
    let mut leftovers = Some(leftovers);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = registry.all.notified() => timer.reset(),
        }
        // Before anything is launched, the runtime must know what is there already.
        let left = match leftovers.take() {
            Some(leftovers) => leftovers.await,
            None => Vec::new(),
        };
        while let Err(error) = look(registry, None).await {
            fatal(&error)?;
            warn!("the open runs can't be read: {error}; trying again in {} s", PAUSE.as_secs());
            sleep(PAUSE).await;
        }
        registry.begin();
        for (task, run) in left {
            if !registry.has(run) {
                info!(%run, %task, "was ended at the server while this node was away; what is left of it is put away");
                tokio::spawn(put_away(registry.clone(), run));
            }
        }
    }
}

/// What an earlier process left of a run that is not open any more.
async fn put_away(registry: Arc<Registry>, run: vantage6::RunId) {
    loop {
        registry.context.hold.good().await;
        let failed = match registry.context.client.run(run).await {
            Ok(run) => return registry.adopt(run),
            Err(error) if error.is_deleted_run() => {
                match registry.context.runtime.release(run, &RunStatus::UnknownError).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        warn!(%run, "what is left of it can't be put away: {failed}; trying again in {} s", PERIOD.as_secs());
        sleep(PERIOD).await;
    }
}

/// One look: adopts what is open. A look at everything also has those looked at that are driven here and no
/// longer open there.
async fn look(registry: &Registry, task: Option<TaskId>) -> Result<(), Error> {
    let mut driven = if task.is_none() { registry.ids() } else { HashSet::new() };
    let mut runs = pin!(registry.context.client.open_runs(OpenRuns { task, inputs_up_to: INPUTS }));
    let mut open = Vec::new();
    while let Some(run) = runs.next().await {
        match run {
            Ok(run) => {
                driven.remove(&run.id);
                if !registry.drives(&run) {
                    open.push(run);
                }
            }
            Err(error @ Error::BrokenRun { .. }) => warn!("{error}; it is left alone"),
            Err(error) => return Err(error),
        }
    }
    debug!(new = open.len(), "open runs at the server");
    // What is under way keeps its place; of the others, the oldest come first.
    open.sort_by_cached_key(|run| (!registry.is_under_way(run.id), run.id));
    for run in open {
        registry.adopt(run);
    }
    for run in driven {
        registry.look(run);
    }
    Ok(())
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
        // Until the first look at everything, nothing is known of what is under way already.
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
fn to_kill(registry: &Registry, kill: &KillContainers) -> Option<Option<HashSet<vantage6::RunId>>> {
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
