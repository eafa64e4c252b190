//! The server's resources, as far as a node needs them.
//!
//! Reading is generous: fields that are missing or new don't matter, and a related object may be a number, `{"id": …}`
//! with or without more, or null (`server/resource/common/output_schema.py`; it differs between 4.5 and 4.15, and with
//! `include`).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::error::excerpt;
use crate::{
    CollaborationId, Error, JobId, NodeId, OrganizationId, RunId, RunStatus, StoreId, StudyId, TaskId, UserId, read,
    time,
};

/// Longer texts of others are cut when they are read, in characters: names and labels,
const LONG: usize = 1000;
/// names of images (a valid one has less than half of that, and with the mark of the cut it is none),
const IMAGE: usize = 1000;
/// public keys,
const KEY: usize = 100_000;
/// and logs.
const LOG: usize = 10_000;
/// So many databases of a task are kept. No algorithm gets more than a few.
pub const DATABASES: usize = 100;
/// A task's parameters for a database are kept up to this many bytes of JSON,
const PARAMETERS: usize = 256 * 1024;
/// and for all its databases up to this many: more than any algorithm can get.
const ALL_PARAMETERS: usize = 960 * 1024;

/// This node, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// The collaboration that it works for.
    #[serde(deserialize_with = "read::reference")]
    pub collaboration: CollaborationId,
    /// The organization that it belongs to.
    #[serde(deserialize_with = "read::reference")]
    pub organization: OrganizationId,
    /// `online` or `offline`, as the server believes.
    #[serde(default, deserialize_with = "read::optional_cut::<_, LONG>")]
    pub status: Option<String>,
}

/// A collaboration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Collaboration {
    /// Its id.
    pub id: CollaborationId,
    /// Its name.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// Whether inputs and results are encrypted end to end.
    #[serde(deserialize_with = "read::truth")]
    pub encrypted: bool,
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// Base64 of the PEM of its public key; none until somebody has put one there.
    #[serde(default, deserialize_with = "read::optional_cut::<_, KEY>")]
    pub public_key: Option<String>,
}

/// An algorithm store that the server knows (since 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AlgorithmStore {
    /// Its number.
    pub id: StoreId,
    /// Its address: since 4.8 with the path of its API.
    #[serde(deserialize_with = "read::cut::<_, LONG>")]
    pub url: String,
}

/// One task at one organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// How far it is.
    #[serde(deserialize_with = "read::status")]
    pub status: RunStatus,
    /// Its input, if it was asked for and is not longer than asked for. [`crate::Client::input`] gives it in any size.
    #[serde(default)]
    pub input: Option<Input>,
    /// What to do.
    pub task: Task,
    /// Who is to do it.
    #[serde(deserialize_with = "read::reference")]
    pub organization: OrganizationId,
    /// When the server gave it to the node; at 4.15.2, when the server was started.
    #[serde(default, deserialize_with = "time::optional")]
    pub assigned_at: Option<Timestamp>,
    /// When the node began.
    #[serde(default, deserialize_with = "time::optional")]
    pub started_at: Option<Timestamp>,
    /// When it ended; then it takes no more changes.
    #[serde(default, deserialize_with = "time::optional")]
    pub finished_at: Option<Timestamp>,
    /// What the node has reported of the algorithm's output, or the beginning of it; not in a list of runs.
    #[serde(default, deserialize_with = "read::optional_cut::<_, LOG>")]
    pub log: Option<String>,
    /// Input and result are not here but in the server's blob store, under the UUID that is in their place (since 4.10
    /// or so; `server/resource/blobstream.py` of 4.15).
    #[serde(default)]
    pub blob_storage_used: Option<bool>,
}

/// What a task asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its name; free text of the researcher.
    #[serde(default, deserialize_with = "read::optional_cut::<_, LONG>")]
    pub name: Option<String>,
    /// The image of the algorithm.
    #[serde(deserialize_with = "read::cut::<_, IMAGE>")]
    pub image: String,
    /// When the server made it, if it says. (Of runs, 4.15.2 says instead when the server itself was started: the default in
    /// `server/model/run.py` is computed once. Of tasks it says the truth: `server/resource/task.py` sets it.)
    #[serde(default, deserialize_with = "time::if_readable")]
    pub created_at: Option<Timestamp>,
    /// Shared with its subtasks and parent.
    pub job_id: JobId,
    /// The task whose algorithm created this one.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub parent: Option<TaskId>,
    /// Where the result goes, and whose key it is encrypted for.
    #[serde(deserialize_with = "read::reference")]
    pub init_org: OrganizationId,
    /// Who asked.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_user: Option<UserId>,
    /// Where.
    #[serde(deserialize_with = "read::reference")]
    pub collaboration: CollaborationId,
    /// In which study, if in one.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub study: Option<StudyId>,
    /// The algorithm store that it was created from (4.6 and later).
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub algorithm_store: Option<StoreId>,
    /// The databases that it wants, in the order that the algorithm expects them.
    #[serde(default)]
    pub databases: TaskDatabases,
}

/// Where a task comes from: who asked, whose algorithm created it, and when.
///
/// Unlike elsewhere, `parent` must be there: a first task says null, and one that says nothing must not pass for a first one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskOrigin {
    /// The task's number.
    pub id: TaskId,
    /// The image of its algorithm, if the server says.
    #[serde(default, deserialize_with = "read::optional_cut::<_, IMAGE>")]
    pub image: Option<String>,
    /// As of a [`Task`].
    #[serde(default, deserialize_with = "time::if_readable")]
    pub created_at: Option<Timestamp>,
    /// Shared with its subtasks and parent.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// The task whose algorithm created this one; none if a user did.
    #[serde(deserialize_with = "read::optional_reference")]
    pub parent: Option<TaskId>,
    /// The organization that asked: for a subtask, the one whose node runs the parent.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_org: Option<OrganizationId>,
    /// The user who asked: for a subtask, the first task's.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_user: Option<UserId>,
}

