//! What a node tells the server of how it is set up.

use sextant_config::{Config, Database};
use sextant_core::hub::{DatabaseInfo, NodeInfo};
use sextant_core::policies::Policies;

use crate::columns;

/// All of it, as the configuration has it.
pub fn of(config: &Config) -> NodeInfo {
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
