//! `sextant runs`: what is under way and what waits, and why; from the cluster, with the server's view beside it when the
//! server can be reached. It changes nothing.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use tokio::time::timeout;
use vantage6::{Error, NodeId, OpenRuns};

use crate::config::{Config, RuntimeConfig};
use crate::core::names::Identity;
use crate::core::overview::{Server, lines, table};
use crate::node::{self, NodeError};
use crate::runtime::{kubernetes, local};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The table, with a line above it that says who is at work.
///
/// # Errors
/// If the cluster can't be used.
pub async fn table_of(config: &Config) -> Result<String, NodeError> {
    // The node's number is for people, and not told here.
    let identity = Identity::new(config.api_url(), NodeId(0), &config.api_key);
    let here = async {
        match &config.runtime {
            RuntimeConfig::Kubernetes(settings) => Ok(kubernetes::overview::look(settings, &identity).await?),
            RuntimeConfig::Local(_) => Ok::<_, NodeError>((local::look(config, &identity), String::new())),
        }
    };
    let (here, server) = tokio::join!(here, ask(config));
    let (here, mut text) = here?;
    if !text.is_empty() {
        text.push('\n');
    }
    match &server {
        Server::Silent(why) => text.push_str(&format!("The server is not heard: {why}\n")),
        Server::Partly(_, why) => text.push_str(&format!("Of the server's runs only a part was read: {why}\n")),
        Server::Open(_) => {}
    }
    let lines = lines(here, &server);
    text.push_str(&if lines.is_empty() { "No run is under way.\n".into() } else { table(&lines, Timestamp::now()) });
    Ok(text)
}

/// The runs that the server has as open.
async fn ask(config: &Config) -> Server {
    let client = match node::client(config) {
        Ok(client) => client,
        Err(error) => return Server::Silent(error.to_string()),
    };
    let mut runs = pin!(client.open_runs(OpenRuns { task: None, inputs_up_to: 0 }));
    let mut all = Vec::new();
    let read = async {
        while let Some(run) = runs.next().await {
            match run {
                Ok(run) => all.push(run),
                // What can't be understood, the node leaves alone, and so does this.
                Err(Error::BrokenRun { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    };
    let late = || Err(format!("it does not answer within {} s", PATIENCE.as_secs()));
    match timeout(PATIENCE, read).await.unwrap_or_else(|_| late()) {
        Ok(()) => Server::Open(all),
        Err(why) if all.is_empty() => Server::Silent(why),
        Err(why) => Server::Partly(all, why),
    }
}
