//! Publishes live events for the server's users: changes of runs' status and this node's settings. The REST API is authoritative, so
//! events are not repeated after a reconnect.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sextant_core::hub::{Hub, Node, NodeEvent, NodeInfo, Run, StatusChange};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use vantage6_types::RunStatus;

/// How long the server takes to clean up an ended connection.
const SERVER_FORGETS_WITHIN: Duration = Duration::from_millis(500);

/// The timeout for sending an event.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest interval between two requested announcements, since others decide how many events request them.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What an event can ask this node to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// This node's settings.
    NodeInfo,
    /// The node is online, although the server shows it as offline.
    Online,
}

/// The requested announcements. Repeated requests are merged.
#[derive(Debug, Default)]
struct Requests {
    node_info: Notify,
    online: Notify,
}

impl Requests {
    fn add(&self, announcement: Announcement) {
        match announcement {
            Announcement::NodeInfo => self.node_info.notify_one(),
            Announcement::Online => self.online.notify_one(),
        }
    }

    /// Makes one announcement at a time. Never returns.
    async fn serve(&self, announce: impl AsyncFn(Announcement)) -> Infallible {
        loop {
            let announcement = tokio::select! {
                () = self.online.notified() => Announcement::Online,
                () = self.node_info.notified() => Announcement::NodeInfo,
            };
            announce(announcement).await;
            sleep(MIN_INTERVAL).await;
        }
    }
}

/// Sends this node's events.
pub struct StatusPublisher {
    requests: Requests,
    hub: Arc<dyn Hub>,
    me: Node,
    info: Option<NodeInfo>,
}

impl StatusPublisher {
    /// Creates a publisher. `info` is `None` if the owner does not share the node's settings.
    pub fn new(hub: Arc<dyn Hub>, me: Node, info: Option<NodeInfo>) -> Self {
        Self { requests: Requests::default(), hub, me, info }
    }

    /// Publishes a run's new status.
    pub async fn status(&self, run: &Run, status: &RunStatus) {
        self.send(NodeEvent::Status(StatusChange {
            status: status.clone(),
            run: run.id,
            task: run.task.id,
            parent: run.task.parent,
            node: self.me.clone(),
        }))
        .await;
    }

    /// Requests an announcement. Requests that arrive before it is made are merged.
    pub fn request(&self, announcement: Announcement) {
        self.requests.add(announcement);
    }

    /// Makes the requested announcements. Never returns.
    pub async fn run(&self) -> Infallible {
        let announce = async |announcement| match announcement {
            Announcement::NodeInfo => self.publish_node_info().await,
            Announcement::Online => self.reassert_online().await,
        };
        self.requests.serve(announce).await
    }

    async fn publish_node_info(&self) {
        if let Some(info) = &self.info {
            self.send(NodeEvent::Info(info.clone())).await;
        }
    }

    async fn reassert_online(&self) {
        // The server drops its record of a node's connection shortly after it has announced the node as offline.
        sleep(SERVER_FORGETS_WITHIN).await;
        self.send(NodeEvent::Online).await;
        self.publish_node_info().await;
    }

    /// Sends an event to the server, or drops it if that takes too long.
    pub async fn send(&self, event: NodeEvent) {
        // A server that does not read its events must not delay a run's deadline.
        match timeout(SEND_TIMEOUT, self.hub.send_event(event)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("An event was not sent: {error}"),
            Err(_) => tracing::debug!("An event was not sent: the server does not read its events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn however_often_it_is_asked_for_there_is_one_announcement_at_a_time() {
        let (requests, last) = (Requests::default(), Cell::new(Instant::now()));
        let (made, under_way) = (RefCell::new(Vec::new()), Cell::new(false));
        let announce = async |announcement| {
            assert!(!under_way.replace(true));
            made.borrow_mut().push((announcement, Instant::now()));
            sleep(SERVER_FORGETS_WITHIN).await;
            under_way.set(false);
        };
        // 100,000 events in ten seconds.
        let flood = async {
            for event in 0..100_000 {
                requests.add(if event % 2 == 0 { Announcement::NodeInfo } else { Announcement::Online });
                last.set(Instant::now());
                if event % 1000 == 0 {
                    sleep(Duration::from_millis(100)).await;
                }
            }
            sleep(Duration::from_secs(10)).await;
        };
        tokio::select! {
            () = flood => {}
            never = requests.serve(announce) => match never {},
        }
        let made = made.into_inner();
        assert!(made.len() <= 10, "{} announcements", made.len());
        for announcement in [Announcement::NodeInfo, Announcement::Online] {
            assert!(
                made.iter().any(|(made, at)| *made == announcement && *at >= last.get()),
                "the last {announcement:?} was lost"
            );
        }
    }
}
