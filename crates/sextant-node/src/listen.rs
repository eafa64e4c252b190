//! Follows the live connection, and interprets events for this node. Others of the collaboration decide how many events there are, so
//! each only sets a flag (a poll, an announcement or a kill is requested), which further events of the kind do not change. The handler of
//! a flag acts on one request at a time.

use std::collections::HashSet;

use futures::StreamExt as _;
use sextant_core::hub::{HubEvent, HubEvents, Kill};
use tracing::{debug, info, warn};
use vantage6_types::RunId;

use super::live_status::Announcement;
use super::new_tasks::Next;
use super::registry::Registry;
use super::{NodeError, SERVER};

/// What the server takes this node for.
#[derive(PartialEq, Eq)]
enum Presence {
    Offline,
    Online,
}

/// Follows the live connection.
pub async fn listen(registry: &Registry, mut live: HubEvents) -> Result<(), NodeError> {
    let mut presence = Presence::Offline;
    while let Some(event) = live.next().await {
        match event {
            HubEvent::Connected(transport) => {
                debug!("Connected by {transport}");
                presence = Presence::Offline;
            }
            HubEvent::Disconnected(reason) => {
                warn!("The node is offline: {reason}; reconnecting");
                registry.context.health.unready(SERVER, format!("offline: {reason}"));
                registry.context.metrics.disconnected();
                presence = Presence::Offline;
            }
            HubEvent::Welcome => {
                if presence == Presence::Offline {
                    info!("The node is online");
                    presence = Presence::Online;
                }
                registry.context.health.ready(SERVER);
                registry.poll_requested.notify_one();
                registry.context.status_publisher.request(Announcement::NodeInfo);
            }
            event => on_event(registry, event),
        }
    }
    Err(NodeError::Other("the live connection to the server was closed".into()))
}

fn on_event(registry: &Registry, event: HubEvent) {
    match event {
        HubEvent::Missed => registry.poll_requested.notify_one(),
        // Until the runtime has listed its runs, the existing runs are unknown.
        HubEvent::NewTask(_) if !registry.has_started() => registry.poll_requested.notify_one(),
        HubEvent::NewTask(id) => {
            if registry.new_tasks.add(id) == Next::PollRequested {
                registry.poll_requested.notify_one();
            }
        }
        HubEvent::Kill(kill) => match runs_to_kill(registry, &kill) {
            KillTargets::No => {}
            KillTargets::All => kill_runs(registry, None),
            KillTargets::These(runs) => kill_runs(registry, Some(&runs)),
        },
        // An earlier connection of this node's has ended, maybe one of a machine that is gone: the server, which does not tell
        // connections apart, shows the node as offline.
        HubEvent::NodeOffline(node) if node == registry.context.me.id => {
            registry.context.status_publisher.request(Announcement::Online);
        }
        HubEvent::NodeOffline(_) => {}
        HubEvent::Other(text) => debug!("{text}"),
        HubEvent::Connected(_) | HubEvent::Disconnected(_) | HubEvent::Welcome => {}
    }
}

fn kill_runs(registry: &Registry, runs: Option<&HashSet<RunId>>) {
    let killed = registry.kill(runs);
    if killed > 0 {
        info!(
            "Asked to kill {} of this node: {killed} are under way",
            if runs.is_none() { "all runs" } else { "runs" }
        );
    }
    // The server's list is not always whole (4.5.5); what it has ended is no longer open.
    registry.poll_requested.notify_one();
}

/// The runs of this node that are meant.
enum KillTargets {
    No,
    All,
    These(HashSet<RunId>),
}

fn runs_to_kill(registry: &Registry, kill: &Kill) -> KillTargets {
    let me = &registry.context.me;
    if kill.collaboration != me.collaboration || kill.node.is_some_and(|node| node != me.id) {
        return KillTargets::No;
    }
    let Some(list) = &kill.runs else { return KillTargets::All };
    let own =
        list.iter().filter(|(_, organization)| organization.is_none_or(|organization| organization == me.organization));
    KillTargets::These(own.map(|(run, _)| *run).collect())
}
