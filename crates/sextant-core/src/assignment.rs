//! A run, reduced to what the decisions need: the server's run without its input.

use jiff::Timestamp;
use vantage6_types::{CollaborationId, JobId, OrganizationId, RunId, TaskId, UserId};

pub use super::hub::RequestedDatabase;
use super::hub::Run;
use super::image_reference::Digest;
use super::run_identity::RunIdentity;

/// One run of a task for this node's organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// Distinguishes it from other runs with its id.
    pub identity: RunIdentity,
    /// When the server assigned it, as text. Earlier versions of this node identified a run by it; 4.15.2 reports the same time for all
    /// runs.
    pub assigned_at: String,
    /// The task's name, as the researcher wrote it.
    pub task_name: String,
    /// The algorithm's image, as the task names it.
    pub image: String,
    /// The content that the policies have allowed, if they depend on it. The run uses it, whatever the image's tag refers to by then.
    pub digest: Option<Digest>,
    /// The job, shared by a task and its subtasks.
    pub job: Option<JobId>,
    /// The task that created this one, if it is a subtask.
    pub parent: Option<TaskId>,
    /// The first task of the job. It is the run's own task until the first one is known, and if the server does not say.
    pub first: FirstTask,
    /// The organization that created the task.
    pub init_org: Option<OrganizationId>,
    /// The user who created the task.
    pub init_user: Option<UserId>,
    /// The task's collaboration, if it is known.
    pub collaboration: Option<CollaborationId>,
    /// The databases that the task asks for, in its order.
    pub databases: Vec<RequestedDatabase>,
}

/// Distinguishes a job from others with its ID. Servers reuse the IDs of deleted jobs (4.5.5 and 4.15.2 add one to the highest ID), and
/// with SQLite also those of deleted tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstTask {
    /// The task's ID.
    pub task: TaskId,
    /// When the server created it, if it says ([`Task::created_at`](super::hub::Task::created_at)).
    pub created_at: Option<Timestamp>,
}

impl Assignment {
    /// The name of the image to run, with the digest that the policies have allowed.
    #[must_use]
    pub fn image_to_run(&self) -> String {
        match &self.digest {
            Some(digest) if !self.image.contains('@') => format!("{}@{digest}", self.image),
            _ => self.image.clone(),
        }
    }

    /// The name, after a prefix, of the folder that the runs of this job share. It consists of digits and dots.
    #[must_use]
    pub fn shared_name(&self) -> String {
        let job = self.job.map_or(self.task.0, |job| job.0);
        let made = self.first.created_at.map(|time| format!(".{}", time.as_microsecond().max(0))).unwrap_or_default();
        format!("{job}.{}{made}", self.first.task)
    }
}

impl From<&Run> for Assignment {
    fn from(run: &Run) -> Self {
        let task = &run.task;
        Self {
            run: run.id,
            task: task.id,
            identity: RunIdentity::from(run),
            assigned_at: run.assigned_at.map(|time| time.to_string()).unwrap_or_default(),
            task_name: task.name.clone().unwrap_or_default(),
            image: task.image.clone(),
            digest: None,
            job: Some(task.job),
            parent: task.parent,
            first: FirstTask { task: task.id, created_at: task.created_at },
            init_org: Some(task.init_org),
            init_user: task.init_user,
            collaboration: Some(task.collaboration),
            databases: task.databases.clone(),
        }
    }
}

/// An assignment for tests, with only its IDs and its assignment time.
#[cfg(any(test, feature = "testing"))]
pub mod sample {
    use super::*;

    /// The assignment of a run of a task.
    pub fn assignment(task: u64, run: u64, assigned_at: &str) -> Assignment {
        Assignment {
            run: RunId(run),
            task: TaskId(task),
            identity: crate::run_identity::sample::identity(&format!("{task} {run} {assigned_at}")),
            assigned_at: assigned_at.into(),
            task_name: String::new(),
            image: String::new(),
            digest: None,
            job: None,
            parent: None,
            first: FirstTask { task: TaskId(task), created_at: None },
            init_org: None,
            init_user: None,
            collaboration: None,
            databases: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_on_is_what_runs() {
        let named = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let run = |image: &str, digest: Option<&str>| {
            let digest = digest.map(|letter| named(letter).parse().unwrap());
            Assignment { image: image.into(), digest, ..sample::assignment(9, 1, "") }.image_to_run()
        };
        assert_eq!(run("r.example/x:1", None), "r.example/x:1");
        assert_eq!(run("r.example/x:1", Some("a")), format!("r.example/x:1@{}", named("a")));
        assert_eq!(run("x", Some("a")), format!("x@{}", named("a")));
        let by_digest = format!("r.example/x:1@{}", named("a"));
        assert_eq!(run(&by_digest, Some("a")), by_digest);
    }

    #[test]
    fn jobs_of_one_number_share_no_folder() {
        let made = |text: &str| text.parse::<Timestamp>().ok();
        let name = |job: u64, first: u64, created_at| {
            let first = FirstTask { task: TaskId(first), created_at };
            Assignment { job: Some(JobId(job)), first, ..sample::assignment(9, 1, "") }.shared_name()
        };
        let (one, other) = (made("2026-01-02T03:04:05Z"), made("2026-01-02T03:04:05.000001Z"));
        assert_eq!(name(17, 4, one), "17.4.1767323045000000");
        assert_eq!(name(17, 4, None), "17.4");
        assert_ne!(name(17, 4, one), name(17, 5, one), "the job's number was used again");
        assert_ne!(name(17, 4, one), name(17, 4, other), "the first task's, too");
        assert_ne!(name(17, 4, one), name(1, 74, one));
        assert_eq!(name(17, 4, made("1066-01-01T00:00:00Z")), "17.4.0");
    }
}
