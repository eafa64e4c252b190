//! The part of the configuration that a node shares with the server.

use sextant_config::{Config, Database};
use sextant_core::hub::{DatabaseInfo, NodeInfo};
use sextant_core::policies::Policies;

use crate::columns;

/// The most bytes of column names of all databases: servers close a connection that sends a message of 1 MB. Databases
/// whose names don't fit are announced without them.
const COLUMNS: usize = 512 * 1024;
/// The bytes of a name besides its characters and their escapes: quotation marks and a comma.
const NAME: usize = 8;

/// Collects the shared part of the configuration.
pub fn of(config: &Config) -> NodeInfo {
    let Policies { allowed_algorithms, allowed_users, allowed_organizations, .. } = &config.policies;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let mut room = COLUMNS;
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
                columns: columns_of(database, config).filter(|columns| fits(columns, &mut room)),
            })
            .collect(),
    }
}

/// Takes room for these names, if there is enough. Returns whether there was.
fn fits(columns: &[String], room: &mut usize) -> bool {
    let needed = columns.iter().map(|name| name.escape_default().count() + NAME).sum();
    match room.checked_sub(needed) {
        Some(left) => {
            *room = left;
            true
        }
        None => {
            tracing::warn!("Not sharing the names of {} columns: they are too long for one message", columns.len());
            false
        }
    }
}

/// Reads a database's column names. If the database is on a volume of the cluster, its path does not name a file on this machine.
fn columns_of(database: &Database, config: &Config) -> Option<Vec<String>> {
    let place = config.kubernetes().and_then(|settings| settings.databases.get(&database.label));
    let elsewhere = place.is_some_and(|place| place.volume.is_some());
    if elsewhere { None } else { columns::of(database) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_no_more_than_a_message_holds() {
        let mut room = COLUMNS;
        let columns = |count: usize| (0..count).map(|number| format!("gene_{number:05}")).collect::<Vec<_>>();
        assert!(fits(&columns(20_000), &mut room));
        assert!(!fits(&columns(20_000), &mut room));
        assert!(fits(&columns(5_000), &mut room));
    }
}
