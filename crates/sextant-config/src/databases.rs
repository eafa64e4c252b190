//! Reads the databases, which tasks request by label.

use std::collections::BTreeMap;

use sextant_core::environment::{RUN_FOLDER, Reserved};

use super::Surroundings;
use super::database::{Database, DatabaseType, MountMode};
use super::diagnostics::Position;
use super::kubernetes::{DatabasePlace, DatabaseVolume, PodSecurity, database_volumes};
use super::model::RuntimeConfig;
use super::names;
use super::reader::{Field, Section, Unknown};
use super::system;
use super::yaml::Value;

const LIST: &str = "a list of databases, each with `label`, `uri` and `type`";
const URI: &str = "where the data is: a path or an address";

/// Reads `databases`. The required fields depend on the runtime: on Kubernetes, a database may have a volume.
pub(super) fn read(
    file: &Section<'_>,
    runtime: Option<&RuntimeConfig>,
    own: &[system::Own],
    around: &Surroundings<'_>,
) -> Option<Vec<Database>> {
    let Some(field) = file.get("databases") else {
        return Some(Vec::new());
    };
    if let Value::Map(entries) = &field.node.value {
        // An older layout that the regular node's schema still accepts but its code can't use.
        if let Some(first) = entries.first() {
            let label = names::shown(&first.key);
            let advice =
                format!("Write `- label: {label}` with `uri` and `type` below it, and likewise for the others.");
            field.wrong(LIST, &advice);
            return None;
        }
        return Some(Vec::new());
    }
    let items = field.list(LIST)?;
    let mut seen: Vec<(String, Position)> = Vec::new();
    let databases: Vec<Option<Database>> =
        items.iter().map(|item| database(file, item, &mut seen, runtime, own, around)).collect();
    databases.into_iter().collect()
}

/// All labels in the file, valid or not.
pub(super) fn labels<'a>(file: &Section<'a>) -> Vec<&'a str> {
    let items = match file.get("databases").map(|field| &field.node.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(|item| item.get("label")?.secret()).collect()
}

fn database(
    file: &Section<'_>,
    item: &Field<'_>,
    seen: &mut Vec<(String, Position)>,
    runtime: Option<&RuntimeConfig>,
    own: &[system::Own],
    around: &Surroundings<'_>,
) -> Option<Database> {
    let section = item.section("a database with `label`, `uri` and `type`")?;
    let label = section.require("label", "the name that tasks ask for").and_then(|field| label(&field, seen));
    let kind = section
        .require("type", &format!("one of {}", kinds()))
        .and_then(|field| field.choice(&DatabaseType::ALL, DatabaseType::as_str));
    let kubernetes = match runtime {
        Some(RuntimeConfig::Kubernetes(kubernetes)) => Some(kubernetes),
        _ => None,
    };
    let place = label.as_ref().and_then(|label| kubernetes?.databases.get(label));
    let volume = place.and_then(|place| place.volume.as_ref());
    let uri = match (section.get("uri"), volume) {
        (Some(field), _) => uri(&field),
        (None, Some(volume)) => volume.path.clone().or_else(|| label.clone()),
        // Its entry in `kubernetes.databases` is wrong, which has been reported.
        (None, None) if place.is_none() && has_place(file, label.as_deref()) => None,
        (None, None) => section.require("uri", URI).and_then(|field| uri(&field)),
    };
    let env = section.get("env").map_or_else(BTreeMap::new, |field| parameters(&field));
    let mode = section.get("mount_mode");
    let mount_mode = mode.as_ref().map_or(Some(MountMode::default()), mount_mode);
    section.finish(Unknown::Warn);
    let mut database = Database { label: label?, uri: uri?, kind: kind?, env, mount_mode: mount_mode? };
    judge_path(&database, volume, &section, own, around)?;
    judge_host_path(&database, volume, item, own, around)?;
    if volume.is_some() || database.is_file() {
        let inside = volume.and_then(|volume| volume.path.as_deref()).unwrap_or(&database.uri);
        hides_nothing(&database, inside, item)?;
    }
    if let Some(mode) = &mode {
        tell_of_mode(file, &database, volume.is_some(), mode);
    }
    if database.kind == DatabaseType::Folder && !super::is_local(file) && mode.is_none() {
        item.warn(format_args!(
            "the folder `{}` is read-only for algorithms; on a regular node they may write to it.",
            database.label
        ));
    }
    match volume {
        Some(volume) => in_volume(&database, volume, item)?,
        None if database.is_file() => {
            if kubernetes.is_some_and(|kubernetes| kubernetes.pod_security != PodSecurity::Baseline) {
                let expected = "a volume in `kubernetes.databases`: `kubernetes.pod_security: restricted` allows no paths of machines";
                item.findings.error(
                    item.key_at,
                    format!("`{}`: found a database that is a path of the machine, expected {expected}.", item.path),
                );
            }
            locate(&mut database, &section, around)?;
        }
        None if kubernetes.is_some() && place.is_none_or(|place: &DatabasePlace| place.egress.is_empty()) => {
            item.warn(format_args!(
                "`{0}` is an address, and algorithms reach nothing but vantage6. Say where it is in \
                 `kubernetes.databases.{0}.egress`, so that the runs that ask for it can connect.",
                database.label
            ));
        }
        None => {}
    }
    Some(database)
}

