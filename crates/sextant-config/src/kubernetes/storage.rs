//! Identifies the storage and folder that a volume shows, regardless of mount rights, secrets and options, to tell whether two volumes
//! show the same data.

#![expect(clippy::disallowed_types, reason = "of the owner's own configuration")]

use k8s_openapi::api::core::v1::Volume;
use serde_json::Value;

use super::MACHINE;

/// Fields that say how a volume is mounted, not what it shows.
const HOW: [&str; 21] = [
    "readOnly",
    "secretRef",
    "nodePublishSecretRef",
    "secretFile",
    "fsType",
    "mountOptions",
    "mountoptions",
    "mountPermissions",
    "onDelete",
    "user",
    "keyring",
    "chapAuthDiscovery",
    "chapAuthSession",
    "iscsiInterface",
    "initiatorName",
    "portals",
    "cachingMode",
    "secretName",
    "secretnamespace",
    "storagePolicyID",
    "ephemeral",
];
/// Fields that name a folder of the storage.
const FOLDERS: [&str; 13] = [
    "share",
    "sharename",
    "shareName",
    "path",
    "rootPath",
    "rootDir",
    "directory",
    "dir",
    "subDir",
    "subdir",
    "subPath",
    "subpath",
    "folder",
];

/// The storage's name and the folder. Volumes that each pod has for itself never share a name.
pub(super) fn of(volume: &Volume) -> (String, String) {
    if let Some(host) = &volume.host_path {
        return (MACHINE.to_owned(), host.path.clone());
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return (format!("the claim {}", claim.claim_name), String::new());
    }
    if let Some(nfs) = &volume.nfs {
        return (server(&nfs.server), nfs.path.clone());
    }
    if volume.empty_dir.is_some() || volume.ephemeral.is_some() {
        return (format!("{volume:p}"), String::new());
    }
    if let Some(known) =
        volume.csi.as_ref().and_then(|csi| of_known_driver(&csi.driver, csi.volume_attributes.as_ref()?))
    {
        return known;
    }
    let mut rest = serde_json::to_value(volume).unwrap_or_default();
    let mut folders = Vec::new();
    // The Secret alone tells whose share an in-tree Azure volume shows.
    let account = volume.azure_file.as_ref().map(|file| file.secret_name.clone()).unwrap_or_default();
    strip(&mut rest, &mut folders);
    folders.sort_by_key(|(at, _)| *at);
    let folder: Vec<&str> = folders.iter().map(|(_, folder)| folder.trim_matches('/')).collect();
    (format!("{account} {rest}").to_lowercase(), folder.join("/"))
}

/// CSI drivers of servers that other volumes can name too.
fn of_known_driver(driver: &str, attributes: &std::collections::BTreeMap<String, String>) -> Option<(String, String)> {
    let get = |names: &[&str]| {
        attributes
            .iter()
            .find(|(name, _)| names.iter().any(|one| name.eq_ignore_ascii_case(one)))
            .map(|(_, value)| value.as_str())
    };
    let below = get(&["subdir"]).unwrap_or_default().trim_matches('/');
    match driver {
        "nfs.csi.k8s.io" => Some((server(get(&["server"])?), format!("{}/{below}", get(&["share"])?))),
        "smb.csi.k8s.io" => {
            let source = get(&["source"])?.replace('\\', "/").to_lowercase();
            let (host, share) = source.trim_start_matches('/').split_once('/')?;
            Some((format!("smb {}", server(host)), format!("{share}/{below}")))
        }
        _ => None,
    }
}

fn server(name: &str) -> String {
    format!("the server {}", name.trim_end_matches('.').to_lowercase())
}

/// Removes mount-only fields and folders. Collects the folders, each with its rank in [`FOLDERS`], which lists outer folders first.
fn strip(value: &mut Value, folders: &mut Vec<(usize, String)>) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let folder = FOLDERS.iter().position(|name| name == key);
                if let (Some(at), Value::String(text)) = (folder, &*value) {
                    folders.push((at, text.clone()));
                }
                folder.is_none() && !HOW.contains(&key.as_str())
            });
            map.values_mut().for_each(|value| strip(value, folders));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| strip(item, folders));
            items.sort_by_key(ToString::to_string);
        }
        _ => {}
    }
}
