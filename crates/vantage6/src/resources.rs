//! The server's resources, with the fields that a node needs.
//!
//! Parsing is tolerant: missing and unknown fields are ignored, and a related object may be a number, `{"id": …}` with or
//! without other fields, or null (`server/resource/common/output_schema.py`; it differs between 4.5 and 4.15, and with
//! `include`).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::error::excerpt;
use crate::{
    CollaborationId, Error, JobId, NodeId, OrganizationId, RunId, RunStatus, StoreId, StudyId, TaskId, UserId, read,
    time,
};

/// The limits below cut longer texts from other parties while parsing, in characters. For names and labels:
const LONG: usize = 1000;
/// For names of images (a valid name has less than half of this, and a cut name is invalid because of its mark):
const IMAGE: usize = 1000;
/// For public keys:
const KEY: usize = 100_000;
/// For logs:
const LOG: usize = 10_000;
/// How many databases of a task are kept. No algorithm gets more than a few.
pub const DATABASES: usize = 100;
/// A database's parameters are kept up to this many bytes of JSON.
const PARAMETERS: usize = 256 * 1024;
/// The parameters of all databases of a task are kept up to this many bytes: more than any algorithm can get.
const ALL_PARAMETERS: usize = 960 * 1024;

/// This node, as registered on the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    #[serde(default, deserialize_with = "read::cut::<_, LONG>")]
    pub name: String,
    /// Its collaboration.
    #[serde(deserialize_with = "read::reference")]
    pub collaboration: CollaborationId,
    /// Its organization.
    #[serde(deserialize_with = "read::reference")]
    pub organization: OrganizationId,
    /// `online` or `offline`, according to the server.
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
    /// Base64 of the PEM of its public key; none until one is uploaded.
    #[serde(default, deserialize_with = "read::optional_cut::<_, KEY>")]
    pub public_key: Option<String>,
}

/// An algorithm store that is registered on the server (since 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AlgorithmStore {
    /// Its id.
    pub id: StoreId,
    /// Its address; since 4.8 it includes the path of the API.
    #[serde(deserialize_with = "read::cut::<_, LONG>")]
    pub url: String,
}

/// A run: the execution of a task at one organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its status.
    #[serde(deserialize_with = "read::status")]
    pub status: RunStatus,
    /// Its input, if requested and not longer than requested. [`crate::Client::input`] returns an input of any size.
    #[serde(default)]
    pub input: Option<Input>,
    /// The task that it belongs to.
    pub task: Task,
    /// The organization that executes it.
    #[serde(deserialize_with = "read::reference")]
    pub organization: OrganizationId,
    /// When the server assigned it to the node; on 4.15.2, when the server was started.
    #[serde(default, deserialize_with = "time::optional")]
    pub assigned_at: Option<Timestamp>,
    /// When the node started it.
    #[serde(default, deserialize_with = "time::optional")]
    pub started_at: Option<Timestamp>,
    /// When it ended; after that the server accepts no further change.
    #[serde(default, deserialize_with = "time::optional")]
    pub finished_at: Option<Timestamp>,
    /// The reported output of the algorithm, or its beginning. Absent in lists of runs.
    #[serde(default, deserialize_with = "read::optional_cut::<_, LOG>")]
    pub log: Option<String>,
    /// Whether input and result are in the server's blob store, with only their ids ([`crate::BlobId`]) in the fields
    /// (since 4.13). The server decides when it creates the task.
    #[serde(default)]
    pub blob_storage_used: Option<bool>,
}