fn has_place(file: &Section<'_>, label: Option<&str>) -> bool {
    database_volumes(file).iter().any(|(of, _)| Some(*of) == label)
}

/// Refuses system folders of the machine, or warns of them. In a volume, the path has no such meaning.
fn judge_path(
    database: &Database,
    volume: Option<&DatabaseVolume>,
    section: &Section<'_>,
    own: &[system::Own],
    around: &Surroundings<'_>,
) -> Option<()> {
    let Some(field) = section.get("uri").filter(|_| volume.is_none()) else {
        return Some(());
    };
    let path = std::path::Path::new(&database.uri);
    let is_relative = database.is_file() && path.is_relative() && !is_of_windows(&database.uri);
    let path =
        if is_relative { around.files.absolute(path).to_string_lossy().into_owned() } else { database.uri.clone() };
    system::judge_with_links(&field, &path, around.files)?;
    system::refuse_own(&field, &path, own, around.files)
}

/// Refuses the node's own files in a hostPath volume. The contents of other volumes are not known.
fn judge_host_path(
    database: &Database,
    volume: Option<&DatabaseVolume>,
    item: &Field<'_>,
    own: &[system::Own],
    around: &Surroundings<'_>,
) -> Option<()> {
    let Some((folder, volume)) = volume.and_then(|volume| Some((volume.source.host_path()?, volume))) else {
        return Some(());
    };
    let path = volume.path.as_ref().map_or(folder.to_owned(), |path| format!("{folder}/{path}"));
    let field = Field { path: format!("kubernetes.databases.{}", database.label), ..item.clone() };
    system::refuse_own(&field, &path, own, around.files)
}

/// A file database needs the path of the file in its volume.
fn in_volume(database: &Database, volume: &DatabaseVolume, item: &Field<'_>) -> Option<()> {
    let is_file = matches!(database.kind, DatabaseType::Csv | DatabaseType::Parquet | DatabaseType::Excel);
    if !is_file || volume.path.is_some() {
        return Some(());
    }
    let (label, kind) = (&database.label, database.kind);
    let message = format!(
        "`{}`: found a {kind} database in a volume, expected to be told which file. Add `path: …` to `kubernetes.databases.{label}`.",
        item.path
    );
    item.findings.error(item.key_at, message);
    None
}

fn kinds() -> String {
    let words: Vec<&str> = DatabaseType::ALL.iter().map(|kind| kind.as_str()).collect();
    names::listed(&words, "or")
}

/// Reads a label: an identifier that maps to environment variables of its own.
fn label(field: &Field<'_>, seen: &mut Vec<(String, Position)>) -> Option<String> {
    let expected = "a name of letters, digits and underscores that does not begin with a digit";
    let label = field.word(expected)?;
    if !names::is_identifier(label) {
        field.wrong(expected, "It becomes part of the names of environment variables.");
        return None;
    }
    let upper = label.to_uppercase();
    if let Some((_, first)) = seen.iter().find(|(other, _)| *other == upper) {
        let advice = format!("The other is in line {}; small and capital letters count as the same.", first.line);
        field.wrong("a label that no other database has", &advice);
        return None;
    }
    seen.push((upper, field.node.at));
    Some(label.to_owned())
}

fn uri(field: &Field<'_>) -> Option<String> {
    let uri = field.node.secret().map(str::trim).filter(|uri| !uri.is_empty());
    if uri.is_none() {
        field.wrong_secret(URI, "");
    }
    uri.map(str::to_owned)
}

/// Reads the parameters under `env`. Their names are appended to the label in upper case.
fn parameters(field: &Field<'_>) -> BTreeMap<String, String> {
    let mut seen: Vec<String> = Vec::new();
    let seen = std::cell::RefCell::new(&mut seen);
    field.map_of("names with values", |key, field| {
        if !names::is_identifier_end(key) {
            let message = format!(
                "`{}`: found a name with other characters, expected letters, digits and underscores.",
                field.path
            );
            field.findings.error(field.key_at, message);
            return None;
        }
        let upper = key.to_uppercase();
        if seen.borrow().contains(&upper) {
            let message = format!(
                "`{}`: found a second time, expected once. Small and capital letters count as the same.",
                field.path
            );
            field.findings.error(field.key_at, message);
            return None;
        }
        seen.borrow_mut().push(upper);
        value(field)
    })
}

/// Reads the value of an environment variable, spelled as the regular node spells it. Never shown, since it may be a password.
pub(super) fn value(field: &Field<'_>) -> Option<String> {
    let value = field.node.scalar().map(super::scalar::Scalar::python).filter(|value| !value.contains('\0'));
    if value.is_none() {
        field.wrong_secret("a single value", "Put it in quotes if it is meant as one.");
    }
    value
}

