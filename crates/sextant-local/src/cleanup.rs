//! Removes what runs leave behind in a background thread: algorithms may leave any number of files, at any depth.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use sextant_files::remove_tree::Budget;
use sextant_files::shared_dirs;
use tracing::warn;

use super::private::Dir;

/// How much is removed before the thread checks whether the node still wants it.
const ENTRIES: u64 = 200_000;
const TIME: Duration = Duration::from_secs(30);
/// The pause between two portions of a long removal.
const PAUSE: Duration = Duration::from_millis(200);

/// The prefix of the names of folders that the runs of a job share.
pub const SHARED: &str = "tmp-";

/// Requests removals. The thread ends some time after this is dropped.
#[derive(Debug)]
pub struct Cleanup(SyncSender<()>);

impl Cleanup {
    /// Starts the thread. It removes folders of jobs that were not used for `keep`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(root: Arc<Dir>, keep: Duration) -> std::io::Result<Self> {
        // One waiting request is enough: it covers all that was put aside before.
        let (ask, requests) = sync_channel(1);
        std::thread::Builder::new()
            .name("cleanup".into())
            .stack_size(256 * 1024)
            .spawn(move || run(&root, keep, &requests))?;
        Ok(Self(ask))
    }

    /// Requests another removal.
    pub fn request(&self) {
        // A full channel means that a request is already waiting.
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
