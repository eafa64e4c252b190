//! Databases that contain more than their own data: the writable folder that runs share, or another database. Two mounts overlap if they
//! show the same storage, and one path is the other or an ancestor of it.

use std::path::{Path, PathBuf};

use super::database::Database;
use super::files::Files;
use super::kubernetes::{KubernetesConfig, MACHINE};
use super::reader::Section;
use super::system::places;
use super::{Config, RuntimeConfig, Surroundings};

/// The storage and paths that a mount shows.
#[derive(Debug)]
struct Place {
    storage: String,
    /// The folder or file in the storage. On this machine, also with links resolved.
    paths: Vec<PathBuf>,
}

/// Reports overlaps in a configuration.
pub(super) fn judge(config: &Config, file: &Section<'_>, around: &Surroundings<'_>) {
    let RuntimeConfig::Kubernetes(kubernetes) = &config.runtime else { return };
    let databases: Vec<(usize, &Database, Place)> = config
        .databases
        .iter()
        .enumerate()
        .filter_map(|(index, database)| Some((index, database, of_database(database, kubernetes, around.files)?)))
        .collect();
    beside_tmp(kubernetes, &databases, file, around);
    let at = |index: usize| file.get("databases")?.list("")?.get(index).map(|item| item.key_at);
    for (index, outer, place) in &databases {
        for (_, inner, within) in databases.iter().filter(|(other, _, _)| other != index) {
            if place.holds(within) && !within.holds(place) {
                file.findings.warn(
                    at(*index),
                    format!(
                        "`databases[{index}]`: `{0}` has the database `{1}` in it, so that whoever asks for `{0}` gets both. Put each into a \
                         folder of its own.",
                        outer.label, inner.label
                    ),
                );
            }
        }
    }
}

/// Refuses a shared folder inside a database, since other tasks' runs would write to it, and warns of a database inside the shared
/// folder, which runs may fill up.
fn beside_tmp(
    kubernetes: &KubernetesConfig,
    databases: &[(usize, &Database, Place)],
    file: &Section<'_>,
    around: &Surroundings<'_>,
) {
    let Some(tmp) = kubernetes.tmp.as_ref().map(|volume| Place::of(volume.storage(), None, around.files)) else {
        return;
    };
    let field = file.get("kubernetes").and_then(|field| field.section("")).and_then(|section| section.get("tmp"));
    let Some(field) = field else { return };
    for (index, database, place) in databases {
        let label = &database.label;
        if place.holds(&tmp) {
            let message = format!(
                "`kubernetes.tmp`: found a place in the database `{label}` (`databases[{index}]`): algorithms that ask for it would read what \
                 others write, expected a volume or folder of its own."
            );
            file.findings.error(field.node.at, message);
        } else if tmp.holds(place) {
            field.warn(format_args!(
                "has the database `{label}` (`databases[{index}]`) in it: algorithms that fill it up leave that no room. Give it a volume or \
                 folder of its own."
            ));
        }
    }
}

fn of_database(database: &Database, kubernetes: &KubernetesConfig, files: &dyn Files) -> Option<Place> {
    let volume = kubernetes.databases.get(&database.label).and_then(|place| place.volume.as_ref());
    match volume {
        Some(volume) => Some(Place::of(volume.source.storage(), volume.path.as_deref(), files)),
        None => database.is_file().then(|| Place::of((MACHINE.to_owned(), database.uri.clone()), None, files)),
    }
}

impl Place {
    fn of((storage, folder): (String, String), path: Option<&str>, files: &dyn Files) -> Self {
        let whole = Path::new("/").join(folder.trim_start_matches('/')).join(path.unwrap_or_default());
        let paths = if storage == MACHINE { places(&whole, files) } else { vec![super::system::normalized(&whole)] };
        Self { storage, paths }
    }

    /// Whether the other place is inside this one, or is the same.
    fn holds(&self, other: &Self) -> bool {
        self.storage == other.storage
            && other.paths.iter().any(|inner| self.paths.iter().any(|outer| inner.starts_with(outer)))
    }
}
