//! Tells the server, live, what its users like to see at once: changes of a run's status, and how this node is
//! set up. What counts is on the REST side; nothing of this is repeated when the connection is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vantage6::{DatabaseInfo, Node, NodeInfo, Outgoing, Run, RunStatus, StatusChange};

use super::columns;
use crate::config::{Config, Database, Policies};
use crate::hub::Hub;

/// How long the server is given to forget a connection that has ended.
const MOMENT: Duration = Duration::from_millis(500);

/// Sends this node's events.
pub struct Announcer {
    hub: Arc<dyn Hub>,
    me: Node,
    info: Option<NodeInfo>,
}

impl Announcer {
    /// For this node; says nothing of its set-up where its owner does not share it.
    pub fn new(hub: Arc<dyn Hub>, me: Node, config: &Config) -> Self {
        Self { hub, me, info: config.share_config.then(|| info(config)) }
    }

    /// A run has another status.
    pub async fn status(&self, run: &Run, status: &RunStatus) {
        self.send(Outgoing::AlgorithmStatusChange(StatusChange {
            status: status.clone(),
            run_id: run.id,
            task_id: Some(run.task.id),
            job_id: None,
            collaboration_id: Some(self.me.collaboration),
            node_id: Some(self.me.id),
            organization_id: Some(self.me.organization),
            parent_id: run.task.parent,
        }))
        .await;
    }

    /// How this node is set up.
    pub async fn set_up(&self) {
        if let Some(info) = &self.info {
            self.send(Outgoing::NodeInfoUpdate(info.clone())).await;
        }
    }

    /// This node is online, whatever the server took it for.
    pub async fn online_after_all(&self) {
        // What the server forgets of a node that goes offline, it forgets a moment after saying so.
        sleep(MOMENT).await;
        self.send(Outgoing::Ping).await;
        self.set_up().await;
    }

    async fn send(&self, event: Outgoing) {
        if let Err(error) = self.hub.send_event(&event).await {
            tracing::debug!("an event was not sent: {error}");
        }
    }
}

fn info(config: &Config) -> NodeInfo {
    let Policies { allowed_algorithms, allowed_users, allowed_organizations, .. } = &config.policies;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    NodeInfo {
        encryption: Some(config.encryption.enabled),
        allowed_algorithms: some(allowed_algorithms.iter().map(|entry| entry.as_str().to_owned()).collect()),
        allowed_users: some(allowed_users.iter().map(ToString::to_string).collect()),
        allowed_organizations: some(allowed_organizations.clone()),
        databases: config
            .databases
            .iter()
            .map(|database| DatabaseInfo {
                label: database.label.clone(),
                kind: database.kind.as_str().to_owned(),
                columns: columns_of(database, config),
            })
            .collect(),
    }
}

/// A database that comes from a volume of the cluster is not the file that its path names on this machine.
fn columns_of(database: &Database, config: &Config) -> Option<Vec<String>> {
    let place = config.kubernetes().and_then(|settings| settings.databases.get(&database.label));
    let elsewhere = place.is_some_and(|place| place.volume.is_some());
    if elsewhere { None } else { columns::of(database) }
}
