//! Tells the server, live, what its users like to see at once: changes of a run's status, and how this node is
//! set up. What counts is on the REST side; nothing of this is repeated when the connection is away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sextant_core::hub::{Hub, Node, NodeEvent, NodeInfo, Run, StatusChange};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use vantage6_types::RunStatus;

/// How long the server is given to forget a connection that has ended.
const MOMENT: Duration = Duration::from_millis(500);

/// How long sending an event may take.
const SENDING: Duration = Duration::from_secs(1);

/// The pause between two announcements that events ask for, which others decide on.
const PAUSE: Duration = Duration::from_secs(1);

/// What an event asks to be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// How this node is set up.
    SetUp,
    /// That it is online, whatever the server took it for.
    Online,
}

/// What is to be announced: each wish once, however often it was made.
#[derive(Debug, Default)]
struct Wishes {
    set_up: Notify,
    online: Notify,
}

impl Wishes {
    fn make(&self, wish: Wish) {
        match wish {
            Wish::SetUp => self.set_up.notify_one(),
            Wish::Online => self.online.notify_one(),
        }
    }

    /// Grants one at a time, for ever.
    async fn grant(&self, announce: impl AsyncFn(Wish)) -> Infallible {
        loop {
            let wish = tokio::select! {
                () = self.online.notified() => Wish::Online,
                () = self.set_up.notified() => Wish::SetUp,
            };
            announce(wish).await;
            sleep(PAUSE).await;
        }
    }
}

/// Sends this node's events.
pub struct Announcer {
    wishes: Wishes,
    hub: Arc<dyn Hub>,
    me: Node,
    info: Option<NodeInfo>,
}

impl Announcer {
    /// For this node; says nothing of its set-up where its owner does not share it.
    pub fn new(hub: Arc<dyn Hub>, me: Node, info: Option<NodeInfo>) -> Self {
        Self { wishes: Wishes::default(), hub, me, info }
    }

    /// A run has another status.
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

    /// Somebody is to know: soon, and once for all who ask for it until then.
    pub fn wish(&self, wish: Wish) {
        self.wishes.make(wish);
    }

    /// Announces what is wished for, for ever.
    pub async fn run(&self) -> Infallible {
        let announce = async |wish| match wish {
            Wish::SetUp => self.set_up().await,
            Wish::Online => self.online_after_all().await,
        };
        self.wishes.grant(announce).await
    }

    /// How this node is set up.
    async fn set_up(&self) {
        if let Some(info) = &self.info {
            self.send(NodeEvent::Info(info.clone())).await;
        }
    }

    /// This node is online, whatever the server took it for.
    async fn online_after_all(&self) {
        // What the server forgets of a node that goes offline, it forgets a moment after saying so.
        sleep(MOMENT).await;
        self.send(NodeEvent::Online).await;
        self.set_up().await;
    }

    async fn send(&self, event: NodeEvent) {
        // Nothing of this is repeated, and no run waits for it: a server that does not read its events must not put off a deadline.
        match timeout(SENDING, self.hub.send_event(event)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("an event was not sent: {error}"),
            Err(_) => tracing::debug!("an event was not sent: the server does not read its events"),
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
        let (wishes, last) = (Wishes::default(), Cell::new(Instant::now()));
        let (made, under_way) = (RefCell::new(Vec::new()), Cell::new(false));
        let announce = async |wish| {
            assert!(!under_way.replace(true));
            made.borrow_mut().push((wish, Instant::now()));
            sleep(MOMENT).await;
            under_way.set(false);
        };
        // 100,000 events in ten seconds.
        let flood = async {
            for event in 0..100_000 {
                wishes.make(if event % 2 == 0 { Wish::SetUp } else { Wish::Online });
                last.set(Instant::now());
                if event % 1000 == 0 {
                    sleep(Duration::from_millis(100)).await;
                }
            }
            sleep(Duration::from_secs(10)).await;
        };
        tokio::select! {
            () = flood => {}
            never = wishes.grant(announce) => match never {},
        }
        let made = made.into_inner();
        assert!(made.len() <= 10, "{} announcements", made.len());
        for wish in [Wish::SetUp, Wish::Online] {
            assert!(made.iter().any(|(made, at)| *made == wish && *at >= last.get()), "the last {wish:?} was lost");
        }
    }
}
