//! Publishes live events for the server's users: changes of a run's status, and this node's settings. The REST API has what counts, so
//! no event is sent again after the connection was away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sextant_core::hub::{Hub, Node, NodeEvent, NodeInfo, Run, StatusChange};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use vantage6_types::RunStatus;

/// How long the server takes to forget a connection that has ended.
const SERVER_FORGETS_WITHIN: Duration = Duration::from_millis(500);

/// How long sending an event may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest interval between two announcements that events ask for: others decide how many events there are.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What an event can ask this node to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// This node's settings.
    NodeInfo,
    /// That it is online, although the server took it for offline.
    Online,
}

/// The announcements that were asked for: each once, however often it was asked for.
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

    /// Makes one announcement at a time; it never ends.
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
    /// `info` is `None` where the node's owner does not share its settings.
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

    /// Asks for an announcement. Requests that come before it is made share it.
    pub fn request(&self, announcement: Announcement) {
        self.requests.add(announcement);
    }

    /// Makes the requested announcements; it never ends.
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
        // The server drops what it knows of a node shortly after it has announced that the node is offline.
        sleep(SERVER_FORGETS_WITHIN).await;
        self.send(NodeEvent::Online).await;
        self.publish_node_info().await;
    }

    async fn send(&self, event: NodeEvent) {
        // No run waits for this: a server that does not read its events must not delay a deadline.
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
