//! What a node has to do for one run, as far as the decisions need it: the server's run without its input.

use vantage6_types::{JobId, OrganizationId, RunId, TaskId, UserId};

pub use super::hub::RequestedDatabase;
use super::hub::Run;

/// One run of a task for this node's organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// When the server made it, as text: a server that uses a number again (SQLite does, for deleted runs) makes a run that
    /// differs in this.
    pub assigned_at: String,
    /// The task's name, as the researcher wrote it.
    pub task_name: String,
    /// The algorithm's image, as the task names it.
    pub image: String,
    /// Shared by a task and its subtasks.
    pub job: Option<JobId>,
    /// The task that made this one, if it is a subtask.
    pub parent: Option<TaskId>,
    /// The organization that asked.
    pub init_org: Option<OrganizationId>,
    /// The user who asked.
    pub init_user: Option<UserId>,
    /// The databases that the task asks for, in its order.
    pub databases: Vec<RequestedDatabase>,
}

impl From<&Run> for Assignment {
    fn from(run: &Run) -> Self {
        let task = &run.task;
        Self {
            run: run.id,
            task: task.id,
            assigned_at: run.assigned_at.map(|time| time.to_string()).unwrap_or_default(),
            task_name: task.name.clone().unwrap_or_default(),
            image: task.image.clone(),
            job: Some(task.job),
            parent: task.parent,
            init_org: Some(task.init_org),
            init_user: task.init_user,
            databases: task.databases.clone(),
        }
    }
}

/// An assignment as tests begin with it: nothing but its numbers, and when it was made.
#[cfg(any(test, feature = "testing"))]
pub mod sample {
    use crate::assignment::*;

    /// Of a run of a task.
    pub fn assignment(task: u64, run: u64, assigned_at: &str) -> Assignment {
        Assignment {
            run: RunId(run),
            task: TaskId(task),
            assigned_at: assigned_at.into(),
            task_name: String::new(),
            image: String::new(),
            job: None,
            parent: None,
            init_org: None,
            init_user: None,
            databases: vec![],
        }
    }
}
