//! Follows the live connection: what an event means for this node. Others of the collaboration decide how many events
//! there are, so each only leaves a mark (a look, an announcement, a kill is wanted) that the next one like it does not
//! make larger; who acts on a mark does so one at a time.

use std::collections::HashSet;

use tracing::{debug, info, warn};
use vantage6::live::{LiveEvent, LiveEvents};
use vantage6::{Incoming, KillContainers, RunId};

use super::announce::Wish;
use super::new_tasks::Next;
use super::registry::Registry;
use super::{NodeError, SERVER};

/// What the server takes this node for.
#[derive(PartialEq, Eq)]
enum State {
    Offline,
    Online,
}

/// Follows the live connection.
pub async fn listen(registry: &Registry, mut live: LiveEvents) -> Result<(), NodeError> {
    let mut state = State::Offline;
    while let Some(event) = live.recv().await {
        match event {
            LiveEvent::Connected { websocket } => {
                debug!("connected by {}", if websocket { "websocket" } else { "long polling" });
                state = State::Offline;
            }
            LiveEvent::Disconnected { reason } => {
                warn!("offline: {reason}; connecting again");
                registry.context.health.unready(SERVER, format!("offline: {reason}"));
                state = State::Offline;
            }
            LiveEvent::Incoming(Incoming::Sync) => {
                if state == State::Offline {
                    info!("online");
                    state = State::Online;
                }
                registry.context.health.ready(SERVER);
                registry.all.notify_one();
                registry.context.announcer.wish(Wish::SetUp);
            }
            LiveEvent::Incoming(incoming) => heard(registry, incoming),
        }
    }
    Err(NodeError::Other("the live connection to the server was closed".into()))
}

fn heard(registry: &Registry, event: Incoming) {
    match event {
        Incoming::Sync | Incoming::Missed => registry.all.notify_one(),
        // Until the runtime has told what it has, nothing is known of what is under way already.
        Incoming::NewTask { .. } if !registry.has_begun() => registry.all.notify_one(),
        Incoming::NewTask { id, .. } => {
            if registry.new_tasks.heard(id) == Next::LookAtAll {
                registry.all.notify_one();
            }
        }
        Incoming::KillContainers(kill) => match to_kill(registry, &kill) {
            Meant::No => {}
            Meant::All => killed(registry, None),
            Meant::These(runs) => killed(registry, Some(&runs)),
        },
        Incoming::Message(text) => debug!("the server says: {text}"),
        Incoming::ExpiredToken | Incoming::InvalidToken => debug!("the connection is made again with a new token"),
        // An earlier connection of this node's has ended, maybe one of a machine that is gone: the server, which does not tell
        // connections apart, shows the node as offline.
        Incoming::NodeOffline(node) if node.id == registry.context.me.id => {
            registry.context.announcer.wish(Wish::Online);
        }
        Incoming::AlgorithmStatusChange(_) | Incoming::NodeOnline(_) | Incoming::NodeOffline(_) => {}
        Incoming::Unknown { name } => debug!("the server sent '{name}', which means nothing to this node"),
    }
}

fn killed(registry: &Registry, runs: Option<&HashSet<RunId>>) {
    let killed = registry.kill(runs);
    if killed > 0 {
        info!(
            "Asked to kill {} of this node: {killed} are under way",
            if runs.is_none() { "all runs" } else { "runs" }
        );
    }
    // The server's list is not always whole (4.5.5); what it has ended is no longer open.
    registry.all.notify_one();
}

/// The runs of this node that are meant.
enum Meant {
    No,
    All,
    These(HashSet<RunId>),
}

fn to_kill(registry: &Registry, kill: &KillContainers) -> Meant {
    let me = &registry.context.me;
    if kill.collaboration_id != me.collaboration || kill.node_id.is_some_and(|node| node != me.id) {
        return Meant::No;
    }
    let Some(list) = &kill.kill_list else { return Meant::All };
    let own =
        list.iter().filter(|kill| kill.organization_id.is_none_or(|organization| organization == me.organization));
    Meant::These(own.map(|kill| kill.run_id).collect())
}
