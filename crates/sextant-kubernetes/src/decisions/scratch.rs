//! A run's own volume, if `kubernetes.scratch` is set. It contains all that the algorithm can write, and is deleted with the run's pod.
//!
//! The kubelet measures folders on the machine's disk by walking them periodically. It does not count what it can't walk (a long path), a
//! file without a name, what is elsewhere (an image's `VOLUME`, the termination message), or inodes. A file system of its own has a limit
//! in any case. So the root file system of the algorithm's container is read-only, and the files that the kubelet adds are out of the
//! algorithm's reach: the hosts file is a copy in the volume, and the termination message is in a folder that it can't enter.
//!
//! A Job can't prevent writes to a `VOLUME` of the image, if the container runtime supports those.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EphemeralVolumeSource, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, PodSecurityContext,
    Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sextant_config::{PodSecurity, Scratch};

use super::databases;

/// The volume's name in the pod. The name of its claim is the pod's name, a hyphen and this.
pub const VOLUME: &str = "scratch";
/// The mount path of the whole volume in `receive`.
pub const PLACE: &str = "/run/sextant/scratch";
/// The folder with the run's input and output.
pub const DATA: &str = "data";
/// The run's own `/mnt/tmp`, if it shares none.
pub const OWN_TMP: &str = "mnt-tmp";
/// Folders that programs expect to be writable: the folder in the volume, and its mount path.
pub const TEMPORARY: [(&str, &str); 2] = [("tmp", "/tmp"), ("var-tmp", "/var/tmp")];
/// A copy of the pod's hosts file.
pub const HOSTS: &str = "hosts";
/// The path of a container's hosts file, which the kubelet creates if nothing is mounted there.
pub const HOSTS_FILE: &str = "/etc/hosts";
/// A folder that the algorithm can't enter, with the file from which the kubelet reads a termination message.
pub const CLOSED: &str = "closed";
/// The termination message's file in the closed folder.
pub const MESSAGE: &str = "message";
/// The mount path of the closed folder in the algorithm's container.
const CLOSED_PLACE: &str = "/run/sextant/closed";

/// The volume claim that the cluster creates and deletes with the pod.
pub fn volume(scratch: &Scratch, labels: BTreeMap<String, String>) -> Volume {
    let size = BTreeMap::from([("storage".to_owned(), scratch.size.clone())]);
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".into()]),
        storage_class_name: scratch.storage_class.clone(),
        resources: Some(VolumeResourceRequirements { requests: Some(size), limits: None }),
        ..PersistentVolumeClaimSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
    let template = PersistentVolumeClaimTemplate { metadata: Some(metadata), spec };
    Volume {
        name: VOLUME.into(),
        ephemeral: Some(EphemeralVolumeSource { volume_claim_template: Some(template) }),
        ..Volume::default()
    }
}

/// Mounts a folder or file of the volume at a path.
pub fn mount(sub_path: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: VOLUME.into(),
        mount_path: path.into(),
        sub_path: Some(sub_path.into()),
        ..VolumeMount::default()
    }
}

/// Leaves an algorithm's container nothing writable but the volume and memory. Its other mounts must have been added before.
pub fn confine(container: &mut Container) {
    let read_only = |mount: VolumeMount| VolumeMount { read_only: Some(true), ..mount };
    container.security_context.get_or_insert_default().read_only_root_filesystem = Some(true);
    container.termination_message_path = Some(format!("{CLOSED_PLACE}/{MESSAGE}"));
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.extend(TEMPORARY.map(|(folder, path)| mount(folder, path)));
    mounts.extend([read_only(mount(HOSTS, HOSTS_FILE)), read_only(mount(CLOSED, CLOSED_PLACE))]);
}