/// The databases that a task wants: the first [`DATABASES`] of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskDatabases {
    /// These.
    pub kept: Vec<TaskDatabase>,
    /// How many more there are.
    pub left_out: usize,
}

impl<'de> Deserialize<'de> for TaskDatabases {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        let read::Beginning { list: mut kept, left_out } = read::beginning::<_, TaskDatabase, DATABASES>(de)?;
        bound(&mut kept);
        Ok(Self { kept, left_out })
    }
}

/// A database that a task wants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Requested")]
pub struct TaskDatabase {
    /// Its label in the node's configuration.
    pub label: String,
    /// `query`, `sheet_name`, `preprocessing`…: JSON text of an object, as the server keeps it
    /// (`server/model/task_database.py`).
    pub parameters: Option<String>,
    /// How many bytes they have, where that is more than is kept.
    pub left_out: Option<usize>,
}

/// The same as the server sends it.
#[derive(Deserialize)]
struct Requested {
    #[serde(deserialize_with = "read::cut::<_, LONG>")]
    label: String,
    #[serde(default, deserialize_with = "read::json_text::<_, PARAMETERS>")]
    parameters: read::JsonText,
}

impl From<Requested> for TaskDatabase {
    fn from(Requested { label, parameters }: Requested) -> Self {
        let (parameters, left_out) = match parameters {
            read::JsonText::None => (None, None),
            read::JsonText::Text(text) => (Some(text), None),
            read::JsonText::TooLong(length) => (None, Some(length)),
        };
        Self { label, parameters, left_out }
    }
}

/// Keeps as much of the databases' parameters as one task's may have.
fn bound(databases: &mut [TaskDatabase]) {
    let mut kept = 0;
    for database in databases {
        let length = database.parameters.as_ref().map_or(0, String::len);
        if kept + length > ALL_PARAMETERS {
            (database.parameters, database.left_out) = (None, Some(length));
        } else {
            kept += length;
        }
    }
}

/// A run's input, still encoded. May hold data of people, so it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Input(pub String);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} characters]", self.0.len())
    }
}

impl Run {
    /// How many bytes its texts take, its input not counted.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let Task { name, image, databases, .. } = &self.task;
        let database =
            |database: &TaskDatabase| size_of::<TaskDatabase>() + database.label.len() + text(&database.parameters);
        text(name) + image.len() + text(&self.log) + databases.kept.iter().map(database).sum::<usize>()
    }

    /// Reads one run. When it can't be understood, the error says at least which one it is.
    pub(crate) fn parse(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| {
            #[derive(Deserialize)]
            struct OnlyId {
                id: RunId,
            }
            Error::BrokenRun {
                id: serde_json::from_str::<OnlyId>(json).ok().map(|only| only.id),
                // It quotes the text, which is of any length.
                problem: excerpt(error.to_string().as_bytes()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_large_parameters_only_the_size_is_kept() {
        let (small, large) = ("p".repeat(PARAMETERS), "p".repeat(PARAMETERS + 1));
        let object = format!(r#"{{"query": "{small}"}}"#);
        let text = format!(
            r#"{{"id": 2, "image": "x", "job_id": 3, "init_org": 1, "collaboration": 1, "databases": [
                {{"label": "a", "parameters": "{large}"}}, {{"label": "b", "parameters": {object}}},
                {{"label": "c", "parameters": "{small}"}}, {{"label": "d", "parameters": "{small}"}},
                {{"label": "e", "parameters": "{small}"}}, {{"label": "f", "parameters": "{small}"}},
                {{"label": "g", "parameters": "{{}}"}}, {{"label": "h"}}, {{"label": "i", "parameters": null}}]}}"#
        );
        let task: Task = serde_json::from_str(&text).unwrap();
        let sizes: Vec<_> = task
            .databases
            .kept
            .iter()
            .map(|database| (database.parameters.as_ref().map(String::len), database.left_out))
            .collect();
        let (kept, none) = ((Some(PARAMETERS), None), (None, None));
        let left_out = |length| (None, Some(length));
        let expected = [
            left_out(PARAMETERS + 1),
            left_out(object.len()),
            kept,
            kept,
            kept,
            left_out(PARAMETERS),
            (Some(2), None),
            none,
            none,
        ];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn an_unknown_status_is_cut() {
        let json = format!(
            r#"{{"id": 7, "status": "{}", "organization": 1, "task": {{"id": 2, "image": "x", "job_id": 3, "init_org": 1, "collaboration": 1}}}}"#,
            "paused ".repeat(10_000)
        );
        let status = Run::parse(&json).unwrap().status;
        assert_eq!(status.as_str().chars().count(), 101, "{status}");
    }

    #[test]
    fn what_is_said_of_a_run_that_cannot_be_read_is_short_and_on_one_line() {
        let json = format!(r#"{{"id": 7, "status": "pending", "task": "{}\n[forged] line"}}"#, "x".repeat(100_000));
        let Err(Error::BrokenRun { id, problem }) = Run::parse(&json) else { panic!("it can't be read") };
        assert_eq!(id, Some(RunId(7)));
        assert!(problem.chars().count() <= 300 && !problem.contains('\n'), "{problem}");
    }
}
