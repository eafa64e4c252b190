//! How an algorithm gets a database on Kubernetes: as a read-only volume at the path of a regular node, or as an address.

use k8s_openapi::api::core::v1::{HostAlias, HostPathVolumeSource, Volume, VolumeMount};
use sextant_config::{Database, DatabaseType, Egress, KubernetesConfig};
use sextant_core::environment::VisibleDatabase;

use super::labels;

/// The folder of runs, and of databases that a regular node copies, in the algorithm's container.
pub const FOLDER: &str = "/mnt/data";

/// A database, and what a pod needs to access it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mounted {
    /// The algorithm's variables.
    pub visible: VisibleDatabase,
    /// The volume and its mounts; `None` for databases that are addresses.
    pub volume: Option<(Volume, Vec<VolumeMount>)>,
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
        Some(_) => database.path_in_container(file),
        None => database.uri.clone(),
    };
    Mounted {
        volume: source.map(|(volume, sub_path)| {
            let mount = |path: String| VolumeMount {
                name: name.clone(),
                mount_path: path,
                sub_path: sub_path.clone(),
                read_only: Some(true),
                // Otherwise, mounts below a folder of the machine would be writable.
                recursive_read_only: Some("IfPossible".to_owned()),
                ..VolumeMount::default()
            };
            // Sextant 0.1.0 mounted folders here.
            let former = (database.kind == DatabaseType::Folder).then(|| format!("{FOLDER}/{}", database.label));
            (volume, [uri.clone()].into_iter().chain(former).map(mount).collect())
        }),
        egress: place.map_or_else(Vec::new, |place| place.egress.clone()),
        visible: VisibleDatabase {
            label: database.label.clone(),
            is_file: database.is_single_file(configured.is_some()),
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
        assert_eq!(mount.len(), 1);
        assert_eq!(mount[0].mount_path, "/mnt/data/default.csv");
        assert_eq!(mount[0].read_only, Some(true));
        assert_eq!(all[0].visible.uri, "/mnt/data/default.csv");
    }

    #[test]
    fn every_volume_is_read_only_with_all_that_is_mounted_below_it() {
        let all = all("databases: [{label: a, uri: /data/a, type: folder}, {label: b, type: csv}]\n\
             kubernetes: {databases: {b: {persistentVolumeClaim: {claimName: registry}, path: b.csv}}}");
        for database in all {
            for mount in database.volume.unwrap().1 {
                assert_eq!((mount.read_only, mount.recursive_read_only.as_deref()), (Some(true), Some("IfPossible")));
                // Kubernetes rejects the combination.
                assert_eq!(mount.mount_propagation, None);
            }
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
        assert_eq!(mount[0].sub_path.as_deref(), Some("exports/new.parquet"));
        assert_eq!(mount[0].mount_path, "/mnt/data/my_data.parquet");
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
    fn databases_are_where_a_regular_node_has_them() {
        let all = all("databases:\n\
             - {label: images, uri: /data/scans.v2, type: folder}\n\
             - {label: scans, uri: /data/scans, type: folder, mount_mode: ro}\n\
             - {label: people, uri: /data/people.csv, type: csv, mount_mode: ro}\n\
             - {label: copied, uri: /data/people.csv, type: csv, mount_mode: copy}\n\
             - {label: volume, type: csv, mount_mode: ro}\n\
             kubernetes: {databases: {volume: {persistentVolumeClaim: {claimName: registry}, path: a/b.tsv}}}");
        let paths = |database: &Mounted| -> Vec<String> {
            database.volume.iter().flat_map(|(_, mounts)| mounts).map(|mount| mount.mount_path.clone()).collect()
        };
        let expected: [(&str, &[&str]); 5] = [
            ("/mnt/images", &["/mnt/images", "/mnt/data/images"]),
            ("/mnt/scans", &["/mnt/scans", "/mnt/data/scans"]),
            ("/mnt/people.csv", &["/mnt/people.csv"]),
            ("/mnt/data/copied.csv", &["/mnt/data/copied.csv"]),
            ("/mnt/volume.tsv", &["/mnt/volume.tsv"]),
        ];
        let found: Vec<_> = all.iter().map(|database| (database.visible.uri.as_str(), paths(database))).collect();
        assert_eq!(found, expected.map(|(uri, paths)| (uri, paths.iter().map(|path| (*path).to_owned()).collect())));
    }
}
