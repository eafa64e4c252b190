//! Supervises the essential tasks of a process: watches, ports, the lease's renewal. If one of them ends or panics, the process exits with
//! the task's name, and Kubernetes or systemd restarts it. Otherwise a node could be ready although it no longer sees its runs.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs tasks and reports the first failure. Dropping it aborts the tasks.
#[derive(Debug)]
pub struct Supervisor {
    tasks: Mutex<JoinSet<()>>,
    failed: watch::Sender<Option<String>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { tasks: Mutex::default(), failed: watch::Sender::new(None) }
    }
}

impl Supervisor {
    /// Runs a task that must last as long as the process; if it ends, that is a failure.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.run(name, async move {
            task.await;
            Some(format!("{name} has ended"))
        });
    }

    /// Runs a task that may end; only a panic is a failure.
    pub fn spawn_finite(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.run(name, task.map(|()| None));
    }

    fn run(&self, name: &'static str, task: impl Future<Output = Option<String>> + Send + 'static) {
        let failed = self.failed.clone();
        self.tasks.lock().spawn(async move {
            let failure = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(failure) => failure,
                Err(_) => Some(format!("{name} has panicked")),
            };
            if failure.is_some() {
                // The first failure is the cause.
                failed.send_if_modified(|known| {
                    let first = known.is_none();
                    if first {
                        *known = failure;
                    }
                    first
                });
            }
        });
    }

    /// Waits until a task fails. Returns its name and how it failed.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // Unreachable: this struct holds the sender.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_told_by_its_name() {
        let supervisor = Supervisor::default();
        supervisor.spawn("the watch", std::future::pending());
        supervisor.spawn_finite("the lease", async {});
        tokio::task::yield_now().await;
        assert!(supervisor.failed().now_or_never().is_none());
        supervisor.spawn("the port", async { panic!("a port that panics") });
        assert_eq!(supervisor.failed().await, "the port has panicked");
        supervisor.spawn("another", async {});
        assert_eq!(supervisor.failed().await, "the port has panicked");

        let supervisor = Supervisor::default();
        supervisor.spawn("the watch", async {});
        assert_eq!(supervisor.failed().await, "the watch has ended");
        let supervisor = Supervisor::default();
        supervisor.spawn_finite("the lease", async { panic!("a lease that panics") });
        assert_eq!(supervisor.failed().await, "the lease has panicked");
    }

    #[tokio::test]
    async fn its_tasks_end_with_it() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let supervisor = Supervisor::default();
        supervisor.spawn("a port", async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        drop(supervisor);
        assert!(receiver.await.is_err());
    }
}
