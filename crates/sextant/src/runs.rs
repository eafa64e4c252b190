//! `sextant runs`: lists the runs in progress and the waiting ones with the reason, from the cluster and, if the server answers,
//! from the server. It changes nothing.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use sextant_config::{Config, RuntimeConfig};
use sextant_core::hub::{Hub as _, HubErrorKind, OpenRuns};
use sextant_core::node_error::NodeError;
use sextant_core::overview::{Server, lines, table};
use sextant_hub::Connection;
use tokio::time::timeout;
use vantage6_types::NodeId;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most characters of a sentence above the table.
const SENTENCE: usize = 600;

/// Returns the table, with a line about the leader above it.
///
/// # Errors
/// The cluster can't be used.
pub async fn table_of(config: &Config) -> Result<String, NodeError> {
    // The node's id is only shown to people, and not needed here.
    let identity = config.identity(NodeId(0));
    let here = async {
        match &config.runtime {
            RuntimeConfig::Kubernetes(settings) => Ok(sextant_kubernetes::overview::look(settings, &identity).await?),
            RuntimeConfig::Local(_) => {
                let here = sextant_local::look(config, &identity).map_err(NodeError::Configuration)?;
                Ok::<_, NodeError>((here, String::new()))
            }
        }
    };
    let (here, server) = tokio::join!(here, ask(config));
    let (here, at_work) = here?;
    let mut text = String::new();
    if !at_work.is_empty() {
        text.push_str(&format!("{}\n", printable::excerpt_of(&at_work, SENTENCE)));
    }
    match &server {
        Server::Silent(why) => {
            text.push_str(&format!("The server does not answer: {}\n", printable::excerpt_of(why, SENTENCE)));
        }
        Server::Partly(_, why) => text.push_str(&format!(
            "Only a part of the server's runs was read: {}\n",
            printable::excerpt_of(why, SENTENCE)
        )),
        Server::Open(_) => {}
    }
    let lines = lines(here, &server);
    text.push_str(&if lines.is_empty() { "No run is under way.\n".into() } else { table(&lines, Timestamp::now()) });
    Ok(text)
}

/// Reads the open runs from the server.
async fn ask(config: &Config) -> Server {
    let server = match Connection::new(config) {
        Ok(connection) => connection.without_events(),
        Err(error) => return Server::Silent(error.to_string()),
    };
    let mut runs = pin!(server.open_runs(OpenRuns { task: None, inputs_up_to: 0 }));
    let mut all = Vec::new();
    let read = async {
        while let Some(run) = runs.next().await {
            match run {
                Ok(run) => all.push(run),
                // The node skips runs that it can't parse, and so does this command.
                Err(error) if matches!(error.kind, HubErrorKind::BrokenRun(_) | HubErrorKind::OversizedRun(..)) => {}
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
