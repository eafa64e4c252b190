//! Follows the live connection and interprets its events. Other members of the collaboration decide how many events there are, so each
//! event only sets a flag (a poll, an announcement or a kill is requested), and repeated events change nothing. The handler of a flag
//! processes one request at a time.

use std::collections::HashSet;

use futures::StreamExt as _;
use sextant_core::hub::{HubEvent, HubEvents, Kill};
use tracing::{debug, info, warn};
use vantage6_types::RunId;

use super::live_status::Announcement;
use super::new_tasks::Next;
use super::registry::Registry;
use super::{NodeError, SERVER};

/// Whether the server shows this node as online.
#[derive(PartialEq, Eq)]
enum Presence {
    Offline,
    Online,
}

/// Follows the live connection until it is closed.
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
        // The existing runs are unknown until the runtime has listed them.
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
        // An earlier connection of this node has ended, maybe one of a lost machine. The server does not tell connections apart, so it
        // shows the node as offline.
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
    // The list in the event may be incomplete (server 4.5.5). A poll finds the other runs that the server has ended.
    registry.poll_requested.notify_one();
}

/// The runs of this node that a kill refers to.
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
