//! Removes what runs have left, in a thread that nobody waits for: algorithms may leave as much as they like, however deep.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use sextant_files::remove_tree::Budget;
use sextant_files::shared_dirs;
use tracing::warn;

use super::private::Dir;

/// How much is done before it looks whether the node still wants it.
const ENTRIES: u64 = 200_000;
const TIME: Duration = Duration::from_secs(30);
/// Between two portions of what takes longer.
const PAUSE: Duration = Duration::from_millis(200);

/// The prefix of the names of folders that runs of a job share.
pub const SHARED: &str = "tmp-";

/// Asks for what was put aside to be removed. The thread ends some time after this is dropped.
#[derive(Debug)]
pub struct Cleanup(SyncSender<()>);

impl Cleanup {
    /// Starts the thread. Folders of jobs are removed when they were not used for `keep`.
    ///
    /// # Errors
    /// If a thread can't be started.
    pub fn start(root: Arc<Dir>, keep: Duration) -> std::io::Result<Self> {
        // One that waits is enough: it sees all that was put aside before.
        let (ask, requests) = sync_channel(1);
        std::thread::Builder::new()
            .name("cleanup".into())
            .stack_size(256 * 1024)
            .spawn(move || run(&root, keep, &requests))?;
        Ok(Self(ask))
    }

    /// Has it look again.
    pub fn request(&self) {
        // Full means that it will.
        let _ = self.0.try_send(());
    }
}

fn run(root: &Dir, keep: Duration, requests: &Receiver<()>) {
    while requests.recv().is_ok() {
        loop {
            let budget = &mut Budget::new(ENTRIES, TIME);
            match shared_dirs::sweep(root.as_fd(), SHARED, keep, SystemTime::now(), budget) {
                Ok(swept) => {
                    swept.warn(root.path());
                    if !swept.emptied.unfinished {
                        break;
                    }
                }
                Err(error) => {
                    warn!("Could not look for folders of earlier runs in {}: {error}", root.path().display());
                    break;
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}