/// Makes a new volume, which belongs to root, writable for the single user of a restricted pod. In other pods `receive` is root.
pub fn give_to_group(pod: &mut PodSecurityContext, volumes: &mut [Volume], level: PodSecurity) {
    let PodSecurity::Restricted { user } = level else { return };
    pod.fs_group = Some(user.into());
    pod.fs_group_change_policy = Some("OnRootMismatch".into());
    // The kubelet changes the group of all writable volumes. It must not change the group of databases.
    for volume in volumes.iter_mut().filter(|volume| databases::is_database(volume)) {
        if let Some(claim) = &mut volume.persistent_volume_claim {
            claim.read_only = Some(true);
        }
        if let Some(csi) = &mut volume.csi {
            csi.read_only = Some(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1::PodSpec;
    use vantage6_types::NodeId;

    use super::*;
    use crate::decisions::databases::mounted;
    use crate::decisions::job::{self, DataPortForPods, Plan};
    use sextant_config::Config;
    use sextant_core::assignment::sample::assignment;
    use sextant_core::names::Identity;
    use sextant_core::run_state::Disruption;

    fn pod(kubernetes: &str) -> PodSpec {
        let text =
            format!("server_url: http://s\napi_key: k\ndatabases: [{{label: a, type: csv}}]\nkubernetes: {kubernetes}");
        let config = Config::parse(&text, std::path::Path::new("node.yaml"), &|_| None).unwrap();
        let settings = config.kubernetes().unwrap();
        let plan = Plan {
            identity: &Identity::new("http://s".into(), NodeId(3), &"k".into()),
            assignment: &assignment(1, 2, "today"),
            before: Disruption::default(),
            config: settings,
            tmp: config.tmp(),
            databases: &mounted(&config.databases, settings),
            variables: &[],
            data_port: &DataPortForPods { address: "10.0.0.1:7654".into(), pin: String::new() },
            services: &[],
            proxy: "10.0.0.2:8080".parse().unwrap(),
            pull_secrets: &[],
        };
        job::job(&plan).spec.unwrap().template.spec.unwrap()
    }

    /// Each mount of a container: path, volume, folder in it, and whether it is writable.
    fn mounts(container: &Container) -> BTreeSet<(String, String, String, bool)> {
        let mounts = container.volume_mounts.iter().flatten().cloned();
        mounts.map(|m| (m.mount_path, m.name, m.sub_path.unwrap_or_default(), m.read_only != Some(true))).collect()
    }

    fn set(expected: &[(&str, &str, &str, bool)]) -> BTreeSet<(String, String, String, bool)> {
        expected.iter().map(|(at, of, part, w)| (at.to_string(), of.to_string(), part.to_string(), *w)).collect()
    }

    const CLAIM: &str = "databases: {a: {persistentVolumeClaim: {claimName: c}, path: x.csv}}";

    #[test]
    fn an_algorithm_writes_to_the_volume_and_nowhere_else() {
        let pod = pod(&format!("{{scratch: {{size: 5Gi, storage_class: fast}}, {CLAIM}}}"));
        let algorithm = &pod.containers[0];
        assert_eq!(
            mounts(algorithm),
            set(&[
                ("/etc/hosts", "scratch", "hosts", false),
                ("/mnt/data", "scratch", "data", true),
                ("/mnt/data/a.csv", "database-0", "x.csv", false),
                ("/mnt/data/task-000000002/token", "token", "token", false),
                ("/mnt/tmp", "scratch", "mnt-tmp", true),
                ("/run/sextant/closed", "scratch", "closed", false),
                ("/tmp", "scratch", "tmp", true),
                ("/var/tmp", "scratch", "var-tmp", true),
            ])
        );
        assert_eq!(algorithm.security_context.as_ref().unwrap().read_only_root_filesystem, Some(true));
        // The file for the termination message, which has no size limit, is in a folder that the algorithm can't enter.
        assert_eq!(algorithm.termination_message_path.as_deref(), Some("/run/sextant/closed/message"));
        let volumes = pod.volumes.as_ref().unwrap();
        let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["scratch", "token", "database-0"]);
        let claim = volumes[0].ephemeral.clone().unwrap().volume_claim_template.unwrap();
        assert_eq!(claim.spec.storage_class_name.as_deref(), Some("fast"));
        assert_eq!(claim.spec.resources.unwrap().requests.unwrap()["storage"].0, "5Gi");
        assert_eq!(claim.metadata.unwrap().labels.unwrap()["vantage6.ai/run"], "2");
        // Both of Sextant's containers see the run's folder at the paths in their settings.
        let ours = [&pod.init_containers.as_ref().unwrap()[0], &pod.containers[1]];
        let told = ours.map(|container| {
            let variables = container.env.as_ref().unwrap();
            variables.iter().find(|each| each.name == job::env::TASK_DIR).unwrap().value.clone().unwrap()
        });
        assert_eq!(told, ["/run/sextant/scratch/data/task-000000002", "/mnt/data/task-000000002"]);
        assert!(mounts(ours[0]).contains(&("/run/sextant/scratch".into(), "scratch".into(), String::new(), true)));
        assert_eq!(mounts(ours[1]), set(&[("/mnt/data", "scratch", "data", false)]));
        // The kubelet changes no file's group if `receive` is root.
        assert_eq!(pod.security_context.unwrap().fs_group, None);
    }

    #[test]
    fn what_is_shared_stays_shared_and_data_of_others_theirs() {
        let more = "tmp: {nfs: {server: s, path: /}}, pod_security: restricted, run_as_user: 1000";
        let pod = pod(&format!("{{scratch: {{size: 5Gi}}, {CLAIM}, {more}}}"));
        let shared = mounts(&pod.containers[0]).into_iter().find(|mount| mount.0 == "/mnt/tmp").unwrap();
        assert_eq!((shared.1.as_str(), shared.3), ("tmp", true));
        assert_eq!(pod.security_context.unwrap().fs_group, Some(1000));
        let volumes = pod.volumes.unwrap();
        assert!(volumes[0].ephemeral.is_some());
        let database = volumes.iter().find(|volume| volume.name == "database-0").unwrap();
        assert_eq!(database.persistent_volume_claim.as_ref().unwrap().read_only, Some(true));
    }

    #[test]
    fn without_it_all_is_as_ever() {
        let pod = pod(&format!("{{{CLAIM}}}"));
        let algorithm = &pod.containers[0];
        assert_eq!(
            mounts(algorithm),
            set(&[
                ("/mnt/data", "data", "", true),
                ("/mnt/data/a.csv", "database-0", "x.csv", false),
                ("/mnt/data/task-000000002/token", "token", "token", false),
                ("/mnt/tmp", "tmp", "", true),
            ])
        );
        assert_eq!(algorithm.security_context.as_ref().unwrap().read_only_root_filesystem, None);
        assert_eq!(algorithm.termination_message_path, None);
        let names: Vec<String> = pod.volumes.unwrap().into_iter().map(|volume| volume.name).collect();
        assert_eq!(names, ["data", "token", "tmp", "database-0"]);
    }
}