/// The task of a run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its name, free text by the researcher.
    #[serde(default, deserialize_with = "read::optional_cut::<_, LONG>")]
    pub name: Option<String>,
    /// The algorithm's image.
    #[serde(deserialize_with = "read::cut::<_, IMAGE>")]
    pub image: String,
    /// When the server created it, if reported. (For runs, 4.15.2 reports when the server was started, because the default in
    /// `server/model/run.py` is computed once. For tasks the value is right: `server/resource/task.py` sets it.)
    #[serde(default, deserialize_with = "time::if_readable")]
    pub created_at: Option<Timestamp>,
    /// The job, which a task shares with its parent and subtasks.
    pub job_id: JobId,
    /// The task whose algorithm created this one.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub parent: Option<TaskId>,
    /// The organization that receives the result and whose key encrypts it.
    #[serde(deserialize_with = "read::reference")]
    pub init_org: OrganizationId,
    /// The user who created it.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_user: Option<UserId>,
    /// The collaboration that it belongs to.
    #[serde(deserialize_with = "read::reference")]
    pub collaboration: CollaborationId,
    /// The study that it belongs to, if any.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub study: Option<StudyId>,
    /// The algorithm store of its algorithm (4.6 and later).
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub algorithm_store: Option<StoreId>,
    /// The requested databases, in the order that the algorithm expects.
    #[serde(default)]
    pub databases: TaskDatabases,
}

/// A task's origin: its user, its parent, and the time of its creation.
///
/// Unlike elsewhere, the field `parent` is required. A first task has null; a response without the field must not pass as a first task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaskOrigin {
    /// The task's id.
    pub id: TaskId,
    /// The image of its algorithm, if reported.
    #[serde(default, deserialize_with = "read::optional_cut::<_, IMAGE>")]
    pub image: Option<String>,
    /// See [`Task::created_at`].
    #[serde(default, deserialize_with = "time::if_readable")]
    pub created_at: Option<Timestamp>,
    /// The job, which a task shares with its parent and subtasks.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// The task whose algorithm created this one; none if a user created it.
    #[serde(deserialize_with = "read::optional_reference")]
    pub parent: Option<TaskId>,
    /// The organization that created it: for a subtask, the one whose node runs the parent.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_org: Option<OrganizationId>,
    /// The user who created it: for a subtask, the user of the first task.
    #[serde(default, deserialize_with = "read::optional_reference")]
    pub init_user: Option<UserId>,
}

/// The databases that a task requests, limited to the first [`DATABASES`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskDatabases {
    /// The first databases.
    pub kept: Vec<TaskDatabase>,
    /// The number of further databases.
    pub left_out: usize,
}

impl<'de> Deserialize<'de> for TaskDatabases {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        let read::Beginning { list: mut kept, left_out } = read::beginning::<_, TaskDatabase, DATABASES>(de)?;
        bound(&mut kept);
        Ok(Self { kept, left_out })
    }
}

/// A database that a task requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Requested")]
pub struct TaskDatabase {
    /// Its label in the node's configuration.
    pub label: String,
    /// `query`, `sheet_name`, `preprocessing`…: a JSON object as text, as the server stores it
    /// (`server/model/task_database.py`).
    pub parameters: Option<String>,
    /// The length of the parameters in bytes, if they were too long to keep.
    pub left_out: Option<usize>,
}

/// A requested database in the server's format.
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

/// Drops parameters beyond the limit for one task.
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

/// A run's input, still encoded. It may contain personal data, so it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Input(pub String);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} characters]", self.0.len())
    }
}

impl Run {
    /// Returns how many bytes its texts take, without the input.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let Task { name, image, databases, .. } = &self.task;
        let database =
            |database: &TaskDatabase| size_of::<TaskDatabase>() + database.label.len() + text(&database.parameters);
        text(name) + image.len() + text(&self.log) + databases.kept.iter().map(database).sum::<usize>()
    }

    /// Parses one run. If that fails, the error has at least the run's id, if readable.
    pub(crate) fn parse(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| {
            #[derive(Deserialize)]
            struct OnlyId {
                id: RunId,
            }
            Error::BrokenRun {
                id: serde_json::from_str::<OnlyId>(json).ok().map(|only| only.id),
                // Shortened, because serde's message quotes the text, which may be long.
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
