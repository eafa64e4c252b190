//! Reads volumes: any kind that Kubernetes has, written as in a pod.

use k8s_openapi::api::core::v1::Volume;

use super::super::names;
use super::super::reader::Field;
use super::super::system;
use super::super::yaml::{Node, Value};
use super::value;
use super::{DatabaseVolume, VolumeSource};

const VOLUME: &str = "one volume of Kubernetes, like `persistentVolumeClaim: {claimName: data}`";

/// Reads a database's volume: the volume source, and its `path`.
pub(super) fn database(field: &Field<'_>) -> Option<DatabaseVolume> {
    let section = field.section(VOLUME)?;
    let path = section.get("path").map(|field| path(&field));
    section.refuse_empty();
    let source = source(field, &["path", "egress"]);
    if let Some(source) = &source
        && has_secret(&source.0)
    {
        field.warn(
            "is a Secret: every algorithm that asks for this database may read it, and send what it says to the server. Put data into a \
             volume of its own.",
        );
    }
    // The algorithm sees only this part of the hostPath folder.
    if let (Some(Some(path)), Some(folder)) = (&path, source.as_ref().and_then(VolumeSource::host_path)) {
        system::judge(field, &format!("{folder}/{path}"))?;
    }
    Some(DatabaseVolume { source: source?, path: path.map_or(Some(None), |path| path.map(Some))? })
}

/// Reads the volume for `/mnt/tmp`, which algorithms write to.
pub(super) fn tmp(field: &Field<'_>) -> Option<VolumeSource> {
    const UNWRITABLE: [&str; 6] = ["secret", "configMap", "projected", "downwardAPI", "image", "gitRepo"];
    let source = source(field, &[])?;
    let kind = source.kind();
    if UNWRITABLE.contains(&kind.as_str()) {
        let message = format!(
            "`{}`: found {kind}, expected a volume that can be written to. It would show every algorithm what is in it.",
            field.path
        );
        field.findings.error(field.node.at, message);
        return None;
    }
    Some(source)
}

/// Reads a volume. The keys in `others` are in the same mapping but do not belong to the volume.
pub(super) fn source(field: &Field<'_>, others: &[&str]) -> Option<VolumeSource> {
    let Value::Map(entries) = &field.node.value else {
        field.wrong(VOLUME, "");
        return None;
    };
    let own: Vec<_> =
        entries.iter().filter(|entry| !others.contains(&entry.key.as_str()) && !entry.value.is_null()).collect();
    let [only] = own.as_slice() else {
        let keys: Vec<String> = own.iter().map(|entry| names::shown(&entry.key)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = if own.is_empty() { "none".to_owned() } else { names::listed(&keys, "and") };
        field.findings.error(field.node.at, format!("`{}`: found {found}, expected {VOLUME}.", field.path));
        return None;
    };
    if only.key == "name" {
        field.findings.error(
            only.at,
            format!("`{}.name`: found a name, expected {VOLUME}. Sextant names it itself.", field.path),
        );
        return None;
    }
    let node = Node { at: field.node.at, value: Value::Map(vec![(*only).clone()]) };
    let alone = Field { path: field.path.clone(), key_at: field.key_at, node: &node, findings: field.findings };
    let volume: Volume = value::parse(&alone)?;
    complete(&volume, field, &only.key)?;
    refuse_credentials(&volume, field)?;
    let drivers = [
        volume.csi.as_ref().map(|csi| csi.driver.as_str()),
        volume.flex_volume.as_ref().map(|flex| flex.driver.as_str()),
    ];
    if let Some(driver) = drivers.into_iter().flatten().find(|driver| !is_of_storage(driver)) {
        field.warn(format_args!(
            "is a Secret, or may be one: `{}` is not known as a driver of storage, and others show keys and tokens. See that it shows \
             nothing but data, or take another volume.",
            names::shown(driver)
        ));
    }
    let host_type = volume.host_path.as_ref().and_then(|host| host.type_.as_deref());
    if host_type.is_some_and(|kind| matches!(kind, "Socket" | "BlockDevice" | "CharDevice")) {
        field.warn("is a socket or a device of the machine: what is behind it answers algorithms like the machine's own programs. Name a folder.");
    }
    let source = VolumeSource::new(volume);
    if let Some(folder) = source.host_path() {
        system::judge_named(field, &format!("{}.hostPath", field.path), folder)?;
    }
    Some(source)
}

/// Checks fields that Kubernetes requires but its Rust types don't, for the usual kinds of volumes.
fn complete(volume: &Volume, field: &Field<'_>, kind: &str) -> Option<()> {
    let missing = [
        ("claimName", volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str())),
        ("path", volume.host_path.as_ref().map(|host| host.path.as_str())),
        ("server", volume.nfs.as_ref().map(|nfs| nfs.server.as_str())),
        ("path", volume.nfs.as_ref().map(|nfs| nfs.path.as_str())),
        ("driver", volume.csi.as_ref().map(|csi| csi.driver.as_str())),
        ("secretName", volume.secret.as_ref().map(|secret| secret.secret_name.as_deref().unwrap_or_default())),
        ("name", volume.config_map.as_ref().map(|map| map.name.as_str())),
    ];
    let mut fine = Some(());
    for (name, _) in missing.into_iter().filter(|(_, value)| *value == Some("")) {
        let message =
            format!("`{}.{kind}.{name}` is missing, expected what Kubernetes calls by that name.", field.path);
        field.findings.error(field.node.at, message);
        fine = None;
    }
    if volume.host_path.as_ref().is_some_and(|host| !host.path.is_empty() && !host.path.starts_with('/')) {
        let message =
            format!("`{}.{kind}.path`: found a relative path, expected one that begins with `/`.", field.path);
        field.findings.error(field.node.at, message);
        fine = None;
    }
    fine
}