/// Reads `algorithm_env`.
pub(super) fn algorithm_env(file: &Section<'_>) -> BTreeMap<String, String> {
    let labels = labels(file);
    let Some(field) = file.get("algorithm_env") else {
        return BTreeMap::new();
    };
    field.map_of("names of environment variables with their values", |key, field| {
        warn_of_the_nodes_own(key, field, &labels);
        variable(key, field)
    })
}

/// Warns of a variable that replaces one of the node's.
pub(super) fn warn_of_the_nodes_own(key: &str, field: &Field<'_>, labels: &[&str]) {
    match Reserved::of(key, labels) {
        Some(Reserved::Always) => {
            field.warn("replaces what the node tells every algorithm. Take it out unless that is what you want.");
        }
        Some(Reserved::OfADatabase) => field.warn(
            "is how algorithms are told of a database, and those get it too that did not ask for one. Write it in `databases`: `uri`, `type`, \
             and parameters under `env`.",
        ),
        None => {}
    }
}

/// An environment variable for a process on this machine.
pub(super) fn variable_of_this_machine(key: &str, field: &Field<'_>) -> Option<String> {
    if key == RUN_FOLDER {
        let message = format!(
            "`{}`: found a variable by which the node knows a run's processes, expected others. Take it out.",
            field.path
        );
        field.findings.error(field.key_at, message);
        return None;
    }
    if !names::is_identifier(key) {
        let advice = "expected letters, digits and underscores, the first of them no digit";
        field.findings.error(
            field.key_at,
            format!("`{}`: found a name of an environment variable that is none, {advice}.", field.path),
        );
        return None;
    }
    value(field)
}

/// An environment variable for algorithms.
fn variable(key: &str, field: &Field<'_>) -> Option<String> {
    if key == "PKG_NAME" {
        let message = format!(
            "`{}`: found a variable that belongs to the algorithm's image, expected others. Take it out.",
            field.path
        );
        field.findings.error(field.key_at, message);
        return None;
    }
    variable_of_this_machine(key, field)
}

fn mount_mode(field: &Field<'_>) -> Option<MountMode> {
    let expected = "`ro` or `copy`";
    match field.text(expected)?.to_lowercase().as_str() {
        "ro" => Some(MountMode::ReadOnly),
        "copy" => Some(MountMode::Copy),
        _ => {
            field.wrong_form(expected, "Databases are read-only here in either mode; it decides on their path.");
            None
        }
    }
}

/// Warns if a mount mode promises something that algorithms don't get.
fn tell_of_mode(file: &Section<'_>, database: &Database, in_volume: bool, mode: &Field<'_>) {
    let is_address = !in_volume && !database.is_file();
    match database.mount_mode {
        MountMode::ReadOnly if is_address => {
            mode.warn("has no effect: the database is an address, of which nothing is mounted. (A regular node refuses it.)");
        }
        MountMode::ReadOnly if super::is_local(file) => mode.warn(
            "has no effect with `local`: algorithms may do with the data what this node's user may. Take the right to write from that user.",
        ),
        MountMode::Copy if is_address => {}
        MountMode::Copy if super::is_local(file) => {
            mode.warn("has no effect with `local`: algorithms get the data itself, and may change it if this node's user may.");
        }
        MountMode::Copy => mode.warn(
            "gives no writable copy here: algorithms get the data itself, read-only, at the same path. Those that write do so in \
             /mnt/tmp (`TEMPORARY_FOLDER`).",
        ),
        MountMode::ReadOnly => {}
    }
}

/// Refuses a database whose path in the container is that of one of the node's own folders.
fn hides_nothing(database: &Database, inside: &str, item: &Field<'_>) -> Option<()> {
    if matches!(database.path_in_container(inside).as_str(), "/mnt/data" | "/mnt/tmp") {
        let advice = "It would hide the node's own folder of that name.";
        item.findings.error(
            item.key_at,
            format!(
                "`{}`: found a database with the label `{}` at {}, expected another label. {advice}",
                item.path,
                database.label,
                database.path_in_container(inside)
            ),
        );
        return None;
    }
    Some(())
}

/// Makes the path absolute, relative to Sextant's working directory, as a regular node does.
fn locate(database: &mut Database, section: &Section<'_>, around: &Surroundings<'_>) -> Option<()> {
    let Some(field) = section.get("uri") else {
        return Some(());
    };
    if is_of_windows(&database.uri) {
        field.wrong("a path of this system, like `/data/people.csv`", "This one is of Windows.");
        return None;
    }
    let path = std::path::Path::new(&database.uri);
    if path.is_relative() {
        let absolute = around.files.absolute(path);
        field.warn(format_args!(
            "is relative, and taken from the folder that Sextant is started in: {}. Write it out.",
            absolute.display()
        ));
        database.uri = absolute.to_string_lossy().into_owned();
    }
    Some(())
}

/// Whether a path begins with a Windows drive.
pub(super) fn is_of_windows(path: &str) -> bool {
    let mut chars = path.chars();
    chars.next().is_some_and(|drive| drive.is_ascii_alphabetic())
        && chars.next() == Some(':')
        && chars.next().is_some_and(|slash| matches!(slash, '\\' | '/'))
}
