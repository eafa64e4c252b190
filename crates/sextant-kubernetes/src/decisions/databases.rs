//! How an algorithm gets a database on Kubernetes: as a read-only volume under `/mnt/data`, or as an address.

use k8s_openapi::api::core::v1::{HostAlias, HostPathVolumeSource, Volume, VolumeMount};
use sextant_config::{Database, DatabaseType, Egress, KubernetesConfig};
use sextant_core::environment::VisibleDatabase;

use super::labels;

/// The folder of file databases in the algorithm's container.
pub const FOLDER: &str = "/mnt/data";

/// A database, and what a pod needs to access it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mounted {
    /// The algorithm's variables.
    pub visible: VisibleDatabase,
    /// The volume and its mount; `None` for databases that are addresses.
    pub volume: Option<(Volume, VolumeMount)>,
    /// The network connections that it needs.
    pub egress: Vec<Egress>,
}

/// The prefix of the names of databases' volumes.
const VOLUME: &str = "database-";

/// Whether a pod's volume is a database.
pub fn is_database(volume: &Volume) -> bool {
    volume.name.starts_with(VOLUME)
}

/// All databases of the node as an algorithm sees them.
pub fn mounted(databases: &[Database], kubernetes: &KubernetesConfig) -> Vec<Mounted> {
    databases.iter().enumerate().map(|(index, database)| mount(index, database, kubernetes)).collect()
}

fn mount(index: usize, database: &Database, kubernetes: &KubernetesConfig) -> Mounted {
    // The label is no valid volume name: that may have neither underscores nor more than 63 characters.
    let name = format!("{VOLUME}{index}");
    let place = kubernetes.databases.get(&database.label);
    let configured = place.and_then(|place| place.volume.as_ref());
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
                // Otherwise, mounts below a folder of the machine would be writable.
                recursive_read_only: Some("IfPossible".to_owned()),
                ..VolumeMount::default()
            };
            (volume, mount)
        }),
        egress: place.map_or_else(Vec::new, |place| place.egress.clone()),
        visible: VisibleDatabase {
            label: database.label.clone(),
            uri,
            kind: database.kind.as_str(),
            env: database.env.clone(),
        },
    }
}

/// The labels of a run's pod by which a NetworkPolicy allows connections to its databases, and to no others.
pub fn labels(databases: &[Mounted]) -> impl Iterator<Item = (String, String)> {
    let on_network = databases.iter().filter(|database| !database.egress.is_empty());
    on_network.map(|database| (labels::database(&database.visible.label), "true".to_owned()))
}

/// The names of the databases' hosts, since pods can't resolve names.
pub fn host_aliases(databases: &[Mounted]) -> Vec<HostAlias> {
    let endpoints = databases.iter().flat_map(|database| &database.egress);
    let alias =
        |way: &Egress| Some(HostAlias { ip: way.cidr.single()?.to_string(), hostnames: Some(vec![way.host.clone()?]) });
    endpoints.filter_map(alias).collect()
}

/// A file or folder of the machine on which the pod runs.
fn host_path(database: &Database, name: &str) -> Volume {
    let kind = match database.kind {
        DatabaseType::Folder => Some("Directory".to_owned()),
        DatabaseType::Csv | DatabaseType::Excel => Some("File".to_owned()),
        // These may be either (partitioned Parquet is a folder), so the kubelet accepts both.
        DatabaseType::Parquet | DatabaseType::Sql | DatabaseType::Sparql | DatabaseType::Omop | DatabaseType::Other => {
            None
        }
    };
    Volume {
        name: name.to_owned(),
        host_path: Some(HostPathVolumeSource { path: database.uri.clone(), type_: kind }),
        ..Volume::default()
    }
}

/// The file's extension with its dot, by which some libraries recognize a format; a folder has none. vantage6's own node also names a
/// file database by its label and extension (`vantage6/cli/node/start.py`).
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
    use sextant_config::{Config, RuntimeConfig};

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
    fn every_volume_is_read_only_with_all_that_is_mounted_below_it() {
        let all = all("databases: [{label: a, uri: /data/a, type: folder}, {label: b, type: csv}]\n\
             kubernetes: {databases: {b: {persistentVolumeClaim: {claimName: registry}, path: b.csv}}}");
        for database in all {
            let (_, mount) = database.volume.unwrap();
            assert_eq!((mount.read_only, mount.recursive_read_only.as_deref()), (Some(true), Some("IfPossible")));
            // Kubernetes rejects the combination.
            assert_eq!(mount.mount_propagation, None);
        }
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
    fn a_database_on_the_network_opens_a_way_for_its_runs_alone() {
        let all = all("databases:\n\
             - {label: warehouse, uri: 'postgresql://u:p@db.example.org:5432/x', type: sql}\n\
             - {label: other, uri: 'postgresql://u:p@10.0.0.9:5432/x', type: sql}\n\
             kubernetes: {databases: {warehouse: {egress: [{cidr: 10.0.0.7, port: 5432, host: db.example.org}]}}}");
        let of = |mounted: &[Mounted]| labels(mounted).collect::<Vec<_>>();
        assert_eq!(of(&all), [("database.vantage6.ai/warehouse".to_owned(), "true".to_owned())]);
        assert_eq!(of(&all[1..]), []);
        let aliases = host_aliases(&all);
        assert_eq!(aliases.len(), 1);
        assert_eq!(aliases[0].ip, "10.0.0.7");
        assert_eq!(aliases[0].hostnames.as_deref(), Some(&["db.example.org".to_owned()][..]));
        assert_eq!(all[0].visible.uri, "postgresql://u:p@db.example.org:5432/x");
    }

    #[test]
    fn a_folder_keeps_no_ending() {
        let all = all("databases: [{label: images, uri: /data/scans.v2, type: folder}]");
        assert_eq!(all[0].visible.uri, "/mnt/data/images");
    }
}
