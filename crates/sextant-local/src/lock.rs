//! Ensures that only one process of a node is active, by a locked file in the node's folder. The kernel releases the lock when its process
//! ends for any reason.

use std::fs::TryLockError;
use std::sync::Arc;
use std::time::Duration;

use sextant_core::leadership::{self, Leadership};
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use tokio::time::sleep;
use tracing::info;

use super::private::Dir;

/// How often a process that stands by tries to get the lock.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for the lock of this folder, and keeps it in a task until the leadership is released.
///
/// # Errors
/// The folder can't be locked. The message is for the operator.
pub async fn acquire(
    root: &Dir,
    leadership: Arc<Leadership>,
    health: &Health,
    supervisor: &Supervisor,
) -> Result<(), String> {
    let path = root.path().join("lock");
    let unusable = |error: std::io::Error| {
        format!(
            "{} can't be locked: {error}. Remove it if it is not a file of this node; or set `task_dir` to a folder of this machine that \
             only this user may write to.",
            path.display()
        )
    };
    let file = root.open_lock("lock").map_err(unusable)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                told = true;
                info!(
                    "Another process of this node has locked {}. This one stands by, and takes over when that one \
                     ends. (Two nodes need two API keys.)",
                    path.display()
                );
                health.unready(leadership::PART, "stands by: another process of this node is the leader");
            }
        }
        sleep(LOOK).await;
    }
    if told {
        info!("This process takes over.");
    }
    leadership.extend(Duration::MAX);
    health.ready(leadership::PART);
    supervisor.spawn_finite("the lock", async move {
        leadership.release_requested().await;
        drop(file);
        leadership.mark_released();
    });
    Ok(())
}
