//! Determines the first task of a job. An algorithm's subtask belongs to the organization whose node runs the algorithm, so only the first
//! task of its job shows who created the job. The chain leads from a task to its parent, and so on to the first task.
//!
//! Some servers reuse the IDs of deleted tasks. So a task that can't be its subtask's parent is rejected: it belongs to another job, has
//! another image, or was created later.

use jiff::Timestamp;
use vantage6_types::{JobId, OrganizationId, TaskId, UserId};

use super::hub::Task;

/// The maximum length of a chain. No algorithm nests subtasks this deep, so a longer chain is not legitimate.
pub const LONGEST: usize = 16;

/// One task of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The task.
    pub task: TaskId,
    /// Its job, if the server says.
    pub job: Option<JobId>,
    /// The task whose algorithm created it; none if a user did.
    pub parent: Option<TaskId>,
    /// The user, if the server says.
    pub user: Option<UserId>,
    /// The organization, if the server says.
    pub organization: Option<OrganizationId>,
    /// Its algorithm's image, if the server says.
    pub image: Option<String>,
    /// When the server created it, if it says ([`Task::created_at`]).
    pub created_at: Option<Timestamp>,
}

impl From<&Task> for Link {
    fn from(task: &Task) -> Self {
        Self {
            task: task.id,
            job: Some(task.job),
            parent: task.parent,
            user: task.init_user,
            organization: Some(task.init_org),
            image: Some(task.image.clone()),
            created_at: task.created_at,
        }
    }
}

/// What follows from the links that are known so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The last link is the first task of the job.
    Whole,
    /// This task is the next one to read.
    Ask(TaskId),
    /// The links can't be right, or lead nowhere.
    Broken(Broken),
}

/// Why the first task of a job can't be determined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The chain has too many tasks.
    #[error("it is more than {LONGEST} tasks away")]
    TooLong,
    /// A task is its own ancestor.
    #[error("task {0} would be its own ancestor")]
    Circular(TaskId),
    /// According to the server, a task belongs to another job than its subtask.
    #[error("task {0} is of another job")]
    AnotherJob(TaskId),
    /// A task has another image than its subtask. An algorithm's subtasks have the same image.
    #[error("task {0} has another image than its subtask")]
    AnotherImage(TaskId),
    /// A task was created after its subtask.
    #[error("task {0} is newer than its subtask")]
    Newer(TaskId),
    /// The server described another task than the requested one.
    #[error("the server does not describe task {0}")]
    AnotherTask(TaskId),
    /// The server does not show the task to this node, or no longer has it.
    #[error("the server does not show task {0} to this node")]
    Hidden(TaskId),
    /// The server's description can't be parsed.
    #[error("the server's description of task {0} can't be understood")]
    Unreadable(TaskId),
}

/// Decides from the links so far: the task itself, its parent, and so on.
#[must_use]
pub fn next(links: &[Link]) -> Next {
    for (index, link) in links.iter().enumerate().skip(1) {
        let (Some(child), Some(first)) = (links.get(index - 1), links.first()) else { break };
        if child.parent != Some(link.task) {
            return Next::Broken(Broken::AnotherTask(child.parent.unwrap_or(link.task)));
        }
        // A server gives a subtask its parent's job.
        if link.job.is_none() || link.job != first.job {
            return Next::Broken(Broken::AnotherJob(link.task));
        }
        if link.image.is_none() || link.image != child.image {
            return Next::Broken(Broken::AnotherImage(link.task));
        }
    }
    match links.last().and_then(|last| last.parent) {
        None => Next::Whole,
        Some(parent) if links.iter().any(|link| link.task == parent) => Next::Broken(Broken::Circular(parent)),
        // IDs increase. Times are less reliable, since clocks get adjusted.
        Some(parent) if links.last().is_some_and(|child| parent > child.task) => Next::Broken(Broken::Newer(parent)),
        Some(_) if links.len() >= LONGEST => Next::Broken(Broken::TooLong),
        Some(parent) => Next::Ask(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(task: u64, parent: Option<u64>, job: Option<u64>) -> Link {
        let parent = parent.map(TaskId);
        let image = Some("i".into());
        Link {
            task: TaskId(task),
            job: job.map(JobId),
            parent,
            user: None,
            organization: None,
            image,
            created_at: None,
        }
    }

    fn of_image(link: Link, image: Option<&str>) -> Link {
        Link { image: image.map(Into::into), ..link }
    }

    #[test]
    fn the_chain_leads_from_parent_to_parent() {
        let another_image = |image| vec![link(3, Some(2), Some(1)), of_image(link(2, None, Some(1)), image)];
        let long: Vec<Link> = (0..LONGEST as u64).map(|at| link(100 - at, Some(99 - at), Some(1))).collect();
        for (links, expected) in [
            (vec![link(3, None, Some(1))], Next::Whole),
            (vec![link(3, Some(2), Some(1))], Next::Ask(TaskId(2))),
            (vec![link(3, Some(2), Some(1)), link(2, None, Some(1))], Next::Whole),
            (vec![link(3, Some(2), Some(1)), link(2, Some(1), Some(1))], Next::Ask(TaskId(1))),
            (vec![link(3, Some(3), Some(1))], Next::Broken(Broken::Circular(TaskId(3)))),
            (vec![link(3, Some(2), Some(1)), link(2, Some(3), Some(1))], Next::Broken(Broken::Circular(TaskId(3)))),
            (vec![link(3, Some(2), Some(1)), link(4, None, Some(1))], Next::Broken(Broken::AnotherTask(TaskId(2)))),
            (vec![link(3, Some(2), Some(1)), link(2, None, Some(9))], Next::Broken(Broken::AnotherJob(TaskId(2)))),
            (vec![link(3, Some(2), Some(1)), link(2, None, None)], Next::Broken(Broken::AnotherJob(TaskId(2)))),
            // IDs of deleted tasks that the server has reused.
            (vec![link(3, Some(4), Some(1))], Next::Broken(Broken::Newer(TaskId(4)))),
            (vec![link(3, Some(2), Some(1)), link(2, Some(5), Some(1))], Next::Broken(Broken::Newer(TaskId(5)))),
            (another_image(Some("j")), Next::Broken(Broken::AnotherImage(TaskId(2)))),
            (another_image(Some("i ")), Next::Broken(Broken::AnotherImage(TaskId(2)))),
            (another_image(None), Next::Broken(Broken::AnotherImage(TaskId(2)))),
            (long[..LONGEST - 1].to_vec(), Next::Ask(TaskId(100 - LONGEST as u64 + 1))),
            (long, Next::Broken(Broken::TooLong)),
        ] {
            assert_eq!(next(&links), expected, "{links:?}");
        }
    }
}
