//! How a database reaches an algorithm on Kubernetes: as a read-only volume under `/mnt/data`, or as an address.

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount};

use super::environment::VisibleDatabase;
use crate::config::{Database, DatabaseType, KubernetesConfig};

/// Where file databases appear in the algorithm's container.
pub const FOLDER: &str = "/mnt/data";

/// A database with what a pod needs to see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mounted {
    /// What the algorithm is told.
    pub visible: VisibleDatabase,
    /// The volume and its mount; `None` for databases that are addresses.
    pub volume: Option<(Volume, VolumeMount)>,
}

/// Every database of the node as an algorithm would see it.
pub fn mounted(databases: &[Database], kubernetes: &KubernetesConfig) -> Vec<Mounted> {
    databases.iter().enumerate().map(|(index, database)| mount(index, database, kubernetes)).collect()
}

fn mount(index: usize, database: &Database, kubernetes: &KubernetesConfig) -> Mounted {
    // Not the label: a volume's name may have neither underscores nor more than 63 characters.
    let name = format!("database-{index}");
    let configured = kubernetes.databases.get(&database.label);
    let source = match configured {
        Some(configured) => Some((configured.source.named(&name), configured.path.clone())),
        None if database.is_file() => Some((host_path(database, &name), None)),
        None => None,
    };
    let file = configured.and_then(|c| c.path.as_deref()).unwrap_or(&database.uri);
    let uri = match source {
        Some(_) => format!("{FOLDER}/{}{}", database.label, suffix(database, file)),
        None => database.uri.clone(),
    };
    Mounted {
        volume: source.map(|(volume, sub_path)| {
            let mount = VolumeMount {
                name,
                mount_path: uri.clone(),
                sub_path,
                read_only: Some(true),
                ..VolumeMount::default()
            };
            (volume, mount)
        }),
        visible: VisibleDatabase {
            label: database.label.clone(),
            uri,
            kind: database.kind.as_str(),
            env: database.env.clone(),
        },
    }
}

/// A file or folder of the machine that the pod runs on.
fn host_path(database: &Database, name: &str) -> Volume {
    let kind = match database.kind {
        DatabaseType::Folder => Some("Directory".to_owned()),
        DatabaseType::Csv | DatabaseType::Parquet | DatabaseType::Excel => Some("File".to_owned()),
        // These may be either; the kubelet then takes what is there.
        DatabaseType::Sql | DatabaseType::Sparql | DatabaseType::Omop | DatabaseType::Other => None,
    };
    Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource { path: database.uri.clone(), type_: kind }),
        ..Volume::default()
    }
}

/// The file's ending with its dot, by which some libraries recognise a format; a folder has none. The regular
/// node's name for a file database is label and ending too (`vantage6/cli/node/start.py`).
fn suffix(database: &Database, file: &str) -> String {
    if database.kind == DatabaseType::Folder {
        return String::new();
    }
    std::path::Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str())
        .map(|extension| format!(".{extension}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RuntimeConfig};

    fn all(yaml: &str) -> Vec<Mounted> {
        let text = format!("server_url: http://localhost\nport: 5000\napi_path: /api\napi_key: k\n{yaml}");
        let config = Config::parse(&text, std::path::Path::new("/etc/node.yaml"), &|_| None).unwrap();
        let RuntimeConfig::Kubernetes(kubernetes) = &config.runtime else { panic!() };
        mounted(&config.databases, kubernetes)
    }

    #[test]
    fn a_path_is_a_read_only_file_of_the_machine() {
        let all = all("databases: [{label: default, uri: /data/employees.csv, type: csv}]");
        let (volume, mount) = all[0].volume.clone().unwrap();
        assert_eq!(volume.host_path.unwrap().path, "/data/employees.csv");
        assert_eq!(mount.mount_path, "/mnt/data/default.csv");
        assert_eq!(mount.read_only, Some(true));
        assert_eq!(all[0].visible.uri, "/mnt/data/default.csv");
    }

    #[test]
    fn an_address_is_passed_on_and_nothing_is_mounted() {
        let all = all("databases: [{label: warehouse, uri: 'postgresql://u:p@db:5432/x', type: sql}]");
        assert_eq!(all[0].volume, None);
        assert_eq!(all[0].visible.uri, "postgresql://u:p@db:5432/x");
    }

    #[test]
    fn a_volume_of_the_cluster_takes_the_place_of_a_path() {
        let all = all("databases: [{label: my_data, uri: /data/old.csv, type: csv}]\n\
             kubernetes: {databases: {my_data: {persistentVolumeClaim: {claimName: registry}, path: exports/new.parquet}}}");
        let (volume, mount) = all[0].volume.clone().unwrap();
        assert_eq!(volume.name, "database-0");
        assert_eq!(volume.persistent_volume_claim.unwrap().claim_name, "registry");
        assert_eq!(mount.sub_path.as_deref(), Some("exports/new.parquet"));
        assert_eq!(mount.mount_path, "/mnt/data/my_data.parquet");
    }

    #[test]
    fn a_folder_keeps_no_ending() {
        let all = all("databases: [{label: images, uri: /data/scans.v2, type: folder}]");
        assert_eq!(all[0].visible.uri, "/mnt/data/images");
    }
}
