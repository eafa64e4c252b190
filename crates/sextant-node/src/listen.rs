//! Follows the live connection: what an event means for this node. Others of the collaboration decide how many events
//! there are, so each only leaves a mark (a look, an announcement, a kill is wanted) that the next one like it does not
//! make larger; who acts on a mark does so one at a time.

use std::collections::HashSet;

use futures::StreamExt as _;
use sextant_core::hub::{HubEvent, HubEvents, Kill};
use tracing::{debug, info, warn};
use vantage6_types::RunId;

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
pub async fn listen(registry: &Registry, mut live: HubEvents) -> Result<(), NodeError> {
    let mut state = State::Offline;
    while let Some(event) = live.next().await {
        match event {
            HubEvent::Connected(transport) => {
                debug!("connected by {transport}");
                state = State::Offline;
            }
            HubEvent::Disconnected(reason) => {
                warn!("offline: {reason}; connecting again");
                registry.context.health.unready(SERVER, format!("offline: {reason}"));
                registry.context.metrics.disconnected();
                state = State::Offline;
            }
            HubEvent::Welcome => {
                if state == State::Offline {
                    info!("online");
                    state = State::Online;
                }
                registry.context.health.ready(SERVER);
                registry.all.notify_one();
                registry.context.announcer.wish(Wish::SetUp);
            }
            event => heard(registry, event),
        }
    }
    Err(NodeError::Other("the live connection to the server was closed".into()))
}

fn heard(registry: &Registry, event: HubEvent) {
    match event {
        HubEvent::Missed => registry.all.notify_one(),
        // Until the runtime has told what it has, nothing is known of what is under way already.
        HubEvent::NewTask(_) if !registry.has_begun() => registry.all.notify_one(),
        HubEvent::NewTask(id) => {
            if registry.new_tasks.heard(id) == Next::LookAtAll {
                registry.all.notify_one();
            }
        }
        HubEvent::Kill(kill) => match to_kill(registry, &kill) {
            Meant::No => {}
            Meant::All => killed(registry, None),
            Meant::These(runs) => killed(registry, Some(&runs)),
        },
        // An earlier connection of this node's has ended, maybe one of a machine that is gone: the server, which does not tell
        // connections apart, shows the node as offline.
        HubEvent::NodeOffline(node) if node == registry.context.me.id => {
            registry.context.announcer.wish(Wish::Online);
        }
        HubEvent::NodeOffline(_) => {}
        HubEvent::Other(text) => debug!("{text}"),
        HubEvent::Connected(_) | HubEvent::Disconnected(_) | HubEvent::Welcome => {}
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

fn to_kill(registry: &Registry, kill: &Kill) -> Meant {
    let me = &registry.context.me;
    if kill.collaboration != me.collaboration || kill.node.is_some_and(|node| node != me.id) {
        return Meant::No;
    }
    let Some(list) = &kill.runs else { return Meant::All };
    let own =
        list.iter().filter(|(_, organization)| organization.is_none_or(|organization| organization == me.organization));
    Meant::These(own.map(|(run, _)| *run).collect())
}