/// Whether a CSI driver's volumes are disks, folders or buckets, as far as its name is known.
fn is_of_storage(driver: &str) -> bool {
    const NAMES: [&str; 12] = [
        "cinder.csi.openstack.org",
        "csi.hetzner.cloud",
        "csi.juicefs.com",
        "csi.trident.netapp.io",
        "csi.vsphere.vmware.com",
        "driver.longhorn.io",
        "hostpath.csi.k8s.io",
        "linstor.csi.linbit.com",
        "nfs.csi.k8s.io",
        "pxd.portworx.com",
        "smb.csi.k8s.io",
        "topolvm.io",
    ];
    const ENDS: [&str; 12] = [
        ".csi.aws.com",
        ".csi.azure.com",
        ".csi.ceph.com",
        ".csi.digitalocean.com",
        ".csi.netapp.com",
        ".csi.openebs.io",
        ".csi.openstack.org",
        ".csi.storage.gke.io",
        ".csi.scaleway.com",
        ".dellemc.com",
        ".s3.csi",
        ".manila.csi.openstack.org",
    ];
    NAMES.contains(&driver) || ENDS.iter().any(|end| driver.ends_with(end))
}

/// The Secrets that a volume shows.
fn secrets(volume: &Volume) -> impl Iterator<Item = &str> {
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let projected = projected.filter_map(|one| Some(one.secret.as_ref()?.name.as_str()));
    volume.secret.iter().map(|secret| secret.secret_name.as_deref().unwrap_or_default()).chain(projected)
}

fn has_secret(volume: &Volume) -> bool {
    secrets(volume).next().is_some()
}

/// Refuses volumes with rights in the cluster, or with the keys that authenticate the node and its pods to each other.
fn refuse_credentials(volume: &Volume, field: &Field<'_>) -> Option<()> {
    const OWN: [&str; 2] = ["sextant-data-port-", "sextant-registries-"];
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let tokens = projected.enumerate().filter(|(_, one)| one.service_account_token.is_some());
    let mut fine = Some(());
    for (index, _) in tokens {
        let message = format!(
            "`{}.projected.sources[{index}].serviceAccountToken`: found a token of a service account, expected none: algorithms would log in to \
             the cluster with it. Take it out.",
            field.path
        );
        field.findings.error(field.node.at, message);
        fine = None;
    }
    for name in secrets(volume).filter(|name| OWN.iter().any(|own| name.starts_with(own))) {
        let message = format!(
            "`{}`: found {}, a Secret of Sextant's own, expected another one: it holds keys of the node, not data.",
            field.path,
            names::shown(name)
        );
        field.findings.error(field.node.at, message);
        fine = None;
    }
    fine
}

/// Reads a path in a volume. Kubernetes accepts none that leads out of the volume.
fn path(field: &Field<'_>) -> Option<String> {
    let expected = "a path in the volume, without `/` at its beginning and without `..`";
    let path = field.word(expected)?.trim_end_matches('/');
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        field.wrong(expected, "");
        return None;
    }
    Some(path.to_owned())
}
